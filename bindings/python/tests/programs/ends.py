# SPDX-License-Identifier: Apache-2.0
"""Ends without cleaning up: ends.py URL TOPIC idle|served|called|calling|casting|listening|error [eventlet]"""

import sys
import threading
import time

if 'eventlet' in sys.argv:
    import eventlet
    eventlet.monkey_patch()

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

URL, TOPIC, STATE = sys.argv[1:4]
EXECUTOR = 'eventlet' if 'eventlet' in sys.argv else 'threading'


class Endpoint:
    def echo(self, ctxt, value):
        return value


def background(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    time.sleep(0.3)


def main():
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, URL)
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=TOPIC), timeout=600)
    server = None
    if STATE in ('served', 'called', 'listening'):
        server = oslo_messaging.get_rpc_server(
            transport, oslo_messaging.Target(topic=TOPIC, server='s'),
            [Endpoint()], executor=EXECUTOR)
        server.start()
    if STATE == 'called':
        for n in range(10):
            assert client.call({}, 'echo', value=n) == n
    if STATE == 'served':
        server.stop()
    if STATE == 'calling':
        background(lambda: client.prepare(topic='nobody').call({}, 'x'))
    if STATE == 'casting':
        # A flood that is under way when the interpreter ends.
        def flood():
            while True:
                client.cast({}, 'echo', value=1)
        for _ in range(4):
            background(flood)
    print('all is well', flush=True)
    if STATE == 'error':
        raise RuntimeError('on purpose')


main()
