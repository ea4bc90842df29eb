"""A Python oslo.messaging process that sends and takes notifications, driven by a test as `peer.py` is.

Runs with the reference's Kafka driver (or any other): notifiers and notification listeners behind the same JSON lines.
"""

import peer

from oslo_context import context

import oslo_messaging

from oslo_messaging.notify import notifier as notifying


class Endpoint:
    """Notes what comes; asks for it again as often as it is told to."""

    def _note(self, priority, ctxt, publisher_id, event_type, payload, metadata):
        peer.JOURNAL.add(
            method=priority, ctxt=dict(ctxt), publisher_id=publisher_id, event_type=event_type, payload=payload,
            metadata=metadata)

    def info(self, *args):
        self._note('info', *args)

    def error(self, *args):
        self._note('error', *args)

    def audit(self, *args):
        self._note('audit', *args)


class NotificationPeer:
    """The notifiers and listeners of this process."""

    def __init__(self, setup):
        peer.configure(setup.get('options') or {})
        self._url = setup['transport_url']
        self._transports = []
        self._listeners = []

    def _transport(self):
        transport = oslo_messaging.get_notification_transport(peer.CONF, url=self._url)
        self._transports.append(transport)
        return transport

    def listen(self, topics, pool=None):
        """Starts a listener; the reference itself waits five seconds for its first message."""
        targets = [oslo_messaging.Target(topic=topic) for topic in topics]
        listener = oslo_messaging.get_notification_listener(
            self._transport(), targets, [Endpoint()], executor='threading', pool=pool)
        self._listeners.append(listener)
        listener.start()

    def notify(self, topic, priority, event_type, payload, ctxt=None, publisher_id='python', count=1,
               driver='messagingv2'):
        """Sends notifications, and waits until the broker has them."""
        transport = self._transport()
        notifier = notifying.Notifier(
            transport, publisher_id=publisher_id, driver=driver, topics=[topic], retry=3)
        for number in range(count):
            if count > 1:
                payload['number'] = number
            # Of a plain dict the reference sends nothing.
            getattr(notifier, priority)(context.RequestContext(**ctxt or {}), event_type, payload)
        # Flushes the producer.
        transport.cleanup()
        self._transports.remove(transport)

    def wait_received(self, count, seconds, method=None):
        return peer.JOURNAL.wait(method, count, seconds)

    def close(self):
        for listener in self._listeners:
            listener.stop()
            listener.wait()
        for transport in self._transports:
            transport.cleanup()


if __name__ == '__main__':
    peer.OPERATIONS = frozenset(('listen', 'notify', 'wait_received', 'close'))
    peer.Peer = NotificationPeer
    peer.main()
