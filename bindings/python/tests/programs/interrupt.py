# SPDX-License-Identifier: Apache-2.0
"""Interrupts itself while it waits for a call: interrupt.py URL TOPIC [eventlet]"""

import os
import signal
import subprocess
import sys
import time

if 'eventlet' in sys.argv:
    import eventlet
    eventlet.monkey_patch()

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

URL, TOPIC = sys.argv[1:3]
transport = oslo_messaging.get_rpc_transport(cfg.CONF, URL)
client = oslo_messaging.get_rpc_client(
    transport, oslo_messaging.Target(topic=TOPIC), timeout=60)
client.cast({}, 'warm up')
signal.signal(signal.SIGINT, signal.default_int_handler)
subprocess.Popen(['sh', '-c', f'sleep 1; kill -INT {os.getpid()}'])
started = time.monotonic()
try:
    client.call({}, 'nobody listens')
except KeyboardInterrupt:
    assert time.monotonic() - started < 30
    deadline = time.monotonic() + 20
    while transport._driver._engine.health()['calls_in_flight']:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    transport.cleanup()
    print('all is well', flush=True)
