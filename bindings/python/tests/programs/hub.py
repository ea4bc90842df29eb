# SPDX-License-Identifier: Apache-2.0
"""Counts how often another green thread runs while calls wait: hub.py URL TOPIC"""

import sys
import time

import eventlet
eventlet.monkey_patch()

import oslo_messaging  # noqa: E402
from eventlet import tpool  # noqa: E402
from oslo_config import cfg  # noqa: E402

URL, TOPIC = sys.argv[1:3]


class Endpoint:
    def slow(self, ctxt, seconds):
        time.sleep(seconds)
        return seconds


transport = oslo_messaging.get_rpc_transport(cfg.CONF, URL)
server = oslo_messaging.get_rpc_server(
    transport, oslo_messaging.Target(topic=TOPIC, server='s'), [Endpoint()],
    executor='eventlet')
server.start()
client = oslo_messaging.get_rpc_client(
    transport, oslo_messaging.Target(topic=TOPIC), timeout=30)
ticks = 0


def tick():
    global ticks
    while True:
        ticks += 1
        eventlet.sleep(0.005)


eventlet.spawn(tick)
before = ticks
started = time.monotonic()
calls = [eventlet.spawn(client.call, {}, 'slow', seconds=2) for _ in range(8)]
assert [call.wait() for call in calls] == [2] * 8
took = time.monotonic() - started
# One after the other would take 16 s.
assert took < 14, took
assert ticks - before > 20, ticks - before
# From a system thread beside the hub, too.
assert tpool.execute(client.call, {}, 'slow', seconds=0) == 0
server.stop()
server.wait()
transport.cleanup()
print('all is well', flush=True)
