# SPDX-License-Identifier: Apache-2.0
"""Listeners: what servers get their messages from."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable, Optional

import oslo_messaging
from oslo_messaging._drivers import base
from oslo_messaging._drivers import common
from oslo_serialization import jsonutils

from oslo_messaging_rust import _native
from oslo_messaging_rust import bridge as bridges
from oslo_messaging_rust import options

LOG = logging.getLogger('oslo_messaging_rust')

_CONTEXT = '_context_'
#: Members that mean something to engines only.
_OF_THE_ENGINE = ('_unique_id', '_deadline', '_cancellable')
#: Seconds a sign of life may take if its caller does not wait for a shorter time.
_HEARTBEAT_LIMIT = 30.0


class Adapter(base.PollStyleListenerAdapter):
    """Lets a thread poll, and as many requests be unanswered as the server has workers."""

    def __init__(self, poller: Listener, batch_size: Optional[int],
                 batch_timeout: Optional[float], ahead: int) -> None:
        # Without a size a batch would never be full.
        super().__init__(poller, batch_size or 1, batch_timeout)
        self._ahead = ahead

    def start(self, on_incoming_callback: Callable) -> None:
        server = getattr(on_incoming_callback, '__self__', None)
        executor = getattr(server, '_work_executor', None)
        workers = getattr(executor, '_max_workers', None)
        if self._ahead and isinstance(workers, int) and workers > 0:
            self._poll_style_listener.widen(workers + self._ahead)
        super().start(on_incoming_callback)


class Listener(base.PollStyleListener):
    """Takes messages out of the engine."""

    #: What a message is made into.
    message_class: type

    def __init__(self, native: _native.Listener, prefetch_size: int,
                 context: options.Context = options.Context.FLAT) -> None:
        super().__init__(prefetch_size)
        self._native = native
        self.context = context

    def poll(self, timeout: Optional[float] = None,
             batch_size: Optional[int] = 1,
             batch_timeout: Optional[float] = None) -> list:
        """Takes up to ``batch_size`` messages; none when stopped or out of time."""
        size = batch_size or 1
        incoming = self._wait(size, _deadline(timeout))
        if incoming and len(incoming) < size:
            deadline = _deadline(batch_timeout)
            while len(incoming) < size:
                more = self._wait(size - len(incoming), deadline)
                if not more:
                    break
                incoming += more
        return incoming

    def stop(self) -> None:
        """Ends the delivery of messages; what has been delivered can still be polled."""
        bridge = bridges.green()
        bridges.wait(self._native.pause(bridges.native(bridge)), bridge)

    def cleanup(self) -> None:
        """Ends the subscription, after what was answered or acknowledged so far went out."""
        bridge = bridges.green()
        bridges.wait(self._native.close(bridges.native(bridge)), bridge)

    def _wait(self, most: int, deadline: Optional[float]) -> list:
        """What is here, waited for if nothing is."""
        native = self._native
        while True:
            taken = native.take(most)
            if taken:
                incoming = [message for message in map(self._read, taken)
                            if message is not None]
                if incoming:
                    return incoming
                continue
            if native.is_stopped():
                return []
            left = None
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return []
            self._sleep(left)

    def _sleep(self, left: Optional[float]) -> None:
        native = self._native
        bridge = bridges.green()
        if bridge is None or not native.number:
            native.wait(left)
            return
        event = bridge.event(native.number)
        try:
            if native.is_empty() and not native.is_stopped():
                event.wait(left)
        finally:
            bridge.forget(native.number)

    def _read(self, native: _native.Incoming) -> Any:
        try:
            return self.message_class(self, native)
        except Exception:
            # The text is JSON; what Python still refuses are numbers and depths beyond its own limits.
            LOG.exception('Dropped a message that cannot be read')
            native.acknowledge()
            return None


class RpcListener(Listener):
    """The requests of one server."""

    def widen(self, concurrency: int) -> None:
        """Lets more requests be unanswered at once."""
        self._native.widen(concurrency)

    def heartbeat(self, reply_q: str, msg_id: str, within: float) -> bool:
        """Sends a sign of life; gives whether there was somebody to see it."""
        bridge = bridges.green()
        op = self._native.heartbeat(reply_q, msg_id, within,
                                    bridges.native(bridge))
        return bridges.wait(op, bridge)


class RpcIncomingMessage(base.RpcIncomingMessage):
    """One request."""

    def __init__(self, listener: RpcListener,
                 native: _native.Incoming) -> None:
        message, ctxt, ids = _unpack(native.message(), listener.context)
        msg_id, self.reply_q, client_timeout = ids
        super().__init__(ctxt, message, msg_id)
        self.client_timeout = client_timeout
        self.listener = listener
        self._is_call = bool(msg_id)
        self._native: Optional[_native.Incoming] = native
        self._once = threading.Lock()

    def acknowledge(self) -> None:
        """Does nothing: the engine has acknowledged it before it was delivered."""

    def requeue(self) -> None:
        """Does nothing, for the same reason."""

    def reply(self, reply: Any = None, failure: Any = None) -> None:
        """Answers, once. The engine sees to it that the reply goes out."""
        with self._once:
            native, self._native = self._native, None
        if native is None:
            return
        if not self._is_call:
            native.answer(None)
        elif failure:
            native.fail(common.serialize_remote_exception(failure))
        else:
            native.answer(None if reply is None else jsonutils.dumps(reply))

    def heartbeat(self) -> None:
        """Shows the caller that the request is being worked on."""
        if not self._is_call or not self.reply_q:
            return
        within = _HEARTBEAT_LIMIT
        if self.client_timeout:
            within = min(within, float(self.client_timeout))
        if not self.listener.heartbeat(self.reply_q, self.msg_id, within):
            raise oslo_messaging.MessageDeliveryFailure(
                'Nobody is there to see the heartbeat of %s' % self.msg_id)


RpcListener.message_class = RpcIncomingMessage


class NotificationIncomingMessage(base.IncomingMessage):
    """One notification. Given up without a word, it goes back to the broker."""

    def __init__(self, listener: NotificationListener,
                 native: _native.Incoming) -> None:
        message, ctxt, ids = _unpack(native.message(), listener.context)
        super().__init__(ctxt, message, ids[0])
        self.client_timeout = ids[2]
        self.listener = listener
        self._native = native

    def acknowledge(self) -> None:
        """Lets the broker forget it."""
        self._native.acknowledge()

    def requeue(self) -> None:
        """Lets the broker deliver it again."""
        self._native.requeue()


class NotificationListener(Listener):
    """Notifications of some topics and priorities."""

    message_class = NotificationIncomingMessage


def _unpack(text: str, form: options.Context) -> tuple[dict, Any, tuple]:
    """Message; context; message id, reply queue and the caller's monitor timeout."""
    message = jsonutils.loads(text)
    for key in _OF_THE_ENGINE:
        message.pop(key, None)
    ids = (message.pop('_msg_id', None), message.pop('_reply_q', None),
           message.pop('_timeout', None))
    if form is options.Context.MEMBER:
        return message, message.pop('_context', {}), ids
    ctxt = {}
    for key in [key for key in message if key.startswith(_CONTEXT)]:
        ctxt[key[len(_CONTEXT):]] = message.pop(key)
    if form is options.Context.FLAT:
        ctxt['client_timeout'] = ids[2]
    return message, ctxt, ids


def _deadline(timeout: Optional[float]) -> Optional[float]:
    return None if timeout is None else time.monotonic() + timeout
