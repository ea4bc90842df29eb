"""Looks every tenth of a second whether a broker does its work, knowing nothing of oslo.messaging.

    prober.py HOST:PORT,… USER PASSWORD VHOST QUEUE_TYPE JOURNAL

A look is a new connection, a queue, and a message that the broker confirms, at the first of the hosts that does all of
this within a second. Every look is a line in the journal: `probe START END OUTCOME`, in microseconds since 1970. It
prints `ready` after the first good one, and ends when its standard input does.
"""

import os
import sys
import threading
import time

import amqp

EVERY = 0.1
LIMIT = 1.0


def now():
    return int(time.time() * 1e6)


def look(host, user, password, vhost, queue_type):
    connection = amqp.Connection(
        host, userid=user, password=password, virtual_host=vhost, confirm_publish=True,
        connect_timeout=LIMIT, read_timeout=LIMIT, write_timeout=LIMIT)
    try:
        connection.connect()
        channel = connection.channel()
        # A name of its own for each type, kept small by itself.
        arguments = {'x-queue-type': queue_type, 'x-max-length': 1}
        channel.queue_declare('prober-' + queue_type, durable=True, auto_delete=False, arguments=arguments)
        channel.basic_publish(
            amqp.Message('here'), routing_key='prober-' + queue_type, timeout=LIMIT, confirm_timeout=LIMIT)
    finally:
        # No good-bye: a broker that is paused would not answer it.
        connection.collect()


def main():
    hosts, user, password, vhost, queue_type, path = sys.argv[1:]
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    ended = threading.Event()

    def wait_for_end():
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    ready = False
    while not ended.wait(EVERY):
        started, outcome = now(), None
        for host in hosts.split(','):
            try:
                look(host, user, password, vhost, queue_type)
                outcome = 'ok'
                break
            except Exception as error:
                outcome = type(error).__name__
        os.write(journal, ('probe %d %d %s\n' % (started, now(), outcome)).encode())
        if outcome == 'ok' and not ready:
            ready = True
            print('ready', flush=True)


if __name__ == '__main__':
    main()
