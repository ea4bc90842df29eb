# SPDX-License-Identifier: Apache-2.0
"""Calls very often and prints how the memory grew: leak.py URL TOPIC CALLS"""

import gc
import sys
import threading

import oslo_messaging
from oslo_config import cfg

URL, TOPIC, CALLS = sys.argv[1], sys.argv[2], int(sys.argv[3])


class Endpoint:
    def echo(self, ctxt, value):
        return value

    def fail(self, ctxt):
        raise KeyError('no')


def resident():
    gc.collect()
    with open('/proc/self/status') as file:
        return int(next(line for line in file
                        if line.startswith('VmRSS')).split()[1])


import logging  # noqa: E402
logging.disable(logging.CRITICAL)
transport = oslo_messaging.get_rpc_transport(cfg.CONF, URL)
server = oslo_messaging.get_rpc_server(
    transport, oslo_messaging.Target(topic=TOPIC, server='s'), [Endpoint()])
server.start()
client = oslo_messaging.get_rpc_client(
    transport, oslo_messaging.Target(topic=TOPIC), timeout=30)
payload = {'data': 'x' * 500}


def work(count):
    for n in range(count):
        assert client.call({'user': 'me'}, 'echo', value=payload) == payload
        if n % 100 == 0:
            client.cast({}, 'echo', value=n)
            try:
                client.call({}, 'fail')
            except KeyError:
                pass


def run(count):
    threads = [threading.Thread(target=work, args=(count // 8,))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


run(CALLS // 5)
before = resident()
run(CALLS - CALLS // 5)
after = resident()
print(f'{before} {after}', flush=True)
server.stop()
server.wait()
transport.cleanup()
