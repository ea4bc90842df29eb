#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""One unchanged Python service and its client on both drivers, side by side.

    side_by_side.py [--url rabbit://guest:guest@localhost/] [--rounds 5] [--seconds 4] [--callers 1,16,64] [--short]

Server and client are processes of their own, on threads, method ``echo`` with 100 bytes. In each round both drivers
run in random order, after a warm-up in which all threads come into being; the table holds medians over the rounds. CPU
is user and system time of client and server for each call; connections are those of both processes to the broker, threads
those of the system.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
import uuid

DRIVERS = ('rabbit', 'rust+rabbit')


def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def footprint(port):
    own = set()
    for fd in os.listdir('/proc/self/fd'):
        try:
            own.add(os.readlink(f'/proc/self/fd/{fd}'))
        except OSError:
            pass
    connections = 0
    with open('/proc/self/net/tcp') as table:
        for line in table:
            words = line.split()
            if words[2].endswith(':%04X' % port) and (
                    f'socket:[{words[9]}]' in own):
                connections += 1
    return {'connections': connections,
            'threads': len(os.listdir('/proc/self/task')),
            'rss': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def prepare(url):
    import warnings
    warnings.simplefilter('ignore')
    import logging
    logging.disable(logging.WARNING)
    import oslo_messaging
    from oslo_config import cfg
    cfg.CONF(args=[])
    return oslo_messaging, oslo_messaging.get_rpc_transport(cfg.CONF, url)


def serve(url, topic, port):
    oslo_messaging, transport = prepare(url)

    class Endpoint:
        def echo(self, ctxt, value):
            return value

    server = oslo_messaging.get_rpc_server(
        transport, oslo_messaging.Target(topic=topic, server='s'),
        [Endpoint()])
    server.start()
    print('ready', flush=True)
    for line in sys.stdin:
        print(json.dumps({'cpu': used(), **footprint(port)}), flush=True)
    server.stop()
    server.wait()
    transport.cleanup()


def load(url, topic, callers, seconds, port):
    oslo_messaging, transport = prepare(url)
    client = oslo_messaging.get_rpc_client(
        transport, oslo_messaging.Target(topic=topic), timeout=60)
    took = []
    warm, start = (threading.Barrier(callers + 1) for _ in range(2))
    end = None

    def work():
        def call():
            client.call({'user': 'me'}, 'echo', value='x' * 100)

        for _ in range(20):
            call()
        warm.wait()
        start.wait()
        while (began := time.perf_counter()) < end:
            call()
            took.append(time.perf_counter() - began)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    warm.wait()
    print('warm', flush=True)
    sys.stdin.readline()
    began, cpu = time.perf_counter(), used()
    end = began + seconds
    start.wait()
    held = footprint(port)
    for thread in threads:
        thread.join()
    lasted, cpu = time.perf_counter() - began, used() - cpu
    took.sort()
    print(json.dumps({
        'calls': len(took), 'seconds': lasted, 'cpu': cpu,
        'p50': took[len(took) // 2], 'p99': took[len(took) * 99 // 100],
        **held}), flush=True)
    transport.cleanup()


def child(*arguments):
    return subprocess.Popen([sys.executable, __file__, *map(str, arguments)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True)


def measure(url, callers, seconds, port):
    topic = 'bench-' + uuid.uuid4().hex
    server = child('serve', url, topic, port)
    assert server.stdout.readline() == 'ready\n'
    client = child('load', url, topic, callers, seconds, port)

    def ask():
        server.stdin.write('\n')
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    assert client.stdout.readline() == 'warm\n'
    before = ask()
    client.stdin.write('\n')
    client.stdin.flush()
    result = json.loads(client.stdout.readline())
    after = ask()
    server.stdin.close()
    client.stdin.close()
    client.wait()
    server.wait()
    count = result['calls']
    return {
        'calls/s': count / result['seconds'],
        'CPU µs/call': (result['cpu'] + after['cpu'] - before['cpu'])
        / count * 1e6,
        'p50 µs': result['p50'] * 1e6,
        'p99 µs': result['p99'] * 1e6,
        'connections': result['connections'] + after['connections'],
        'threads': f"{result['threads']}+{after['threads']}",
        'RSS MiB': f"{result['rss']}+{after['rss']}",
    }


def shown(values):
    return values[0] if isinstance(values[0], str) else round(
        statistics.median(values))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--url', default=os.environ.get(
        'OSLO_TEST_RABBIT_URL', 'rabbit://guest:guest@localhost:5672/'))
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=4)
    parser.add_argument('--callers', default='1,16,64')
    parser.add_argument('--short', action='store_true',
                        help='one round of a second each: whether it works')
    args = parser.parse_args()
    if args.short:
        args.rounds, args.seconds = 1, 1
    port = int(args.url.rstrip('/').rpartition(':')[2])
    rest = args.url.partition('://')[2]
    everybody = [int(callers) for callers in args.callers.split(',')]
    results = {}
    for _ in range(args.rounds):
        runs = [(callers, driver) for callers in everybody
                for driver in DRIVERS]
        for callers, driver in random.sample(runs, len(runs)):
            results.setdefault((callers, driver), []).append(measure(
                f'{driver}://{rest}', callers, args.seconds, port))
    columns = list(results[everybody[0], DRIVERS[0]][0])
    print('| callers | driver | ' + ' | '.join(columns) + ' |')
    print('|---' * (len(columns) + 2) + '|')
    for callers in everybody:
        rows = []
        for driver in DRIVERS:
            rounds = results[callers, driver]
            rows.append({key: shown([one[key] for one in rounds])
                         for key in columns})
            print(f'| {callers} | {driver} | '
                  + ' | '.join(map(str, rows[-1].values())) + ' |')
        theirs, ours = rows
        print(f"{callers} callers: calls/s "
              f"{ours['calls/s'] / theirs['calls/s']:.2f} times as many, "
              f"CPU per call {ours['CPU µs/call'] / theirs['CPU µs/call']:.2f}"
              ' of it', file=sys.stderr)


if __name__ == '__main__':
    if sys.argv[1:2] == ['serve']:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1:2] == ['load']:
        load(sys.argv[2], sys.argv[3], int(sys.argv[4]),
             float(sys.argv[5]), int(sys.argv[6]))
    else:
        main()
