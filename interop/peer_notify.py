"""Notifications of a Python oslo.messaging process: what `peer.py` adds to its operations for them."""

import threading
import time

from oslo_context import context as oslo_context
import oslo_messaging
from oslo_messaging.notify import dispatcher
from oslo_messaging.notify import filter as notify_filter

PRIORITIES = ('audit', 'debug', 'info', 'warn', 'error', 'critical', 'sample')

OPERATIONS = frozenset(('notify', 'listen', 'stop_listening', 'redacted', 'flood', 'drain'))


class Answers:
    """What an endpoint answers: another try, or an exception, so many times; then nothing."""

    def __init__(self, requeue=0, fail=0):
        self._lock = threading.Lock()
        self._requeue, self._fail = requeue, fail

    def next(self):
        with self._lock:
            if self._requeue > 0:
                self._requeue -= 1
                return dispatcher.NotificationResult.REQUEUE
            if self._fail > 0:
                self._fail -= 1
                raise ValueError('the test says so')
        return dispatcher.NotificationResult.HANDLED


def endpoint(journal, name, priorities, rules=None, batch=False, requeue=0, fail=0):
    """An endpoint with a method for each of `priorities`, which notes what it gets."""
    answers = Answers(requeue, fail)

    def note(priority, ctxt, publisher_id, event_type, payload, metadata):
        journal.add(
            method=priority, ctxt=ctxt, listener=name, publisher_id=publisher_id, event_type=event_type,
            payload=payload, metadata=metadata, at=time.time())

    def single(priority):
        def handle(self, ctxt, publisher_id, event_type, payload, metadata):
            note(priority, ctxt, publisher_id, event_type, payload, metadata)
            return answers.next()
        return handle

    def batched(priority):
        def handle(self, messages):
            journal.add(
                method='batch', priority=priority, listener=name,
                event_types=[message['event_type'] for message in messages])
            return answers.next()
        return handle

    make = batched if batch else single
    members = {priority: make(priority) for priority in priorities or PRIORITIES}
    if rules:
        members['filter_rule'] = notify_filter.NotificationFilter(**rules)
    return type('Endpoint', (), members)()


class Notifications:
    """The operations, as a part of the peer."""

    def notify(self, event_type, payload=None, priority='info', driver='messagingv2', topics=None,
               publisher_id='python', ctxt=None, request_context=None, retry=None):
        notifier = oslo_messaging.Notifier(
            self.notification_transport(), publisher_id, driver=driver, topics=topics, retry=retry)
        if request_context is not None:
            ctxt = oslo_context.RequestContext(**request_context)
        getattr(notifier, priority)(ctxt or {}, event_type, payload)

    def listen(self, name, targets, endpoints, pool=None, allow_requeue=False, batch_size=None, batch_timeout=None):
        """Starts the listener `name`; it consumes when this returns."""
        targets = [oslo_messaging.Target(**target) for target in targets]
        is_batch = batch_size is not None
        made = [endpoint(self.journal, name, batch=is_batch, **one) for one in endpoints]
        options = dict(executor='threading', allow_requeue=allow_requeue, pool=pool)
        if is_batch:
            listener = oslo_messaging.get_batch_notification_listener(
                self.notification_transport(), targets, made, batch_size=batch_size, batch_timeout=batch_timeout,
                **options)
        else:
            listener = oslo_messaging.get_notification_listener(
                self.notification_transport(), targets, made, **options)
        listener.start()
        with self._lock:
            self._servers[name] = listener

    def stop_listening(self, name):
        with self._lock:
            listener = self._servers.pop(name)
        listener.stop()
        listener.wait()

    def redacted(self, request_context):
        """A context as RPC sends it, and as notifications do."""
        context = oslo_context.RequestContext(**request_context)
        return [context.to_dict(), context.redacted_copy().to_dict()]

    def flood(self, count, topic, driver='messagingv2', size=200):
        """Publishes so many notifications one after the other; tells how many seconds it took."""
        notifier = oslo_messaging.Notifier(
            self.notification_transport(), 'python', driver=driver, topics=[topic])
        payload = {'text': 'x' * size}
        started = time.monotonic()
        for number in range(count):
            notifier.info({}, 'flood', payload)
        return time.monotonic() - started

    def drain(self, count, topic, seconds):
        """Takes so many notifications that are there; tells how many seconds it took from the start of the listener."""
        done = threading.Event()
        state = {'left': count}
        lock = threading.Lock()

        class Counter:
            def info(self, ctxt, publisher_id, event_type, payload, metadata):
                with lock:
                    state['left'] -= 1
                    if state['left'] <= 0:
                        done.set()

        listener = oslo_messaging.get_notification_listener(
            self.notification_transport(), [oslo_messaging.Target(topic=topic)], [Counter()], executor='threading')
        started = time.monotonic()
        listener.start()
        taken = done.wait(seconds)
        elapsed = time.monotonic() - started
        listener.stop()
        listener.wait()
        if not taken:
            raise RuntimeError('%d of %d notifications are missing' % (state['left'], count))
        return elapsed

    def notification_transport(self):
        with self._lock:
            if 'notify' not in self._transports:
                self._transports['notify'] = oslo_messaging.get_notification_transport(self.conf, url=self._url)
            return self._transports['notify']
