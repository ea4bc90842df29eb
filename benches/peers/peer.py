"""Python's oslo.messaging as a peer of the comparison bench: `peer.py ROLE PART`.

Server, client, listener and the memory bus, each a process of its own that takes orders and gives answers as lines of
JSON; `src/protocol.rs` says which. `once` makes one call and ends. Servers and listeners run on the threading executor, callers are threads.
"""

import json
import logging
import os
import resource
import sys
import threading
import time
import warnings

warnings.simplefilter('ignore')
logging.disable(logging.WARNING)

from oslo_config import cfg  # noqa: E402
import oslo_messaging  # noqa: E402

CONF = cfg.CONF
URL = os.environ['OSLO_TEST_RABBIT_URL']
PORT = int(URL.rstrip('/').rpartition(':')[2])
PART = json.loads(sys.argv[2])
if PART['query']:
    URL += '?' + PART['query']
LIMIT = 120


def say(kind, **answer):
    print(json.dumps({'is': kind, **answer}), flush=True)


def status(field):
    with open('/proc/self/status') as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field))


def connections():
    own = set()
    for fd in os.listdir('/proc/self/fd'):
        try:
            own.add(os.readlink(f'/proc/self/fd/{fd}'))
        except OSError:
            pass
    count = 0
    with open('/proc/self/net/tcp') as table:
        for columns in map(str.split, table):
            if columns[2].endswith(':%04X' % PORT) and columns[3] == '01' and f'socket:[{columns[9]}]' in own:
                count += 1
    return count


def usage(served=0):
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return {'cpu': (spent.ru_utime + spent.ru_stime) * 1e6, 'voluntary': spent.ru_nvcsw,
            'involuntary': spent.ru_nivcsw, 'rss': status('VmRSS:'), 'connections': connections(),
            'threads': status('Threads:'), 'served': served}


def since(before, served=0):
    used = usage(served)
    for key in ('cpu', 'voluntary', 'involuntary'):
        used[key] -= before[key]
    return used


def orders():
    for line in sys.stdin:
        yield json.loads(line)


class Taken:
    def __init__(self):
        self._lock = threading.Lock()
        self.count = 0
        self.first = None

    def one(self):
        with self._lock:
            if self.first is None:
                self.first = time.monotonic()
            self.count += 1

    def reach(self, count, limit):
        deadline = time.monotonic() + limit
        while self.count < count and time.monotonic() < deadline:
            time.sleep(0.005)


class Echo:
    def __init__(self, taken):
        self._taken = taken

    def echo(self, ctxt, value):
        self._taken.one()
        return value

    def note(self, ctxt, value):
        self._taken.one()


class Watch:
    def __init__(self, taken):
        self._taken = taken

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        self._taken.one()


def serve(part):
    transport = oslo_messaging.get_rpc_transport(CONF, url=URL)
    taken = Taken()
    for number in range(part['servers']):
        target = oslo_messaging.Target(topic=part['topic'], server=f's{number}')
        oslo_messaging.get_rpc_server(transport, target, [Echo(taken)], executor='threading').start()
    say('ready')
    for order in orders():
        if order['do'] == 'await':
            taken.reach(order['count'], order['limit'])
        say('usage', **usage(taken.count))


def listen(part):
    transport = oslo_messaging.get_notification_transport(CONF, url=URL)
    taken = Taken()
    say('ready')
    for order in orders():
        if order['do'] == 'usage':
            say('usage', **usage(taken.count))
            continue
        before = usage()
        listener = oslo_messaging.get_notification_listener(
            transport, [oslo_messaging.Target(topic=part['topic'])], [Watch(taken)], executor='threading')
        listener.start()
        taken.reach(order['count'], order['limit'])
        seconds = time.monotonic() - (taken.first or time.monotonic())
        say('done', operations=taken.count, failed=0, seconds=seconds, used=since(before, taken.count))


class Callers:
    """Threads that each send again as soon as their last message is done."""

    def __init__(self, count, messages, operation):
        self._operation = operation
        self._lock = threading.Lock()
        self._left = messages
        # So many messages count from the first, callers without an end from begin().
        self._measuring, self._ending = messages is not None, False
        self._latencies = []
        self._failed = []
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _more(self):
        if self._left is None:
            return True
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _call(self):
        while not self._ending and self._more():
            began = time.monotonic()
            try:
                self._operation()
            except Exception as error:
                self._failed.append(f'{type(error).__name__}: {error}')
                time.sleep(0.01)
                continue
            if self._measuring:
                self._latencies.append(time.monotonic() - began)

    def begin(self):
        self._began = time.monotonic()
        self._measuring = True

    def end(self, all_of_them=False):
        if not all_of_them:
            self._measuring, self._ending = False, True
            seconds = time.monotonic() - self._began
        deadline = time.monotonic() + (LIMIT if all_of_them else 20)
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        if all_of_them:
            seconds = time.monotonic() - self._began
        times = sorted(self._latencies) or [0]
        return {'operations': len(self._latencies), 'failed': len(self._failed),
                'fault': self._failed[0] if self._failed else None, 'seconds': seconds,
                'p50': times[len(times) // 2] * 1e6, 'p99': times[len(times) * 99 // 100] * 1e6}


class Client:
    def __init__(self, topic):
        self._topic = topic
        transport = oslo_messaging.get_rpc_transport(CONF, url=URL)
        self._client = oslo_messaging.get_rpc_client(
            transport, oslo_messaging.Target(topic=topic), timeout=60)
        self._all = self._client.prepare(fanout=True)
        self._notifier = oslo_messaging.Notifier(
            oslo_messaging.get_notification_transport(CONF, url=URL), publisher_id='bench.peers',
            driver='messagingv2', topics=[topic])

    def operation(self, what, count):
        value = 'x' * count
        if what == 'call':
            def call():
                if self._client.call({}, 'echo', value=value) != value:
                    raise ValueError('another answer')
            return call
        if what in ('cast', 'fanout'):
            client = self._client if what == 'cast' else self._all
            return lambda: client.cast({}, 'note', value=value)
        return lambda: self._notifier.info({}, 'bench.event', {'value': value})

    def another(self):
        return Client(self._topic)


def drive(part):
    client, others = Client(part['topic']), []
    say('ready')
    for order in orders():
        kind = order['do']
        if kind == 'load':
            callers = Callers(order['callers'], None, client.operation(order['what'], order['bytes']))
            time.sleep(order['warm'])
            say('began')
            before = usage()
            callers.begin()
            time.sleep(order['seconds'])
            used = since(before)
            say('done', used=used, **callers.end())
        elif kind == 'burst':
            before = usage()
            callers = Callers(order['callers'], order['count'], client.operation(order['what'], order['bytes']))
            callers.begin()
            done = callers.end(all_of_them=True)
            say('done', used=since(before), **done)
        elif kind == 'more':
            for _ in range(order['transports']):
                others.append(client.another())
                callers = Callers(4, 200, others[-1].operation('call', 100))
                callers.begin()
                callers.end(all_of_them=True)
            say('usage', **usage())
        elif kind == 'usage':
            say('usage', **usage())
        else:
            say('failed', why=f'no client does {kind}')


def memory(part):
    transport = oslo_messaging.get_rpc_transport(CONF, url='fake://')
    target = oslo_messaging.Target(topic='bench', server='one')
    oslo_messaging.get_rpc_server(transport, target, [Echo(Taken())], executor='threading').start()
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic='bench'), timeout=60)
    say('ready')
    for order in orders():
        callers = Callers(order['callers'], None, lambda: client.call({}, 'echo', value='x' * 100))
        time.sleep(order['seconds'] / 4)
        before = usage()
        callers.begin()
        time.sleep(order['seconds'])
        used = since(before)
        say('done', used=used, **callers.end())


def once(part):
    transport = oslo_messaging.get_rpc_transport(CONF, url=URL)
    client = oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=part['topic']), timeout=60)
    print(client.call({}, 'echo', value='x' * 100), flush=True)


def main():
    CONF([], project='bench-peers')
    roles = {'server': serve, 'client': drive, 'listener': listen, 'memory': memory, 'once': once}
    roles[sys.argv[1]](PART)
    # Threads of servers and connections would keep the process; nothing is lost with them.
    os._exit(0)


if __name__ == '__main__':
    main()
