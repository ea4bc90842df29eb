"""The traffic of the fault suite on Python's oslo.messaging: one server or the client, as a process of its own.

    load.py serve URL SERVER JOURNAL
    load.py load URL JOURNAL CALLS CASTS FANOUTS TIMEOUT     (rates a second; seconds)

It prints `ready`, and ends in good order when its standard input ends. What happened goes to the journal, a line an
event, in the form that the suite's own processes write: `call ID START END OUTCOME`, `run ID AT`, and so on; times are
microseconds since 1970. Options of the driver come with the URL.
"""

import concurrent.futures
import logging
import os
import re
import sys
import threading
import time
import warnings

warnings.simplefilter('ignore')

from oslo_config import cfg  # noqa: E402
import oslo_messaging  # noqa: E402
from oslo_messaging._drivers import impl_rabbit  # noqa: E402

CONF = cfg.CONF
TOPIC = 'faults'
WORK = 0.02
CASTS = 1000000000
AT_ONCE = 2048
GRACE = 5
TEXTS = 3
START_LIMIT = 60
ID = re.compile(r'\\"id\\": (\d+)')


def now():
    return int(time.time() * 1e6)


class Journal:
    """Every line is one write, so that a kill loses none."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def line(self, *words):
        os.write(self._file, (' '.join(str(word) for word in words) + '\n').encode())

    def count_threads(self):
        while True:
            self.line('tasks', threading.active_count(), now())
            time.sleep(1)


class Worker:
    target = oslo_messaging.Target(version='1.0')

    def __init__(self, journal):
        self._journal = journal

    def work(self, ctxt, id):
        self._journal.line('run', id, now())
        time.sleep(WORK)
        return id

    def note(self, ctxt, id):
        self._journal.line('took', id, now())

    def hear(self, ctxt, number):
        self._journal.line('heard', number, now())


def note_redeliveries(journal):
    """Methods do not see the broker's flag, so it is noted where the driver takes a message."""
    original = impl_rabbit.RabbitMessage.__init__

    def init(self, raw_message):
        if raw_message.delivery_info.get('redelivered'):
            body = raw_message.body
            found = ID.search(body if isinstance(body, str) else bytes(body).decode('utf-8', 'replace'))
            if found:
                journal.line('again', found.group(1), now())
        original(self, raw_message)

    impl_rabbit.RabbitMessage.__init__ = init


def serve(url, name, path):
    journal = Journal(path)
    note_redeliveries(journal)
    transport = oslo_messaging.get_rpc_transport(CONF, url=url)
    server = oslo_messaging.get_rpc_server(
        transport, oslo_messaging.Target(topic=TOPIC, server=name), [Worker(journal)], executor='threading')
    server.start()
    threading.Thread(target=journal.count_threads, daemon=True).start()
    print('ready', flush=True)
    sys.stdin.buffer.read()
    # Stopping may wait for a broker that is away; whoever ended our input kills us when it takes too long.
    server.stop()
    server.wait()
    os._exit(0)


class Traffic:
    """Operations at steady rates, whatever becomes of those before."""

    def __init__(self, url, journal, timeout):
        self._journal = journal
        self._timeout = timeout
        self._transport = oslo_messaging.get_rpc_transport(CONF, url=url)
        self._client = oslo_messaging.get_rpc_client(
            self._transport, oslo_messaging.Target(topic=TOPIC), timeout=timeout)
        self._pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
        self._lock = threading.Lock()
        self._open = {}
        self._texts = {}
        self._ended = threading.Event()

    def first(self):
        self._client.prepare(timeout=START_LIMIT).call({}, 'work', id=CASTS - 1)

    def pace(self, verb, first, rate):
        if rate <= 0:
            return
        due, number = time.monotonic(), first
        while not self._ended.wait(max(0, due - time.monotonic())):
            self._pool.submit(self._send, verb, number)
            due, number = due + 1 / rate, number + 1

    def _send(self, verb, number):
        started = now()
        with self._lock:
            self._open[verb, number] = started
        outcome = 'ok'
        try:
            if verb == 'call':
                self._client.call({}, 'work', id=number)
            elif verb == 'cast':
                self._client.cast({}, 'note', id=number)
            else:
                self._client.prepare(fanout=True).cast({}, 'hear', number=number)
        except Exception as error:
            outcome = self._explain(error)
        self._journal.line(verb, number, started, now(), outcome)
        with self._lock:
            del self._open[verb, number]

    def _explain(self, error):
        kind = type(error).__name__
        with self._lock:
            self._texts[kind] = self._texts.get(kind, 0) + 1
            told = self._texts[kind]
        if told <= TEXTS:
            self._journal.line('error', kind, ' '.join(str(error).split()))
        return kind

    def end(self):
        """Waits for what is under way; the rest is told as hung."""
        self._ended.set()
        deadline = time.monotonic() + self._timeout + GRACE
        while time.monotonic() < deadline:
            with self._lock:
                if not self._open:
                    return
            time.sleep(0.05)
        with self._lock:
            for (verb, number), started in self._open.items():
                self._journal.line(verb, number, started, now(), 'Hung')


def load(url, path, calls, casts, fanouts, timeout):
    journal = Journal(path)
    traffic = Traffic(url, journal, float(timeout))
    traffic.first()
    print('ready', flush=True)
    for verb, first, rate in (('call', 1, calls), ('cast', CASTS, casts), ('fanout', 1, fanouts)):
        threading.Thread(target=traffic.pace, args=(verb, first, float(rate)), daemon=True).start()
    threading.Thread(target=journal.count_threads, daemon=True).start()
    sys.stdin.buffer.read()
    traffic.end()
    # Casts may wait for a broker without end.
    os._exit(0)


def main():
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(levelname)s %(name)s %(message)s')
    logging.getLogger('amqp').setLevel(logging.WARNING)
    CONF([], project='load')
    {'serve': serve, 'load': load}[sys.argv[1]](*sys.argv[2:])


if __name__ == '__main__':
    main()
