# SPDX-License-Identifier: Apache-2.0
"""Notifies and listens over Kafka before and after a fork, then ends without cleaning up: kafka.py URL TOPIC [eventlet]"""

import os
import queue
import sys
import time

if 'eventlet' in sys.argv:
    import eventlet
    eventlet.monkey_patch()

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

URL, TOPIC = sys.argv[1:3]
EXECUTOR = 'eventlet' if 'eventlet' in sys.argv else 'threading'


class Endpoint:
    def __init__(self):
        self.seen = queue.Queue()

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        self.seen.put(payload)


def main():
    cfg.CONF(args=[])
    transport = oslo_messaging.get_notification_transport(cfg.CONF, URL)
    notifier = oslo_messaging.Notifier(
        transport, 'me', driver='messagingv2', topics=[TOPIC], retry=3)
    ticks = []
    if EXECUTOR == 'eventlet':
        def tick():
            while True:
                ticks.append(time.monotonic())
                eventlet.sleep(0.01)
        eventlet.spawn(tick)
    endpoint = Endpoint()
    listener = oslo_messaging.get_notification_listener(
        transport, [oslo_messaging.Target(topic=TOPIC)], [endpoint],
        executor=EXECUTOR, pool=TOPIC)
    began = time.monotonic()
    listener.start()
    # To be let into a group takes seconds, in which the hub goes on.
    if EXECUTOR == 'eventlet':
        assert len(ticks) > 20 * (time.monotonic() - began), len(ticks)
    notifier.info({}, 'event', 'before')
    assert endpoint.seen.get(timeout=60) == 'before'
    pid = os.fork()
    if pid == 0:
        # The same objects, and an engine of the child's own; it ends as a program does.
        if EXECUTOR == 'eventlet':
            from eventlet import hubs
            hubs.use_hub()
        notifier.info({}, 'event', 'child')
        return
    assert endpoint.seen.get(timeout=60) == 'child'
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    notifier.info({}, 'event', 'after')
    assert endpoint.seen.get(timeout=60) == 'after'
    print('all is well', flush=True)


main()
