#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Runs the reference's own tests on a driver of this project, and on the reference's driver beside it.

    run.py functional [--url rabbit://guest:guest@localhost/] [PATTERN...]
    run.py unit [PATTERN...]

``functional`` runs oslo_messaging.tests.functional twice, on ``rabbit://`` and on ``rust+rabbit://``, each in a process
of its own, and compares: what passes there has to pass here. ``unit`` runs the tests of the reference that a driver can
be put under, with ``fake://`` and ``kombu+memory://`` replaced by ``rust+fake://`` and ``rust+memory://``. Those that then
fail are run once more, with ``fake://`` replaced by the reference's own ``rabbit://`` on the broker: what fails there as well
asks for something that only ``fake`` does, and is told with the reason. Exits with 1 if any other test that passes on the
reference's driver does not on ours. What does not pass there at first is run once more, since some tests give a call ten
milliseconds, which is all the time it has with our driver and may be over on a busy machine before a request is out.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import types
import unittest
import uuid

#: Runs in both modes: it reaches into the connections of the reference's driver and breaks nodes of a cluster of its own.
LEFT_OUT_FUNCTIONAL = ('test_rabbitmq',)
# The rabbit driver's first: others leave a mock behind where drivers are loaded.
UNIT_MODULES = ('oslo_messaging.tests.drivers.test_impl_rabbit',
                'oslo_messaging.tests.rpc', 'oslo_messaging.tests.notify',
                'oslo_messaging.tests.test_transport',
                'oslo_messaging.tests.test_expected_exceptions',
                'oslo_messaging.tests.test_exception_serialization')
#: Of the tests of the reference's driver those that see no more of it than its interface; the others reach into kombu, into
#: its connections, or replace parts of the driver itself.
OF_A_DRIVER = ('TestSendReceive',)
_AN_OBJECT = ('compares the context an endpoint gets with the very object that was sent; '
              'from a wire comes the dictionary that the object was made into')
_BARE_TEXT = ('wants the text of a remote exception without its traceback, which the reference '
              'adds to every one that came over a wire')
#: What only ``fake`` does, and no driver with a wire, the reference's rabbit driver included: parts of names, and reasons.
OF_FAKE = {
    'TestNotifyListener.test_': _AN_OBJECT,
    'TestRPCServer.test_failure': _BARE_TEXT,
    'TestRPCServer.test_expected_failure': _BARE_TEXT,
    '(diff_exchange,same_topic,diff_server,fanout,cast,':
        'wants a fanout to stay within an exchange; on RabbitMQ that of a topic is named after the topic alone',
}
#: What stands for the reference's drivers without a broker.
IN_MEMORY = {'fake': 'rust+fake', 'kombu+memory': 'rust+memory'}
OUTCOMES = ('passed', 'failed', 'skipped')
#: Seconds a test may take.
TEST_LIMIT = 180


class AnswersToRabbit(str):
    """A URL that two tests do not take for a stranger's: they run only if it begins with ``rabbit://``."""

    def startswith(self, prefix, *args):
        if prefix == 'rabbit://':
            return super().startswith(('rabbit://', 'rust+rabbit://'))
        return super().startswith(prefix, *args)


class Recorder(unittest.TextTestResult):
    """Keeps the outcome of each test by its name."""

    #: A name for the test that runs.
    current = ''

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.outcomes = {}
        self._began = 0.0

    def startTest(self, test):
        type(self).current = uuid.uuid4().hex
        self._began = time.monotonic()
        super().startTest(test)

    def _note(self, test, outcome, why=''):
        took = time.monotonic() - self._began
        self.outcomes[test.id()] = (outcome, round(took, 2), why)

    def addSuccess(self, test, details=None):
        super().addSuccess(test)
        self._note(test, 'passed')

    def addFailure(self, test, err=None, details=None):
        self._bad(test, err, details)

    def addError(self, test, err=None, details=None):
        self._bad(test, err, details)

    def _bad(self, test, err, details):
        text = details['traceback'].as_text() if details and (
            'traceback' in details) else self._exc_info_to_string(err, test)
        self.failures.append((test, text))
        self.stream.write('\n' + text + '\n')
        self._note(test, 'failed', text[-2000:])

    def addSkip(self, test, reason=None, details=None):
        reason = reason or details['reason'].as_text()
        super().addSkip(test, reason)
        self._note(test, 'skipped', reason)


def tests_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def select(names, patterns, left_out=()):
    loader = unittest.TestLoader()
    chosen = unittest.TestSuite()
    for name in names:
        module = __import__(name, fromlist=['x'])
        if hasattr(module, '__path__'):
            top = os.path.dirname(os.path.dirname(
                __import__('oslo_messaging').__file__))
            suite = loader.discover(module.__path__[0], top_level_dir=top)
        else:
            suite = loader.loadTestsFromModule(module)
        for test in tests_of(suite):
            if any(part in test.id() for part in left_out):
                continue
            if 'test_impl_rabbit' in test.id() and not any(
                    part in test.id() for part in OF_A_DRIVER):
                continue
            if patterns and not any(part in test.id() for part in patterns):
                continue
            chosen.addTest(bounded(test))
    return chosen


def bounded(test):
    """Lets a test that waits for ever fail."""
    import eventlet
    original = test.run

    def run(result=None):
        late = AssertionError(f'not over after {TEST_LIMIT} s')
        with eventlet.Timeout(TEST_LIMIT, late):
            return original(result)

    test.run = run
    return test


def run(suite, out):
    runner = unittest.TextTestRunner(resultclass=Recorder, verbosity=2)
    result = runner.run(suite)
    with open(out, 'w') as file:
        json.dump(result.outcomes, file, indent=1)


def functional(patterns, out):
    import oslo_messaging.tests  # noqa: F401  (patches, as under stestr)
    from oslo_messaging.tests.functional import utils

    original = utils.SkipIfNoTransportURL.setUp

    def set_up(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.rpc_url = AnswersToRabbit(self.rpc_url)
        self.notify_url = AnswersToRabbit(self.notify_url)

    utils.SkipIfNoTransportURL.setUp = set_up
    run(select(['oslo_messaging.tests.functional'], patterns,
               LEFT_OUT_FUNCTIONAL), out)


class Apart:
    """A driver whose names are those of one test, since the queues of a broker outlive it."""

    def __init__(self, driver, prefix):
        self._driver = driver
        self._prefix = prefix

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def _named(self, target):
        exchange = target.exchange or self._driver._default_exchange
        return target(exchange=self._prefix + exchange,
                      topic=self._prefix + target.topic)

    def send(self, target, *args, **kwargs):
        return self._driver.send(self._named(target), *args, **kwargs)

    def send_notification(self, target, *args, **kwargs):
        self._driver.send_notification(self._named(target), *args, **kwargs)

    def listen(self, target, *args):
        return self._driver.listen(self._named(target), *args)

    def listen_for_notifications(self, sources, pool, *args):
        sources = {(self._named(target), priority)
                   for target, priority in sources}
        return self._driver.listen_for_notifications(
            sources, pool and self._prefix + pool, *args)


def unit(patterns, out, stand_ins, apart=False):
    """Runs them with some URLs replaced, by the name of their driver."""
    import oslo_messaging.tests  # noqa: F401
    from oslo_messaging import transport

    original = transport.driver.DriverManager

    def manager(namespace, name, *args, **kwargs):
        url = kwargs['invoke_args'][1] if 'invoke_args' in kwargs else None
        stands_for = stand_ins.get(getattr(url, 'transport', None))
        if stands_for is None:
            return original(namespace, name, *args, **kwargs)
        conf = kwargs['invoke_args'][0]
        if '://' in stands_for:
            url = transport.TransportURL.parse(conf, stands_for)
        else:
            url = copy.copy(url)
            url.transport = stands_for
        kwargs['invoke_args'] = [conf, url]
        made = original(namespace, url.transport.partition('+')[0], *args,
                        **kwargs)
        if not apart:
            return made
        return types.SimpleNamespace(
            driver=Apart(made.driver, Recorder.current + '-'))

    if stand_ins:
        transport.driver.DriverManager = manager
    run(select(UNIT_MODULES, patterns), out)


def child(mode, patterns, environment):
    # One test starts a program of oslo.metrics by the name of the interpreter.
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH']
    environment = {'PATH': path, **environment}
    with tempfile.NamedTemporaryFile(suffix='.json') as out:
        subprocess.run([sys.executable, __file__, mode, '--out', out.name,
                        *patterns],
                       env={**os.environ, **environment}, check=True)
        with open(out.name) as file:
            return json.load(file)


def compare(theirs, ours):
    """Tells what passes here and there; gives what passes there only."""
    for title, outcomes in (('reference', theirs), ('ours', ours)):
        counts = {kind: sum(outcome == kind for outcome, *_ in
                            outcomes.values()) for kind in OUTCOMES}
        seconds = sum(took for _, took, _ in outcomes.values())
        print(f'{title}: {counts}, {seconds:.0f} s')
    return sorted(name for name, (outcome, *_) in theirs.items()
                  if outcome == 'passed'
                  and ours.get(name, ['missing'])[0] != 'passed')


def both(patterns, run_theirs, run_ours):
    """Runs both sides; gives what passes on the reference only."""
    theirs, ours = run_theirs(patterns), run_ours(patterns)
    worse = compare(theirs, ours)
    if not worse:
        return []
    again = run_ours(worse)
    for name in worse:
        if again.get(name, ['missing'])[0] == 'passed':
            print(f'passed when it was run again: {name}\n'
                  f'    at first: {ours.get(name)}')
    return [name for name in worse if again.get(name, ['missing'])[0]
            != 'passed']


def explain(names, on_a_wire):
    """Tells why tests fail; gives those that no reason is known for, or that the reference passes on a wire."""
    unexplained = []
    for name in names:
        why = next((why for part, why in OF_FAKE.items() if part in name), '')
        outcome = on_a_wire.get(name, ['missing'])[0]
        if why and outcome == 'failed':
            print(f'only on fake, not on rabbit:// of the reference: {name}\n'
                  f'    {why}')
        else:
            print(f'passes on the reference only ({outcome} on its '
                  f'rabbit://): {name}')
            unexplained.append(name)
    return unexplained


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('mode', choices=['functional', 'unit',
                                         'functional-one', 'unit-ours',
                                         'unit-theirs', 'unit-wire'])
    parser.add_argument('--url', default=os.environ.get(
        'OSLO_TEST_RABBIT_URL', 'rabbit://guest:guest@localhost:5672/'))
    parser.add_argument('--out')
    parser.add_argument('patterns', nargs='*')
    args = parser.parse_intermixed_args()
    if args.mode == 'functional-one':
        return functional(args.patterns, args.out)
    if args.mode == 'unit-wire':
        return unit(args.patterns, args.out, {'fake': args.url}, apart=True)
    if args.mode != args.mode.partition('-')[0]:
        return unit(args.patterns, args.out,
                    IN_MEMORY if args.mode == 'unit-ours' else {})
    if args.mode == 'functional':
        def side(url):
            urls = {'RPC_TRANSPORT_URL': url, 'NOTIFY_TRANSPORT_URL': url}
            return lambda names: child('functional-one', names, urls)

        worse = both(args.patterns, side(args.url), side('rust+' + args.url))
        for name in worse:
            print('passes on the reference only:', name)
        return bool(worse)
    worse = both(args.patterns, lambda names: child('unit-theirs', names, {}),
                 lambda names: child('unit-ours', names, {}))
    on_a_wire = child('unit-wire', ['--url', args.url, *worse],
                      {}) if worse else {}
    return bool(explain(worse, on_a_wire))


if __name__ == '__main__':
    sys.exit(int(main() or 0))
