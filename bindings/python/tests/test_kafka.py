# SPDX-License-Identifier: Apache-2.0
"""Notifications over Kafka: this driver and the reference's on one cluster."""

import json
import queue
import time

import confluent_kafka
import oslo_messaging
import pytest
from oslo_context import context

PAIRS = pytest.mark.parametrize('sender,receiver', [
    ('rust+', ''), ('', 'rust+'), ('rust+', 'rust+')],
    ids=['rust-python', 'python-rust', 'rust-rust'])
#: A group that is not new lets members in only when this is nearly over, as its mock does.
QUICK = '?session_timeout=3'
SOON = 60
PAYLOAD = {'n': [10 ** 30, 1.5, None, '\ud800', 'é☃', float('inf')]}


def hosts(url):
    """What the client library calls the brokers of a URL."""
    return url.partition('://')[2].strip('/')


def places(topic, offset=confluent_kafka.OFFSET_INVALID):
    """All partitions of a topic: a new one of the mock has four."""
    return [confluent_kafka.TopicPartition(topic, n, offset) for n in range(4)]


class Endpoint:
    def __init__(self, refuse=0):
        self.seen = queue.Queue()
        self.refuse = refuse

    def _note(self, ctxt, publisher_id, event_type, payload, metadata):
        if self.refuse:
            self.refuse -= 1
            return oslo_messaging.NotificationResult.REQUEUE
        self.seen.put((ctxt, publisher_id, event_type, payload))

    info = error = audit = _note


class Batches:
    def __init__(self):
        self.seen = queue.Queue()

    def info(self, messages):
        self.seen.put([message['payload'] for message in messages])


@pytest.fixture
def cluster(kafka, conf, topic):
    """A transport maker on a cluster that has the topics: a listener of the reference begins at their ends."""
    asking = confluent_kafka.Producer({'bootstrap.servers': hosts(kafka)})
    for priority in ('info', 'error', 'audit'):
        while not asking.list_topics(
                f'{topic}.{priority}', SOON).topics[f'{topic}.{priority}'
                                                    ].partitions:
            time.sleep(0.05)
    transports = []

    def transport(scheme, query=''):
        # Options of our own are unknown to the reference.
        url = scheme + kafka + (query if scheme else '')
        transports.append(oslo_messaging.get_notification_transport(conf, url))
        return transports[-1]

    yield transport
    for transport in transports:
        transport.cleanup()


@pytest.fixture
def listen(cluster, topic):
    running = []

    def start(scheme, endpoint, query=QUICK, **options):
        make = oslo_messaging.get_notification_listener
        if 'batch_size' in options:
            make = oslo_messaging.get_batch_notification_listener
        listener = make(cluster(scheme, query),
                        [oslo_messaging.Target(topic=topic)], [endpoint],
                        allow_requeue=True, **options)
        listener.start()
        running.append(listener)
        return listener

    yield start
    for listener in running:
        listener.stop()
    for listener in running:
        listener.wait()


@pytest.fixture
def notifier(cluster, topic):
    def make(scheme, driver='messagingv2', query=''):
        return oslo_messaging.Notifier(
            cluster(scheme, query), 'me', driver=driver, topics=[topic],
            retry=3)
    return make


@PAIRS
def test_notifications_of_both_formats_go_both_ways(listen, notifier, topic,
                                                    sender, receiver):
    endpoint = Endpoint()
    listen(receiver, endpoint, pool=topic)
    sent = context.RequestContext(user_id='u-1', auth_token='hunter2')
    # What the reference's own driver makes of a context: no word of the caller's timeout.
    expected = json.loads(json.dumps(sent.redacted_copy().to_dict()))
    for driver in ('messaging', 'messagingv2'):
        made = notifier(sender, driver)
        made.info(sent, 'created', PAYLOAD)
        assert endpoint.seen.get(timeout=SOON) == (
            expected, 'me', 'created', PAYLOAD)
        for priority in ('error', 'audit'):
            getattr(made, priority)({}, priority, 1)
            assert endpoint.seen.get(timeout=SOON)[2] == priority


def test_a_message_is_what_the_reference_writes(notifier, topic, kafka):
    consumer = confluent_kafka.Consumer({
        'bootstrap.servers': hosts(kafka), 'group.id': topic})
    consumer.assign(places(f'{topic}.info', 0))
    sent = context.RequestContext(user_id='u-1')
    bodies = []
    for scheme in ('', 'rust+'):
        for driver in ('messaging', 'messagingv2'):
            notifier(scheme, driver).info(sent, 'created', PAYLOAD)
            message = consumer.poll(SOON)
            assert (message.key(), message.headers()) == (None, None)
            sealed = json.loads(message.value())
            body = json.loads(sealed.pop('oslo.message'))
            assert body.pop('message_id') and body.pop('timestamp')
            bodies.append((sealed, body))
    assert bodies[1:] == bodies[:1] * 3
    consumer.close()


def test_rpc_is_refused_as_by_the_reference(cluster, conf, topic, kafka):
    refused = []
    for scheme in ('', 'rust+'):
        transport = oslo_messaging.get_rpc_transport(conf, scheme + kafka)
        target = oslo_messaging.Target(topic=topic, server='s')
        client = oslo_messaging.get_rpc_client(transport, target, timeout=5)
        server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()])
        for use in (lambda: client.call({}, 'x'), lambda: client.cast({}, 'x'),
                    server.start):
            with pytest.raises(Exception) as raised:
                use()
            refused.append(raised.type)
        transport.cleanup()
    assert refused[:3] == refused[3:] == [NotImplementedError] * 3


def test_each_pool_gets_a_copy(listen, notifier, topic):
    one, two = Endpoint(), Endpoint()
    listen('rust+', one, pool=topic + '-one')
    listen('rust+', two, pool=topic + '-two')
    made = notifier('rust+')
    for n in range(10):
        made.info({}, 'event', n)
    # Each has all of them, and so does nobody twice.
    for endpoint in (one, two):
        got = [endpoint.seen.get(timeout=SOON)[3] for _ in range(10)]
        assert sorted(got) == list(range(10))


def test_a_pool_goes_on_where_it_was(listen, notifier, topic):
    first, second = Endpoint(), Endpoint()
    made = notifier('rust+')
    listener = listen('rust+', first, pool=topic)
    made.info({}, 'event', 1)
    assert first.seen.get(timeout=SOON)[3] == 1
    listener.stop()
    listener.wait()
    made.info({}, 'event', 2)
    listen('rust+', second, pool=topic)
    assert second.seen.get(timeout=SOON)[3] == 2


def test_one_given_back_comes_again(listen, notifier, topic):
    endpoint = Endpoint(refuse=2)
    listen('rust+', endpoint, pool=topic)
    notifier('rust+').info({}, 'again', 1)
    assert endpoint.seen.get(timeout=SOON)[2] == 'again'
    assert endpoint.refuse == 0


def test_batches_are_full_or_in_time(listen, notifier, topic):
    endpoint = Batches()
    listen('rust+', endpoint, pool=topic, batch_size=4, batch_timeout=1)
    made = notifier('rust+')
    for n in range(10):
        made.info({}, 'event', n)
    batches = []
    while sum(map(len, batches)) < 10:
        batches.append(endpoint.seen.get(timeout=SOON))
    assert sorted(sum(batches, [])) == list(range(10))
    assert max(map(len, batches)) == 4


def test_a_batch_is_no_larger_than_what_a_listener_may_have_in_hand(
        listen, notifier, topic):
    endpoint = Batches()
    listen('rust+', endpoint, QUICK + '&max_poll_records=2', pool=topic,
           batch_size=100)
    made = notifier('rust+')
    for n in range(4):
        made.info({}, 'event', n)
    one, two = (endpoint.seen.get(timeout=SOON) for _ in range(2))
    assert (len(one), len(two)) == (2, 2)
    assert sorted(one + two) == [0, 1, 2, 3]


def test_options_come_from_the_group_of_this_conf_and_the_url_wins(conf,
                                                                   kafka):
    def options(query=''):
        driver = oslo_messaging.get_notification_transport(
            conf, 'rust+' + kafka + query)._driver
        return dict(driver._settings.options)

    assert options()['compression_codec'] == 'none'
    conf.set_override('compression_codec', 'zstd', group='oslo_messaging_kafka')
    conf.set_override('consumer_group', 'mine', group='oslo_messaging_kafka')
    assert (options()['compression_codec'], options()['consumer_group']) == (
        'zstd', 'mine')
    assert options('?compression_codec=gzip')['compression_codec'] == 'gzip'
    with pytest.raises(oslo_messaging.DriverLoadFailure,
                       match='max_poll_records'):
        options('?max_poll_records=0')
    with pytest.raises(Exception, match='no_such_option'):
        options('?no_such_option=1')


def test_the_group_of_the_conf_is_the_group_of_the_listener(
        conf, cluster, listen, notifier, topic, kafka):
    transport = cluster('rust+')
    conf.set_override('consumer_group', topic, group='oslo_messaging_kafka')
    endpoint = Endpoint()
    listen('rust+', endpoint)
    notifier('rust+').info({}, 'event', 1)
    assert endpoint.seen.get(timeout=SOON)[3] == 1
    consumer = confluent_kafka.Consumer({
        'bootstrap.servers': hosts(kafka), 'group.id': topic})
    deadline = time.monotonic() + SOON
    while not any(place.offset == 1 for place in consumer.committed(
            places(f'{topic}.info'), SOON)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    consumer.close()
    transport.cleanup()


def test_a_broker_that_is_not_there_is_told(conf, topic):
    transport = oslo_messaging.get_notification_transport(
        conf, 'rust+kafka://127.0.0.1:1/?delivery_timeout=1')
    target = oslo_messaging.Target(topic=f'{topic}.info')
    with pytest.raises(oslo_messaging.MessageDeliveryFailure):
        transport._driver.send_notification(target, {}, {}, 2.0, retry=0)
    transport.cleanup()
