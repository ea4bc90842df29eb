# SPDX-License-Identifier: Apache-2.0
"""The reference's driver and this one on the same broker, each as client and as server, over every form of message."""

import queue
import time

import oslo_messaging
import pytest

PAIRS = pytest.mark.parametrize('client_scheme,server_scheme', [
    ('rust+', ''), ('', 'rust+'), ('rust+', 'rust+'), ('', '')],
    ids=['rust-python', 'python-rust', 'rust-rust', 'python-python'])


class Endpoint:
    target = oslo_messaging.Target(namespace='ns', version='1.3')

    def __init__(self):
        self.seen = queue.Queue()

    def echo(self, ctxt, value):
        self.seen.put(value)
        return [value, ctxt['user']]

    def slow(self, ctxt, seconds):
        time.sleep(seconds)
        return 'slow'

    def fail(self, ctxt):
        raise KeyError('missing', 7)

    def odd(self, ctxt):
        raise ValueError('odd \ud800')

    def late(self, ctxt):
        raise oslo_messaging.MessagingTimeout('late')

    def nothing(self, ctxt):
        pass


@pytest.fixture
def pair(conf, rabbit, topic, client_scheme, server_scheme):
    """A client maker and the endpoints of two servers."""
    made, servers, endpoints = [], [], []
    for name in ('a', 'b'):
        transport = oslo_messaging.get_rpc_transport(
            conf, server_scheme + rabbit)
        made.append(transport)
        endpoints.append(Endpoint())
        servers.append(oslo_messaging.get_rpc_server(
            transport, oslo_messaging.Target(topic=topic, server=name),
            [endpoints[-1]]))
        servers[-1].start()
    transport = oslo_messaging.get_rpc_transport(
        conf, client_scheme + rabbit,
        allowed_remote_exmods=['oslo_messaging.exceptions'])
    made.append(transport)

    def client(**options):
        options.setdefault('timeout', 30)
        return oslo_messaging.get_rpc_client(
            transport, oslo_messaging.Target(topic=topic, namespace='ns',
                                             version='1.1'), **options)

    yield client, endpoints
    for server in servers:
        server.stop()
    for server in servers:
        server.wait()
    for transport in made:
        transport.cleanup()


@PAIRS
def test_all_forms_of_rpc(pair):
    make, (a, b) = pair
    client = make()
    value = {'n': [10 ** 30, 1.5, None, '\ud800', 'é☃'], 'x' * 300: True}
    assert client.call({'user': 'me'}, 'echo', value=value) == [value, 'me']
    assert client.call({}, 'nothing') is None
    with pytest.raises(KeyError) as raised:
        client.call({}, 'fail')
    assert raised.value.args[1] == 7
    with pytest.raises(ValueError) as raised:
        client.call({}, 'odd')
    assert raised.value.args[0].startswith('odd \ud800\n')
    assert raised.value.args[0].endswith('ValueError: odd \ud800\n')
    with pytest.raises(oslo_messaging.MessagingTimeout) as raised:
        client.call({}, 'late')
    assert type(raised.value).__name__ == 'MessagingTimeout_Remote'
    with pytest.raises(oslo_messaging.RemoteError, match='NoSuchMethod'):
        client.call({}, 'unknown')
    with pytest.raises(oslo_messaging.RemoteError, match='UnsupportedVersion'):
        client.prepare(version='2.0').call({}, 'echo')
    a.seen.queue.clear()
    b.seen.queue.clear()
    client.prepare(server='b').call({'user': 'me'}, 'echo', value='to b')
    assert (a.seen.qsize(), b.seen.get(timeout=20)) == (0, 'to b')
    client.prepare(server='a').cast({'user': 'me'}, 'echo', value='to a')
    assert a.seen.get(timeout=20) == 'to a'
    client.prepare(fanout=True).cast({'user': 'me'}, 'echo', value='to all')
    assert a.seen.get(timeout=20) == b.seen.get(timeout=20) == 'to all'
    client.cast({'user': 'me'}, 'echo', value='to any')
    deadline = time.monotonic() + 20
    while a.seen.qsize() + b.seen.qsize() < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@PAIRS
def test_a_monitored_call_and_a_mandatory_one(pair):
    make, _ = pair
    monitored = make(call_monitor_timeout=4)
    assert monitored.call({}, 'slow', seconds=6) == 'slow'
    mandatory = make(transport_options=oslo_messaging.TransportOptions(
        at_least_once=True))
    with pytest.raises(oslo_messaging.MessageUndeliverable):
        mandatory.prepare(server='gone').call({}, 'nothing')
    assert mandatory.call({}, 'nothing') is None


class Notes:
    def __init__(self):
        self.seen = queue.Queue()

    def _note(self, ctxt, publisher_id, event_type, payload, metadata):
        self.seen.put((event_type, payload))

    info = error = critical = sample = audit = _note


@PAIRS
@pytest.mark.parametrize('driver', ['messaging', 'messagingv2'])
def test_all_forms_of_notifications(conf, rabbit, topic, client_scheme,
                                    server_scheme, driver):
    plain, pooled, batches = Notes(), Notes(), queue.Queue()

    class Batches:
        def info(self, messages):
            for message in messages:
                batches.put((message['event_type'], message['payload']))

    transport = oslo_messaging.get_notification_transport(
        conf, server_scheme + rabbit)
    targets = [oslo_messaging.Target(topic=topic)]
    listeners = [
        oslo_messaging.get_notification_listener(transport, targets, [plain]),
        oslo_messaging.get_notification_listener(
            transport, targets, [pooled], pool=topic + '-pool'),
        oslo_messaging.get_batch_notification_listener(
            transport, targets, [Batches()], pool=topic + '-batches',
            batch_size=4, batch_timeout=1),
    ]
    for listener in listeners:
        listener.start()
    sending = oslo_messaging.get_notification_transport(
        conf, client_scheme + rabbit)
    notifier = oslo_messaging.Notifier(sending, 'me', driver=driver,
                                       topics=[topic])
    payload = {'n': [10 ** 30, 1.5, None, '\ud800', 'é☃']}
    for priority in ('info', 'error', 'critical', 'sample', 'audit'):
        getattr(notifier, priority)({}, priority, payload)
    for endpoint in (plain, pooled):
        seen = sorted(endpoint.seen.get(timeout=20)[0] for _ in range(5))
        assert seen == ['audit', 'critical', 'error', 'info', 'sample']
    assert batches.get(timeout=20) == ('info', payload)
    for listener in listeners:
        listener.stop()
    for listener in listeners:
        listener.wait()
    transport.cleanup()
    sending.cleanup()
