# SPDX-License-Identifier: Apache-2.0
"""Forks with a transport at hand: fork.py URL TOPIC never|connected|serving|calling [eventlet]"""

import os
import sys
import threading

if 'eventlet' in sys.argv:
    import eventlet
    eventlet.monkey_patch()

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

URL, TOPIC, STATE = sys.argv[1:4]
EXECUTOR = 'eventlet' if 'eventlet' in sys.argv else 'threading'


class Endpoint:
    def __init__(self):
        self.hold = threading.Event()

    def who(self, ctxt):
        return os.getpid()

    def wait(self, ctxt):
        self.hold.wait(20)
        return os.getpid()


def serve(transport, topic):
    endpoint = Endpoint()
    server = oslo_messaging.get_rpc_server(
        transport, oslo_messaging.Target(topic=topic, server='s'), [endpoint],
        executor=EXECUTOR)
    server.start()
    return server, endpoint


def ask(transport, topic, method='who'):
    return oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic),
        timeout=20).call({}, method)


def in_child(transport, work):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if 'eventlet' in sys.argv:
                from eventlet import hubs
                hubs.use_hub()
            os.write(write, repr(work()).encode())
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    return pid, read


def finish(pid, read):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    with os.fdopen(read) as pipe:
        return eval(pipe.read())


def main():
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, URL)
    server = endpoint = caller = None
    results = []
    if STATE != 'never':
        server, endpoint = serve(transport, TOPIC)
        assert ask(transport, TOPIC) == os.getpid()
    if STATE == 'calling':
        caller = threading.Thread(target=lambda: results.append(
            ask(transport, TOPIC, 'wait')))
        caller.start()
        if EXECUTOR == 'eventlet':
            eventlet.sleep(0.2)

    def child():
        # The same transport object, and an engine of the child's own.
        own = TOPIC + '-child'
        theirs, _ = serve(transport, own)
        mine = ask(transport, own)
        theirs.stop()
        theirs.wait()
        transport.cleanup()
        return mine

    pid, read = in_child(transport, child)
    if STATE != 'never':
        # The parent goes on while the child runs.
        for _ in range(20):
            assert ask(transport, TOPIC) == os.getpid()
    assert finish(pid, read) == pid
    if STATE == 'never':
        server, endpoint = serve(transport, TOPIC)
        assert ask(transport, TOPIC) == os.getpid()
    if caller is not None:
        endpoint.hold.set()
        caller.join(20)
        assert results == [os.getpid()], results
    if STATE == 'serving':
        # The child has closed everything of its own, and the server of the parent still serves.
        pid, read = in_child(transport, lambda: ask(transport, TOPIC))
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            threading.Event().wait(0.01)
        assert status == 0
        with os.fdopen(read) as pipe:
            assert int(pipe.read()) == os.getpid()
    server.stop()
    server.wait()
    transport.cleanup()
    print('all is well')


main()
