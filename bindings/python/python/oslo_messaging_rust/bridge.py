# SPDX-License-Identifier: Apache-2.0
"""How Python threads wait for the engine.

A plain thread waits inside the engine, without the interpreter's lock. A green thread must not: it shares its system
thread with all others. It waits on an event of its own kind instead, and one more green thread, woken through a socket,
sets these events. The same thread brings the engine's log records to ``logging``.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any, Optional

from oslo_utils import eventletutils

from oslo_messaging_rust import _native

LOG = logging.getLogger('oslo_messaging_rust')

#: The number that stands for log records.
_LOGS = 0
_PREFIX = 'oslo_messaging_'


class Bridge:
    """The Python end of the engine's bridge."""

    def __init__(self, green: bool) -> None:
        self.native = _native.Bridge()
        self.green = green
        #: The system thread whose green threads it can wake.
        self.os_thread = _native.os_thread()
        self._waiters: dict[int, threading.Event] = {}
        self._socket = socket.socket(fileno=self.native.take_reader())
        _native.follow_logs(self.native)
        follow_level()
        thread = threading.Thread(target=self._run, name='oslo-messaging-rust',
                                  daemon=True)
        thread.start()

    def event(self, number: int) -> threading.Event:
        """An event that is set when the engine has what this number stands for."""
        event = self._waiters[number] = threading.Event()
        return event

    def forget(self, number: int) -> None:
        """Ends the use of an event."""
        self._waiters.pop(number, None)

    def abandon(self) -> None:
        """Lets go of what belongs to the parent process."""
        # Past any hub of green threads, which the parent may be using.
        os.close(self._socket.detach())
        self._waiters = {}

    def _run(self) -> None:
        while True:
            try:
                if not self._socket.recv(4096):
                    return
            except OSError:
                return
            for number in self.native.take():
                if number == _LOGS:
                    _pass_on_logs()
                elif (event := self._waiters.get(number)) is not None:
                    event.set()


_lock = threading.Lock()
_bridge: Optional[Bridge] = None


def get() -> Bridge:
    """The bridge of this process, started if need be."""
    global _bridge
    green = eventletutils.is_monkey_patched('thread')
    bridge = _bridge
    if bridge is None or bridge.green != green:
        with _lock:
            if _bridge is None or _bridge.green != green:
                _bridge = Bridge(green)
            bridge = _bridge
    return bridge


def green() -> Optional[Bridge]:
    """The bridge, if the calling thread must wait by it."""
    bridge = get()
    if bridge.green and bridge.os_thread == _native.os_thread():
        return bridge
    return None


def native(bridge: Optional[Bridge]) -> Optional[_native.Bridge]:
    """What the engine knows a bridge by."""
    return None if bridge is None else bridge.native


def wait(op: _native.Op, bridge: Optional[Bridge]) -> Any:
    """Waits for an operation that was started for ``bridge``, and gives or raises its outcome."""
    try:
        if bridge is None:
            op.wait(_handles_signals())
        elif not op.is_done():
            event = bridge.event(op.number)
            try:
                if not op.is_done():
                    event.wait()
            finally:
                bridge.forget(op.number)
    except BaseException:
        op.cancel()
        raise
    return op.result()


def _handles_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


def follow_level() -> None:
    """Lets the engine keep what ``logging`` wants."""
    level = LOG.getEffectiveLevel() if LOG.isEnabledFor(
        logging.CRITICAL) else 255
    _native.set_log_level(max(1, min(level, 255)))


def _pass_on_logs() -> None:
    records, missed = _native.take_logs()
    for level, target, text in records:
        name = target.removeprefix(_PREFIX).replace('::', '.')
        logger = LOG.getChild(name)
        if logger.isEnabledFor(level):
            logger.handle(logger.makeRecord(
                logger.name, level, '(engine)', 0, text, (), None))
    if missed:
        LOG.warning('%d log records of the engine were not kept', missed)
    follow_level()


def after_fork_in_child() -> None:
    """Forgets the bridge of the parent process."""
    global _bridge, _lock
    _lock = threading.Lock()
    bridge, _bridge = _bridge, None
    if bridge is not None:
        bridge.abandon()
