# SPDX-License-Identifier: Apache-2.0
"""A service with workers, as OpenStack's are: workers.py URL TOPIC eventlet|threading

The transport is made in the parent and used there; oslo.service forks the workers, each serves. Then it is told to end.
"""

import os
import signal
import sys

URL, TOPIC, BACKEND = sys.argv[1:4]
if BACKEND == 'eventlet':
    import eventlet
    eventlet.monkey_patch()

from oslo_service import backend  # noqa: E402
from oslo_service.backend import BackendType  # noqa: E402

backend.init_backend(BackendType.EVENTLET if BACKEND == 'eventlet'
                     else BackendType.THREADING)

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_service import service  # noqa: E402

CONF = cfg.CONF
# Each worker writes a byte when it serves: before that nothing takes a call, and the broker drops it.
SERVING = os.pipe()


class Endpoint:
    def who(self, ctxt):
        return os.getpid()


class Worker(service.Service):
    def __init__(self, transport):
        super().__init__()
        self.transport = transport
        self.server = None

    def start(self):
        super().start()
        self.server = oslo_messaging.get_rpc_server(
            self.transport,
            oslo_messaging.Target(topic=TOPIC, server=f'w{os.getpid()}'),
            [Endpoint()], executor=BACKEND)
        self.server.start()
        os.write(SERVING[1], b'.')

    def stop(self, graceful=False):
        if self.server is not None:
            self.server.stop()
            self.server.wait()
        super().stop(graceful)


def ask_until_all_answer(parent):
    """In a process of its own: asks until two workers have answered, then ends the service."""
    pid = os.fork()
    if pid:
        return
    code = 1
    try:
        if BACKEND == 'eventlet':
            from eventlet import hubs
            hubs.use_hub()
        os.close(SERVING[1])
        for _ in range(2):
            assert os.read(SERVING[0], 1)
        transport = oslo_messaging.get_rpc_transport(CONF, URL)
        client = oslo_messaging.get_rpc_client(
            transport, oslo_messaging.Target(topic=TOPIC), timeout=30)
        seen = set()
        while len(seen) < 2:
            seen.add(client.call({}, 'who'))
        assert parent not in seen
        print('workers answered', flush=True)
        code = 0
    finally:
        os.kill(parent, signal.SIGTERM)
        os._exit(code)


def main():
    CONF(args=[])
    transport = oslo_messaging.get_rpc_transport(CONF, URL)
    # The parent uses the engine before it forks.
    oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=TOPIC + '-parent')).cast(
            {}, 'nothing')
    ask_until_all_answer(os.getpid())
    launcher = service.launch(CONF, Worker(transport), workers=2,
                              restart_method='mutate')
    launcher.wait()
    print('all is well', flush=True)


main()
