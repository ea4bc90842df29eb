"""An AMQP peer that knows nothing of oslo.messaging: it publishes and takes whatever bytes a test wants.

Started as `raw_peer.py PORT VHOST`. The test writes one JSON object a line to standard input, with an `op` and its
arguments, and reads one a line from standard output: `value`, or `fault` with a text. Requests are done one after the
other. The process ends when standard input does.
"""

import base64
import collections
import json
import os
import sys
import time
import traceback

import amqp


# RabbitMQ 4.3 refuses transient queues that are not exclusive where its configuration says so.
DURABLE = 'transient_nonexcl_queues = false' in os.environ.get('OSLO_TEST_RABBIT_CONFIG', '')


class RawPeer:
    """One connection with one channel; bodies go as UTF-8 text, or in base64 where they are no text."""

    def __init__(self, port, vhost):
        self._connection = amqp.Connection(
            '127.0.0.1:%s' % port, userid='guest', password='guest', virtual_host=vhost, confirm_publish=True)
        self._connection.connect()
        self._channel = self._connection.channel()
        self._returned = False
        self._channel.events['basic_return'].add(self._note_return)
        self._arrived = collections.defaultdict(collections.deque)

    def declare_queue(self, queue, durable=DURABLE, auto_delete=False, arguments=None):
        self._channel.queue_declare(queue, durable=durable, auto_delete=auto_delete, arguments=arguments)

    def declare_exchange(self, exchange, type='topic', durable=False, auto_delete=False):
        self._channel.exchange_declare(exchange, type, durable=durable, auto_delete=auto_delete)

    def bind(self, queue, exchange, routing_key):
        self._channel.queue_bind(queue, exchange, routing_key)

    def delete_queue(self, queue):
        self._channel.queue_delete(queue)

    def publish(self, routing_key, exchange='', body=None, body_base64=None, properties=None, mandatory=False):
        """Publishes and waits for the confirmation; says whether the message came back for want of a queue."""
        content = base64.b64decode(body_base64) if body_base64 is not None else body.encode()
        self._returned = False
        message = amqp.Message(content, **(properties or {}))
        self._channel.basic_publish(message, exchange, routing_key, mandatory=mandatory)
        return self._returned

    def consume(self, queue):
        self._channel.basic_consume(queue, no_ack=True, callback=lambda message: self._keep(queue, message))

    def next(self, queue, seconds):
        """The next message of a queue that is consumed, or null when none came in time."""
        deadline = time.monotonic() + seconds
        while not self._arrived[queue]:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                self._connection.drain_events(timeout=left)
            except TimeoutError:
                return None
        return self._arrived[queue].popleft()

    def _keep(self, queue, message):
        body = message.body
        self._arrived[queue].append({
            'body': body.decode() if isinstance(body, bytes) else body,
            'properties': {key: value for key, value in message.properties.items()},
            'redelivered': message.delivery_info['redelivered'],
            'routing_key': message.delivery_info['routing_key'],
        })

    def _note_return(self, error, exchange, routing_key, message):
        self._returned = True


OPERATIONS = frozenset(
    ('declare_queue', 'declare_exchange', 'bind', 'delete_queue', 'publish', 'consume', 'next'))


def main():
    output = os.fdopen(os.dup(sys.stdout.fileno()), 'w', encoding='utf-8')
    sys.stdout = sys.stderr
    peer = RawPeer(sys.argv[1], sys.argv[2])
    for line in iter(sys.stdin.buffer.readline, b''):
        request = json.loads(line)
        op = request.pop('op')
        try:
            if op not in OPERATIONS:
                raise LookupError('no operation %s' % op)
            answer = {'value': getattr(peer, op)(**request)}
        except Exception:
            answer = {'fault': traceback.format_exc()}
        output.write(json.dumps(answer) + '\n')
        output.flush()


if __name__ == '__main__':
    main()
