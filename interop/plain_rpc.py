"""The plain RPC over kombu that services spoke before oslo.messaging, as a process that a test drives.

    plain_rpc.py serve URL TOPIC    answers requests; prints `ready`, then each request it took as a line of JSON
    plain_rpc.py call URL           prints `ready`; reads a line of JSON with `topic`, `message` and `wait` (seconds; 0 casts),
                                    and answers it with a line: `result` as it came, or `fault`

A request is JSON, sent to the topic exchange that is called like its topic, with the topic as routing key; a call has a
`msg_id`, and waits at an exclusive queue of that name, bound to a direct exchange of that name by that key, for one message
with the `result`. The process ends when standard input does.
"""

import json
import os
import socket
import sys
import threading
import uuid

import kombu


# RabbitMQ 4.3 refuses transient queues that are not exclusive where its configuration says so.
DURABLE = 'transient_nonexcl_queues = false' in os.environ.get('OSLO_TEST_RABBIT_CONFIG', '')


def topic_exchange(topic):
    return kombu.Exchange(topic, 'topic', durable=False, auto_delete=False)


def reply_exchange(msg_id):
    return kombu.Exchange(msg_id, 'direct', durable=False, auto_delete=True)


def tell(value):
    sys.stdout.write(json.dumps(value) + '\n')
    sys.stdout.flush()


class Methods:
    def add(self, v1, v2):
        return v1 + v2

    def echo(self, **args):
        return args

    def nothing(self, **args):
        return None


class Server:
    def __init__(self, url, topic):
        self._connection = kombu.Connection(url)
        self._channel = self._connection.channel()
        # One after the other, so that a reply is out before the next request comes in.
        self._channel.basic_qos(0, 1, False)
        queue = kombu.Queue(
            topic, topic_exchange(topic), routing_key=topic, durable=DURABLE, auto_delete=False, exclusive=False)
        self._consumer = kombu.Consumer(self._channel, [queue], callbacks=[self._take])
        self._methods = Methods()

    def run(self):
        self._consumer.consume()
        tell('ready')
        while True:
            self._connection.drain_events()

    def _take(self, request, message):
        raw = message.body if isinstance(message.body, str) else bytes(message.body).decode('utf-8')
        tell({
            'raw': raw, 'routing_key': message.delivery_info['routing_key'],
            'exchange': message.delivery_info['exchange'], 'content_type': message.content_type})
        method = getattr(self._methods, request['method'])
        result = method(**request['args'])
        msg_id = request.get('msg_id')
        if msg_id:
            producer = kombu.Producer(self._channel, reply_exchange(msg_id), routing_key=msg_id)
            producer.publish({'result': result})
        message.ack()


class Rpc:
    """`rpc.call(topic, {'method': …, 'args': …})` gives the result."""

    def __init__(self, url):
        self._connection = kombu.Connection(url)

    def cast(self, topic, message):
        with self._connection.channel() as channel:
            kombu.Producer(channel, topic_exchange(topic), routing_key=topic).publish(message)

    def call(self, topic, message, wait=10):
        msg_id = uuid.uuid4().hex
        queue = kombu.Queue(
            msg_id, reply_exchange(msg_id), routing_key=msg_id, durable=False, auto_delete=True, exclusive=True)
        replies = []
        with self._connection.channel() as channel:
            with kombu.Consumer(
                    channel, [queue], no_ack=True, callbacks=[lambda reply, message: replies.append(reply)]):
                self.cast(topic, dict(message, msg_id=msg_id))
                while not replies:
                    self._connection.drain_events(timeout=wait)
        return replies[0]


def call(url):
    rpc = Rpc(url)
    tell('ready')
    for line in iter(sys.stdin.readline, ''):
        request = json.loads(line)
        try:
            if request['wait']:
                tell(rpc.call(request['topic'], request['message'], request['wait']))
            else:
                rpc.cast(request['topic'], request['message'])
                tell({})
        except socket.timeout:
            tell({'fault': 'timeout'})


def serve(url, topic):
    server = Server(url, topic)
    threading.Thread(target=server.run, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == '__main__':
    {'serve': serve, 'call': call}[sys.argv[1]](*sys.argv[2:])
