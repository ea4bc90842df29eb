# SPDX-License-Identifier: Apache-2.0
"""The transport driver that oslo.messaging loads for ``rust+...`` URLs."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any, Optional
import uuid
import weakref

import oslo_messaging
from oslo_messaging._drivers import amqp
from oslo_messaging._drivers import base
from oslo_messaging._drivers import common
from oslo_serialization import jsonutils

from oslo_messaging_rust import _native
from oslo_messaging_rust import bridge as bridges
from oslo_messaging_rust import listener
from oslo_messaging_rust import options

LOG = logging.getLogger('oslo_messaging_rust')

#: How many requests beyond those that run are fetched, so that a worker that gets free finds its next one here.
_AHEAD = 16
#: How many notifications may be fetched and not acknowledged: some batches, and not less than the workers can use.
_BATCHES_AHEAD = 4
_LEAST_PREFETCH = 128
_MOST_PREFETCH = 65535

_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


class Driver(base.BaseDriver):
    """One transport.

    It holds nothing but settings until something is sent or listened for, and in a process that was forked off starts
    anew.
    """

    def __init__(self, conf: Any, url: Any,
                 default_exchange: Optional[str] = None,
                 allowed_remote_exmods: Optional[list] = None) -> None:
        self._settings = options.read(conf, url)
        super().__init__(self._settings.conf, url, default_exchange,
                         allowed_remote_exmods)
        self.prefetch_size = self._settings.prefetch
        self._lock = threading.Lock()
        self._engine: Optional[_native.Engine] = None
        self._closed = False
        _drivers.add(self)

    def require_features(self, requeue: bool = False) -> None:
        """Everything that can be asked for is there."""

    def send(self, target: Any, ctxt: Any, message: dict,
             wait_for_reply: Optional[bool] = None,
             timeout: Optional[float] = None,
             call_monitor_timeout: Optional[float] = None,
             retry: Optional[int] = None,
             transport_options: Any = None) -> Any:
        """Sends a request; gives the result of a call."""
        self._check_rpc()
        text = self._dump(ctxt, message)
        mandatory = bool(transport_options
                         and transport_options.at_least_once)
        exchange = target.exchange or self._default_exchange
        engine = self._started()
        bridge = bridges.green()
        if wait_for_reply:
            if timeout is None:
                timeout = self._option('rpc_response_timeout', 60)
            op = engine.call(exchange, target.topic, target.server or None,
                             text, timeout, call_monitor_timeout or None,
                             retry, mandatory, bridges.native(bridge))
        else:
            op = engine.cast(exchange, target.topic, target.server or None,
                             bool(target.fanout), text, retry, mandatory,
                             bridges.native(bridge))
        try:
            result = bridges.wait(op, bridge)
        except _native.RemoteFailure as failure:
            remote = common.deserialize_remote_exception(
                failure.args[0], self._allowed_remote_exmods)
        except _native.Undeliverable as fault:
            raise _undeliverable(fault, exchange, target, message) from None
        else:
            return None if result is None else jsonutils.loads(result)
        raise remote

    def send_notification(self, target: Any, ctxt: Any, message: dict,
                          version: float,
                          retry: Optional[int] = None) -> None:
        """Sends a notification; returns when the broker has it."""
        member = self._settings.context is options.Context.MEMBER
        if not member:
            message = {**message, '_unique_id': uuid.uuid4().hex}
        text = self._dump(ctxt, message)
        exchange = target.exchange or self._default_exchange
        engine = self._started()
        bridge = bridges.green()
        # Where the context is one member, the reference always seals.
        op = engine.notify(exchange, target.topic, text,
                           member or version >= 2.0, retry,
                           bridges.native(bridge))
        bridges.wait(op, bridge)

    def listen(self, target: Any, batch_size: Optional[int],
               batch_timeout: Optional[float]) -> base.Listener:
        """Subscribes for the requests of a server; they are taken from now on."""
        self._check_rpc()
        exchange = target.exchange or self._default_exchange
        workers = max(1, self._option('executor_thread_pool_size', 64))
        engine = self._started()
        bridges.follow_level()
        native = self._insist(
            lambda bridge: engine.listen(
                # Without a server the name is that of nobody, as with the reference.
                exchange, target.topic, str(target.server), workers + _AHEAD,
                bridge),
            'listen at %s' % target.topic)
        poller = listener.RpcListener(native, self.prefetch_size,
                                      self._settings.context)
        return listener.Adapter(poller, batch_size, batch_timeout, _AHEAD)

    def listen_for_notifications(self, targets_and_priorities: Any,
                                 pool: Optional[str],
                                 batch_size: Optional[int],
                                 batch_timeout: Optional[float]
                                 ) -> base.Listener:
        """Subscribes for notifications."""
        sources = sorted({
            (target.exchange or self._default_exchange,
             f'{target.topic}.{priority}')
            for target, priority in targets_and_priorities})
        prefetch = max(_LEAST_PREFETCH, _BATCHES_AHEAD * (batch_size or 1))
        prefetch = min(prefetch, _MOST_PREFETCH)
        engine = self._started()
        bridges.follow_level()
        native = self._insist(
            lambda bridge: engine.listen_for_notifications(
                sources, pool, prefetch, bridge),
            'listen for notifications')
        poller = listener.NotificationListener(
            native, self._most_in_hand(), self._settings.context)
        return listener.Adapter(poller, batch_size, batch_timeout, 0)

    def cleanup(self) -> None:
        """Closes all connections, whatever still uses them."""
        with self._lock:
            engine, self._engine = self._engine, None
            self._closed = True
        if engine is not None:
            bridge = bridges.green()
            bridges.wait(engine.close(bridges.native(bridge)), bridge)

    def _started(self) -> _native.Engine:
        engine = self._engine
        if engine is not None:
            return engine
        with self._lock:
            if self._closed:
                raise base.TransportDriverError('the transport was closed')
            if self._engine is None:
                self._engine = _native.Engine(
                    self._settings.engine, self._settings.url,
                    self._settings.options,
                    self._default_exchange or 'openstack',
                    self._option('rpc_response_timeout', 60))
            return self._engine

    def _insist(self, start: Any, what: str) -> Any:
        """Does what the reference does for ever until it succeeds."""
        while True:
            bridge = bridges.green()
            try:
                return bridges.wait(start(bridges.native(bridge)), bridge)
            except (oslo_messaging.MessageDeliveryFailure,
                    oslo_messaging.MessagingTimeout) as fault:
                LOG.error('Cannot %s yet, trying again: %s', what, fault)

    def _check_rpc(self) -> None:
        if not self._settings.rpc:
            raise NotImplementedError(
                'there is no RPC over %s' % self._settings.engine)

    def _most_in_hand(self) -> int:
        """How many notifications a listener is given at most before it settles one; 0 for as many as it likes."""
        most = dict(self._settings.options).get('max_poll_records', 0)
        return int(most) or self.prefetch_size

    def _dump(self, ctxt: Any, message: dict) -> str:
        whole = dict(message)
        if self._settings.context is options.Context.MEMBER:
            whole['_context'] = (ctxt if isinstance(ctxt, dict)
                                 else ctxt.to_dict())
        else:
            amqp.pack_context(whole, ctxt)
        return jsonutils.dumps(whole)

    def _option(self, name: str, default: Any) -> Any:
        """An option that only clients or only servers register."""
        try:
            value = getattr(self.conf, name)
        except AttributeError:
            return default
        return default if value is None else value

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._engine = None


def _undeliverable(fault: Exception, exchange: Optional[str], target: Any,
                   message: dict) -> Exception:
    routing_key = target.topic
    if target.server:
        routing_key = f'{target.topic}.{target.server}'
    return oslo_messaging.MessageUndeliverable(
        fault.args[0], exchange, routing_key, message)


def _after_fork_in_child() -> None:
    _native.after_fork_in_child()
    bridges.after_fork_in_child()
    for driver in list(_drivers):
        driver._forget()


os.register_at_fork(before=_native.before_fork,
                    after_in_parent=_native.after_fork_in_parent,
                    after_in_child=_after_fork_in_child)
