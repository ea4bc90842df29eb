"""Looks every tenth of a second whether a broker does its work, knowing nothing of oslo.messaging.

    prober.py HOST:PORT,… USER PASSWORD VHOST QUEUE_TYPE JOURNAL

A look is a new connection and a message that the broker confirms, at the first of the hosts that does this within a
second. The message goes to a queue that is made at the first host: there a quorum queue has its leader, so that the time
in which a new one is elected is seen. Every look is a line in the journal: `probe START END OUTCOME`, in microseconds
since 1970. It prints `ready` when the queue is made, and ends when its standard input does.
"""

import os
import sys
import threading
import time

import amqp

EVERY = 0.1
LIMIT = 1.0
QUEUE = 'prober'


def now():
    return int(time.time() * 1e6)


class Prober:
    def __init__(self, hosts, user, password, vhost, queue_type):
        self._hosts = hosts.split(',')
        self._login = {'userid': user, 'password': password, 'virtual_host': vhost}
        self._queue_type = queue_type

    def set_up(self):
        self._at(self._hosts[0], self._declare)

    def look(self):
        """Why no host did its work, or `ok`."""
        outcome = None
        for host in self._hosts:
            try:
                self._at(host, self._publish)
                return 'ok'
            except Exception as error:
                outcome = type(error).__name__
        return outcome

    def _at(self, host, work):
        connection = amqp.Connection(
            host, confirm_publish=True, connect_timeout=LIMIT, read_timeout=LIMIT, write_timeout=LIMIT, **self._login)
        try:
            connection.connect()
            work(connection.channel())
        finally:
            # No good-bye: a broker that is paused would not answer it.
            connection.collect()

    def _declare(self, channel):
        arguments = {'x-queue-type': self._queue_type, 'x-max-length': 1}
        if self._queue_type == 'quorum':
            arguments['x-queue-leader-locator'] = 'client-local'
        channel.queue_declare(QUEUE, durable=True, auto_delete=False, arguments=arguments)

    def _publish(self, channel):
        # What is confirmed although its queue has gone with a virtual host would prove little.
        if self._queue_type == 'classic':
            self._declare(channel)
        channel.basic_publish(amqp.Message('here'), routing_key=QUEUE, timeout=LIMIT, confirm_timeout=LIMIT)


def main():
    path = sys.argv.pop()
    prober = Prober(*sys.argv[1:])
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    ended = threading.Event()

    def wait_for_end():
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    prober.set_up()
    print('ready', flush=True)
    while not ended.wait(EVERY):
        started = now()
        outcome = prober.look()
        os.write(journal, ('probe %d %d %s\n' % (started, now(), outcome)).encode())


if __name__ == '__main__':
    main()
