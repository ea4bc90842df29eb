"""A Python oslo.messaging process that a test drives: RPC servers and clients behind JSON lines.

The test writes one JSON object a line to standard input and reads one a line from standard output. The first line
sets the process up; it carries `transport_url`, `options` (group -> name -> value) and `allowed_remote_exmods`. Every
later line has an `id`, an `op` and its arguments, runs in a thread of its own, and is answered by a line with the same
`id` and one of

* `value`: what the operation gave;
* `raised`: the exception that oslo.messaging raised to the application;
* `fault`: a mistake of the test or of this file, as text.

Answers come in the order in which operations end. The process ends when standard input does.
"""

import collections
import importlib
import json
import math
import os
import sys
import tempfile
import threading
import time
import traceback
import warnings

warnings.simplefilter('ignore')

from oslo_config import cfg  # noqa: E402
import oslo_messaging  # noqa: E402
from oslo_messaging.rpc import dispatcher  # noqa: E402

import peer_errors  # noqa: E402
import peer_matrix  # noqa: E402
import peer_notify  # noqa: E402

# The reference reads its tracing and metrics options from the global object, whatever it is given.
CONF = cfg.CONF


class Journal:
    """What the endpoints of this process received, in order."""

    def __init__(self):
        self._changed = threading.Condition()
        self._entries = []

    def add(self, **entry):
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def read(self, method=None):
        with self._changed:
            return [e for e in self._entries if method in (None, e['method'])]

    def wait(self, method, count, seconds):
        with self._changed:
            self._changed.wait_for(lambda: len(self.read(method)) >= count, seconds)
            return self.read(method)

    def clear(self):
        with self._changed:
            self._entries.clear()


JOURNAL = Journal()


class Endpoint:
    """The methods a test can call; each says what it does by its name."""

    def __init__(self, server, namespace=None, version=None, legacy_namespaces=None):
        self._server = server
        if namespace or version or legacy_namespaces:
            self.target = oslo_messaging.Target(
                namespace=namespace, version=version or '1.0', legacy_namespaces=legacy_namespaces)
        else:
            self.target = oslo_messaging.Target()

    def _note(self, method, ctxt, **args):
        JOURNAL.add(
            method=method, ctxt=ctxt, args=args, args_json=json.dumps(args), server=self._server,
            namespace=self.target.namespace, version=self.target.version, at=time.time())

    def echo(self, ctxt, **kwargs):
        self._note('echo', ctxt, **kwargs)
        return kwargs

    def value(self, ctxt, value=None):
        self._note('value', ctxt, value=value)
        return value

    def context(self, ctxt):
        self._note('context', ctxt)
        return ctxt

    def whoami(self, ctxt):
        self._note('whoami', ctxt)
        return {'server': self._server, 'namespace': self.target.namespace, 'version': self.target.version}

    def add(self, ctxt, a, b=1):
        self._note('add', ctxt, a=a, b=b)
        return a + b

    def note(self, ctxt, **kwargs):
        self._note('note', ctxt, **kwargs)

    def big(self, ctxt, size):
        self._note('big', ctxt, size=size)
        return 'x' * size

    def length(self, ctxt, value):
        self._note('length', ctxt)
        return len(value)

    def slow(self, ctxt, seconds, value=None):
        self._note('slow', ctxt, seconds=seconds, value=value)
        time.sleep(seconds)
        return value

    def unserializable(self, ctxt):
        self._note('unserializable', ctxt)
        return b'\xff\xfe'

    def fail(self, ctxt, module='builtins', name='ValueError', args=(), kwargs=None):
        """Raises any importable exception."""
        self._note('fail', ctxt, module=module, name=name)
        raise getattr(importlib.import_module(module), name)(*args, **(kwargs or {}))

    def raise_value_error(self, ctxt, message='no such value'):
        self._note('raise_value_error', ctxt, message=message)
        raise ValueError(message)

    def raise_key_error(self, ctxt, key='missing'):
        self._note('raise_key_error', ctxt, key=key)
        raise KeyError(key)

    def raise_custom(self, ctxt, instance_id='i-1'):
        self._note('raise_custom', ctxt, instance_id=instance_id)
        raise peer_errors.InstanceNotFound(instance_id=instance_id)

    @oslo_messaging.expected_exceptions(peer_errors.InstanceNotFound, ValueError)
    def raise_expected(self, ctxt, instance_id='i-1'):
        self._note('raise_expected', ctxt, instance_id=instance_id)
        raise peer_errors.InstanceNotFound(instance_id=instance_id)

    def raise_chained(self, ctxt):
        self._note('raise_chained', ctxt)
        try:
            raise KeyError('inner')
        except KeyError as inner:
            raise ValueError('outer') from inner

    def _private(self, ctxt):
        self._note('_private', ctxt)


class Peer(peer_notify.Notifications):
    """All servers and clients of this process."""

    conf = CONF
    journal = JOURNAL

    def __init__(self, setup):
        configure(setup.get('options') or {})
        self._url = setup['transport_url']
        self._exmods = setup.get('allowed_remote_exmods') or []
        self._lock = threading.Lock()
        self._servers = {}
        self._transports = {}

    def transport(self, use):
        with self._lock:
            if use not in self._transports:
                self._transports[use] = oslo_messaging.get_rpc_transport(
                    CONF, url=self._url, allowed_remote_exmods=self._exmods)
            return self._transports[use]

    def serve(self, name, topic, server, exchange=None, endpoints=None, access_policy='default', start=True):
        """Makes the RPC server `name` and starts it; it consumes when this returns."""
        policy = {
            'default': dispatcher.DefaultRPCAccessPolicy,
            'legacy': dispatcher.LegacyRPCAccessPolicy,
            'explicit': dispatcher.ExplicitRPCAccessPolicy,
        }[access_policy]
        rpc_server = oslo_messaging.get_rpc_server(
            self.transport('server'),
            oslo_messaging.Target(topic=topic, server=server, exchange=exchange),
            [Endpoint(server, **endpoint) for endpoint in endpoints or [{}]],
            executor='threading', access_policy=policy)
        with self._lock:
            self._servers[name] = rpc_server
        if start:
            rpc_server.start()

    def serve_matrix(self, topic, policy='default', serializer='none'):
        """Makes and starts a server of the interop matrix."""
        rpc_server = peer_matrix.server(self.transport('server'), topic, policy, serializer)
        with self._lock:
            self._servers[topic] = rpc_server
        rpc_server.start()

    def outcomes(self, requests):
        """Makes calls of the interop matrix, several at once."""
        return peer_matrix.outcomes(self.transport('client'), requests)

    def primitives(self):
        return peer_matrix.primitives()

    def contexts(self, attributes):
        return peer_matrix.contexts(attributes)

    def read_context(self, values):
        return peer_matrix.read_context(values)

    def start(self, name):
        self._servers[name].start()

    def stop(self, name):
        """Stops consuming and waits for the methods that run."""
        self._servers[name].stop()
        self._servers[name].wait()

    def received(self, method=None):
        return JOURNAL.read(method)

    def wait_received(self, count, seconds, method=None):
        """What was received as soon as there are `count`; fewer when the seconds are over."""
        return JOURNAL.wait(method, count, seconds)

    def forget(self):
        JOURNAL.clear()

    def call(self, **request):
        return self._send('call', **request)

    def cast(self, **request):
        return self._send('cast', **request)

    def can_send_version(self, target, version, version_cap=None):
        client = oslo_messaging.get_rpc_client(
            self.transport('client'), oslo_messaging.Target(**target), version_cap=version_cap)
        return client.can_send_version(version)

    def close(self):
        """Stops everything in good order, so that the broker sees closed connections."""
        for name in list(self._servers):
            self.stop(name)
        for transport in self._transports.values():
            transport.cleanup()

    def _send(self, verb, target, method, args=None, args_json=None, ctxt=None, timeout=None,
              call_monitor_timeout=None, retry=None, version_cap=None, at_least_once=False, prepare=None):
        options = oslo_messaging.TransportOptions(at_least_once=True) if at_least_once else None
        client = oslo_messaging.get_rpc_client(
            self.transport('client'), oslo_messaging.Target(**target), timeout=timeout, retry=retry,
            version_cap=version_cap, call_monitor_timeout=call_monitor_timeout, transport_options=options)
        if prepare:
            client = client.prepare(**prepare)
        # Given as text where JSON proper cannot say it: NaN, integers of any length.
        arguments = json.loads(args_json) if args_json is not None else args or {}
        started = time.monotonic()
        try:
            result = getattr(client, verb)(ctxt or {}, method, **arguments)
        except Exception as error:
            raise Raised(describe(error, time.monotonic() - started)) from error
        return {
            'result': result, 'result_json': json.dumps(result), 'elapsed': time.monotonic() - started}


class Raised(Exception):
    """Carries what the application saw raised to the line that tells it."""

    def __init__(self, description):
        super().__init__(description['text'])
        self.description = description


def describe(error, elapsed):
    kind = type(error)
    description = {
        'class': kind.__name__,
        'module': kind.__module__,
        'bases': [base.__module__ + '.' + base.__name__ for base in kind.__mro__[1:]],
        'text': str(error),
        'args': list(error.args),
        'kwargs': getattr(error, 'kwargs', None),
        'elapsed': elapsed,
    }
    for name in ('exc_type', 'value', 'traceback'):
        if hasattr(error, name):
            description[name] = getattr(error, name)
    return description


def configure(options):
    """Sets options by a configuration file, since most are registered later, by the code that reads them."""
    groups = collections.ChainMap(options, {'oslo_concurrency': {'lock_path': tempfile.gettempdir()}})
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as file:
        for group in sorted(groups):
            file.write('[%s]\n' % group)
            for name, value in groups[group].items():
                if isinstance(value, list):
                    value = ','.join(str(item) for item in value)
                file.write('%s = %s\n' % (name, value))
        file.flush()
        CONF([], project='peer', default_config_files=[file.name])


def strict(value, depth=0):
    """`value` as every JSON reader takes it; what only the `*_json` texts carry becomes null or its text.

    That is: NaN and infinities, integers beyond 64 bits, halves of surrogate pairs, nesting over a hundred deep.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
    if isinstance(value, int) and -2 ** 63 <= value < 2 ** 64:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict) and depth < 100:
        return {strict(str(key)): strict(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and depth < 100:
        return [strict(item, depth + 1) for item in value]
    return repr(value)


class Lines:
    """The two streams; many threads answer."""

    def __init__(self):
        # Whatever a library prints must not mix with the answers.
        self._output = os.fdopen(os.dup(sys.stdout.fileno()), 'w', encoding='utf-8')
        sys.stdout = sys.stderr
        self._lock = threading.Lock()

    def read(self):
        for line in iter(sys.stdin.buffer.readline, b''):
            yield json.loads(line)

    def write(self, answer):
        text = json.dumps(strict(answer))
        with self._lock:
            self._output.write(text + '\n')
            self._output.flush()


OPERATIONS = frozenset((
    'serve', 'start', 'stop', 'received', 'wait_received', 'forget', 'call', 'cast', 'can_send_version', 'close',
    'serve_matrix', 'outcomes', 'primitives', 'contexts', 'read_context')) | peer_notify.OPERATIONS


def perform(peer, lines, request):
    number, op = request.pop('id'), request.pop('op')
    try:
        if op not in OPERATIONS:
            raise LookupError('no operation %s' % op)
        answer = {'value': getattr(peer, op)(**request)}
    except Raised as raised:
        answer = {'raised': raised.description}
    except Exception:
        answer = {'fault': traceback.format_exc()}
    lines.write({'id': number, **answer})


def main():
    lines = Lines()
    requests = lines.read()
    peer = Peer(next(requests))
    lines.write({'id': 0, 'value': 'ready'})
    for request in requests:
        threading.Thread(target=perform, args=(peer, lines, request), daemon=True).start()
    # Threads of the library may still wait for a broker; nobody is left to hear of it.
    os._exit(0)


if __name__ == '__main__':
    main()
