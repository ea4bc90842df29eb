#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Runs a real service on the driver: cinder-scheduler on SQLite, with its own configuration file and nothing changed.

    service.py [--url rabbit://guest:guest@localhost/] [--scheme rust+rabbit]

The service starts, answers calls of a client on the reference's driver, is reached by a cast to all, and stops when it is
told to.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time

CONFIGURATION = '''
[DEFAULT]
transport_url = {url}
state_path = {folder}
host = node1
debug = true
[database]
connection = sqlite:///{folder}/cinder.sqlite
[oslo_concurrency]
lock_path = {folder}
'''
CONTEXT = {'user_id': 'u', 'project_id': 'p', 'is_admin': True, 'roles': [],
           'read_deleted': 'no', 'request_id': 'req-1',
           'timestamp': '2026-01-01T00:00:00.000000'}
#: What the service logs of the cast to all.
FANOUT_SEEN = 'Received volume service update from'
START_LIMIT = 120
STOP_LIMIT = 60


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--url', default=os.environ.get(
        'OSLO_TEST_RABBIT_URL', 'rabbit://guest:guest@localhost:5672/'))
    parser.add_argument('--scheme', default='rust+rabbit')
    args = parser.parse_args()
    programs = os.path.dirname(sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'cinder.conf')
        with open(path, 'w') as file:
            file.write(CONFIGURATION.format(
                url=args.url.replace('rabbit', args.scheme, 1),
                folder=folder))
        subprocess.run([f'{programs}/cinder-manage', '--config-file', path,
                        'db', 'sync'], check=True, capture_output=True)
        with open(os.path.join(folder, 'log'), 'w+') as log:
            service = subprocess.Popen(
                [f'{programs}/cinder-scheduler', '--config-file', path],
                stdout=log, stderr=log)
            try:
                use(args.url, service)
                service.send_signal(signal.SIGTERM)
                began = time.monotonic()
                code = service.wait(STOP_LIMIT)
                took = time.monotonic() - began
                print(f'stopped with {code} after {took:.1f} s')
                assert code == 0
            finally:
                service.kill()
                log.seek(0)
                text = log.read()
            if args.scheme != 'rabbit':
                assert 'oslo_messaging_rust' in text, text
            assert FANOUT_SEEN in text, text
            assert 'panicked' not in text, text
    print('what was cast to all servers has arrived')


def use(url, service):
    import oslo_messaging
    from oslo_config import cfg
    cfg.CONF(args=[])
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url)
    client = oslo_messaging.get_rpc_client(
        transport,
        oslo_messaging.Target(topic='cinder-scheduler', version='3.0'),
        timeout=10)
    deadline = time.monotonic() + START_LIMIT
    while True:
        assert service.poll() is None, 'the service has ended'
        try:
            pools = client.call(CONTEXT, 'get_pools', filters=None)
            break
        except oslo_messaging.MessagingTimeout:
            assert time.monotonic() < deadline, 'the service does not answer'
    assert pools == [], pools
    for _ in range(20):
        client.call(CONTEXT, 'get_pools', filters=None)
    try:
        client.call(CONTEXT, 'no_such_method')
        raise AssertionError('a method that is not there was called')
    except oslo_messaging.RemoteError as error:
        assert error.exc_type == 'NoSuchMethod', error
    client.prepare(fanout=True).cast(
        CONTEXT, 'update_service_capabilities', service_name='volume',
        host='node2@lvm', capabilities={
            'timestamp': '2026-01-01T00:00:00.000000', 'pools': []})
    client.call(CONTEXT, 'get_pools', filters=None)
    transport.cleanup()
    threads = len(os.listdir(f'/proc/{service.pid}/task'))
    print(f'22 calls answered by cinder-scheduler, which has {threads} threads')


if __name__ == '__main__':
    sys.exit(main())
