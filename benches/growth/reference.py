"""One side of a measurement on Python's oslo.messaging: takes the orders that the program's own workers take.

An order a line on standard input, an answer a line on standard output; the process ends when its input does. Only what
agents do is here: Connect, Serve, Load (calls and fanouts, at a rate or as fast as they can), Await, Rest, Report.
"""

import concurrent.futures
import itertools
import json
import os
import random
import resource
import string
import sys
import threading
import time
import warnings

warnings.simplefilter('ignore')

from oslo_config import cfg  # noqa: E402
import oslo_messaging  # noqa: E402

TIMEOUT = 120
SERVERS = 64


class Echo:
    target = oslo_messaging.Target(version='1.0')

    def __init__(self, worker):
        self._worker = worker

    def echo(self, ctxt, content):
        with self._worker.lock:
            self._worker.served += 1
        return content


class Worker:
    def __init__(self):
        self.lock = threading.Lock()
        self.served = 0
        self._transports = []
        self._servers = []
        self._clients = {}

    def carry_out(self, order):
        if isinstance(order, str):
            if order != 'Report':
                raise ValueError('%s is not for this worker' % order)
            return
        (name, arguments), = order.items()
        known = {
            'Connect': self._connect, 'Serve': self._serve, 'Load': self._load, 'Await': self._await, 'Rest': self._rest}
        known[name](**arguments)

    def _connect(self, url, transports):
        for _ in range(transports):
            self._transports.append(oslo_messaging.get_rpc_transport(cfg.CONF, url=url))

    def _serve(self, topic, servers):
        for number, transport in zip(range(servers), itertools.cycle(self._transports)):
            target = oslo_messaging.Target(topic=topic, server='server-%d' % (len(self._servers) + number))
            server = oslo_messaging.get_rpc_server(transport, target, [Echo(self)], executor='threading')
            server.start()
            self._servers.append(server)

    def _load(self, topic, verb, callers, operations, size, rate):
        if verb not in ('Call', 'Fanout'):
            raise ValueError('only calls and fanouts are for this worker')
        clients = [
            oslo_messaging.get_rpc_client(transport, oslo_messaging.Target(topic=topic), timeout=TIMEOUT)
            for transport in self._transports]
        content = ''.join(random.choices(string.ascii_lowercase, k=size))
        numbers = iter(range(operations))
        began = time.monotonic()

        def call():
            while True:
                with self.lock:
                    number = next(numbers, None)
                if number is None:
                    return
                if rate:
                    time.sleep(max(0, began + number / rate - time.monotonic()))
                client = clients[number % len(clients)]
                if verb == 'Fanout':
                    client.prepare(fanout=True).cast({}, 'echo', content=content)
                else:
                    client.call({}, 'echo', content=content)

        with concurrent.futures.ThreadPoolExecutor(callers) as pool:
            for ended in [pool.submit(call) for _ in range(callers)]:
                ended.result()

    def _await(self, served):
        while self.served < served:
            time.sleep(0.005)

    def _rest(self, milliseconds):
        time.sleep(milliseconds / 1000)


def status(name):
    with open('/proc/self/status') as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main():
    # The reference reads its tracing options from the global object, whatever it is given.
    cfg.CONF([], project='growth')
    worker = Worker()
    for line in sys.stdin:
        began = time.monotonic()
        error = None
        try:
            worker.carry_out(json.loads(line))
        except Exception as fault:
            error = '%s: %s' % (type(fault).__name__, fault)
        usage = {
            'cpu_ns': time.process_time_ns(), 'rss_kib': status('VmRSS:'), 'wakeups': status('voluntary_ctxt_switches:'),
            'faults': resource.getrusage(resource.RUSAGE_SELF).ru_minflt}
        told = {
            'usage': usage, 'served': worker.served, 'seconds': time.monotonic() - began, 'error': error}
        print(json.dumps(told), flush=True)
    # Servers of many transports take long to stop, and nothing of them is needed any more.
    os._exit(0)


if __name__ == '__main__':
    main()
