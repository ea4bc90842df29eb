# SPDX-License-Identifier: Apache-2.0
"""Notifications through the driver."""

import queue
import threading
import time

import oslo_messaging
import pytest


class Endpoint:
    """Keeps what comes; the first ``refuse`` notifications are given back."""

    def __init__(self, refuse=0):
        self.seen = queue.Queue()
        self.refuse = refuse
        self._lock = threading.Lock()

    def info(self, ctxt, publisher_id, event_type, payload, metadata):
        with self._lock:
            if self.refuse:
                self.refuse -= 1
                return oslo_messaging.NotificationResult.REQUEUE
        self.seen.put((ctxt, publisher_id, event_type, payload))

    def error(self, ctxt, publisher_id, event_type, payload, metadata):
        self.seen.put((ctxt, publisher_id, 'error ' + event_type, payload))


class Context:
    """A context as services have it: an object."""

    def redacted_copy(self):
        return self

    def to_dict(self):
        return {'project': 'p-1'}


class Batches:
    def __init__(self):
        self.seen = queue.Queue()

    def info(self, messages):
        self.seen.put([message['payload'] for message in messages])


@pytest.fixture
def listen(conf, topic):
    running = []

    def start(url, endpoint, **options):
        transport = oslo_messaging.get_notification_transport(conf, url)
        make = oslo_messaging.get_notification_listener
        if 'batch_size' in options:
            make = oslo_messaging.get_batch_notification_listener
        listener = make(transport, [oslo_messaging.Target(topic=topic)],
                        [endpoint], allow_requeue=True, **options)
        listener.start()
        running.append((listener, transport))
        return listener

    yield start
    for listener, transport in running:
        listener.stop()
        listener.wait()
        transport.cleanup()


@pytest.fixture
def notifier(conf, topic):
    made = []

    def make(url, driver='messagingv2'):
        transport = oslo_messaging.get_notification_transport(conf, url)
        made.append(transport)
        return oslo_messaging.Notifier(transport, 'me', driver=driver,
                                       topics=[topic])

    yield make
    for transport in made:
        transport.cleanup()


@pytest.mark.parametrize('driver', ['messaging', 'messagingv2'])
def test_a_notification_arrives_in_both_formats(url, listen, notifier, driver):
    endpoint = Endpoint()
    listen(url, endpoint)
    made = notifier(url, driver)
    payload = {'n': [1.5, None, '\ud800', 10 ** 40], 'é': '☃'}
    made.info(Context(), 'created', payload)
    made.error({}, 'broken', 'oh')
    ctxt, publisher, event, seen = endpoint.seen.get(timeout=20)
    assert (publisher, event, seen) == ('me', 'created', payload)
    assert ctxt['project'] == 'p-1'
    assert endpoint.seen.get(timeout=20)[2] == 'error broken'


def test_a_notification_waits_for_its_first_listener(url, listen, notifier):
    notifier(url).info({}, 'early', 1)
    if url.startswith('rust+memory'):
        # What waits in memory lives as long as somebody uses the broker: keep it in use.
        time.sleep(0)
    endpoint = Endpoint()
    listen(url, endpoint)
    assert endpoint.seen.get(timeout=20)[2] == 'early'


def test_one_given_back_comes_again(url, listen, notifier):
    endpoint = Endpoint(refuse=3)
    listen(url, endpoint)
    notifier(url).info({}, 'again', 1)
    assert endpoint.seen.get(timeout=20)[2] == 'again'
    assert endpoint.refuse == 0


def test_each_pool_gets_a_copy_and_its_members_share_it(url, listen, notifier):
    plain, one, two = Endpoint(), Endpoint(), Endpoint()
    listen(url, plain)
    listen(url, one, pool='audit-' + url[-8:].strip('/'))
    listen(url, two, pool='audit-' + url[-8:].strip('/'))
    made = notifier(url)
    for n in range(20):
        made.info({}, 'event', n)
    mine = sorted(plain.seen.get(timeout=20)[3] for _ in range(20))
    assert mine == list(range(20))
    deadline = time.monotonic() + 20
    while one.seen.qsize() + two.seen.qsize() < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shared = [*one.seen.queue, *two.seen.queue]
    assert sorted(entry[3] for entry in shared) == list(range(20))


def test_batches_are_full_or_in_time(url, listen, notifier):
    endpoint = Batches()
    made = notifier(url)
    made.info({}, 'declares the queue', 'first')
    listen(url, endpoint, batch_size=5, batch_timeout=1)
    for n in range(11):
        made.info({}, 'event', n)
    batches = []
    while sum(map(len, batches)) < 12:
        batches.append(endpoint.seen.get(timeout=20))
    assert [entry for batch in batches for entry in batch] == [
        'first', *range(11)]
    assert max(map(len, batches)) <= 5


def test_what_is_not_acknowledged_when_a_listener_ends_goes_to_another(
        url, conf, topic, notifier):
    made = notifier(url)
    for n in range(5):
        made.info({}, 'event', n)
    transport = oslo_messaging.get_notification_transport(conf, url)
    sources = {(oslo_messaging.Target(topic=topic), 'info')}

    def take(count):
        listener = transport._driver.listen_for_notifications(
            sources, None, 1, None)._poll_style_listener
        taken = [listener.poll(timeout=20)[0] for _ in range(count)]
        return listener, taken

    listener, taken = take(5)
    taken[0].acknowledge()
    listener.stop()
    listener.cleanup()
    again, rest = take(4)
    assert sorted(note.message['payload'] for note in rest) == [1, 2, 3, 4]
    for note in rest:
        note.acknowledge()
    again.stop()
    again.cleanup()
    transport.cleanup()


def test_poll_gives_up_in_time_and_when_it_is_stopped(url, conf, topic):
    transport = oslo_messaging.get_notification_transport(conf, url)
    sources = {(oslo_messaging.Target(topic=topic), 'info')}
    listener = transport._driver.listen_for_notifications(
        sources, None, 1, None)._poll_style_listener
    started = time.monotonic()
    assert listener.poll(timeout=0.3) == []
    assert time.monotonic() - started >= 0.29
    results = []
    poller = threading.Thread(target=lambda: results.append(listener.poll()))
    poller.start()
    listener.stop()
    poller.join(20)
    assert results == [[]]
    assert listener.poll() == []
    listener.cleanup()
    transport.cleanup()
