"""The one thread of a process that waits on sockets, and the one place that makes them."""

from __future__ import annotations

import logging
import math
import socket as sockets
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from retain.pipeline.wire import MAX_MESSAGE

log = logging.getLogger(__name__)

HIGH_WATER = 1024
"""Messages a socket may queue. Credit keeps edges far below; meeting it is an error."""
LINGER_MS = 200
_BURST = 64
"""Messages taken from one socket before the others get a turn."""

HEARTBEAT_MS, DEAD_AFTER_MS = 1_000, 5_000
"""Of tcp: a line that was silent for so long, beats included, is cut."""
ZAP_DOMAIN = b"retain"

OnMessage = Callable[[list[bytes]], None]


@dataclass(frozen=True, slots=True)
class Curve:
    """Keys of one end of an encrypted line, as Z85 text. ``server``: public key of the end to
    connect to; empty at the binding end, which admits whom its ZAP handler admits."""

    public: bytes
    secret: bytes = field(repr=False)
    server: bytes = b""


class Outgoing:
    """A socket that only sends, for any thread: whoever has something to say says it at once.

    ZeroMQ lets threads share a socket when a full fence lies between their uses, which the lock
    is, and nobody polls it. It connects (never binds), so what is sent early waits for the peer.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._lock = threading.Lock()
        self.sent_bytes = 0

    def send(self, data: bytes) -> None:
        with self._lock:
            if self._socket.closed:
                return
            self.sent_bytes += len(data)
            try:
                self._socket.send(data)
            except zmq.Again:  # credit keeps queues short: only a dead peer is this far behind
                log.debug("a peer is gone; %d bytes were not sent", len(data))

    @property
    def closed(self) -> bool:
        return bool(self._socket.closed)

    def close(self) -> None:
        with self._lock:
            self._socket.close(LINGER_MS)


class IoThread:
    """Runs handlers of sockets, calls from other threads and timers, one at a time.

    Heartbeats are for tcp only. Other sockets live in a private directory between processes of one
    parent, who sees a death at once; a heartbeat would only cut the line of one that was suspended.
    """

    def __init__(self, name: str, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._context = zmq.Context(io_threads=1)
        self._poller = zmq.Poller()
        self._handlers: dict[Any, OnMessage] = {}
        self._monitors: dict[Any, Any] = {}
        self._outgoing: list[Outgoing] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._due: list[float] = []
        self._bell, self._button = sockets.socketpair()
        for end in (self._bell, self._button):
            end.setblocking(False)
        self._poller.register(self._bell.fileno(), zmq.POLLIN)
        self._look_by: float | None = None
        self._awake = False
        self._closing = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def call(self, function: Callable[[], None]) -> None:
        """Run ``function`` in the thread, soon; from any thread."""
        self._calls.append(function)
        self.wake()

    def wake(self) -> None:
        """Have the thread look around. Safe inside ``__del__`` and under any lock."""
        if not self._awake:
            self._awake = True
            with suppress(OSError):  # full: it will wake anyway; closed: nobody to wake
                self._button.send(b"\0")

    def look_by(self, when: float) -> None:
        """Make the next round no later than ``when`` (``time.monotonic()``). In the thread."""
        self._look_by = when if self._look_by is None else min(when, self._look_by)

    def every(self, seconds: float, function: Callable[[], None]) -> None:
        """Run ``function`` in the thread about every ``seconds``; 0: on each round. Before
        ``start`` only."""
        self._timers.append((seconds, function))
        self._due.append(0.0)

    def socket(
        self,
        kind: int,
        *,
        bind: str = "",
        connect: str = "",
        identity: str = "",
        on_message: OnMessage | None = None,
        on_event: Callable[[int], None] | None = None,
        curve: Curve | None = None,
        max_message: int = MAX_MESSAGE,
    ) -> zmq.Socket[bytes]:
        """A socket with every limit set. In the thread, or before ``start``.

        ``max_message``: bytes of one part; a peer that sends more is cut off. ``on_event`` gets
        what happens to the connection (``zmq.EVENT_*``); a line that failed tries again by itself,
        so end it with ``forget`` where that is not wanted.
        """
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, LINGER_MS)
        socket.set(zmq.SNDHWM, HIGH_WATER)
        socket.set(zmq.RCVHWM, HIGH_WATER)
        socket.set(zmq.SNDTIMEO, 0)
        socket.set(zmq.RCVTIMEO, 0)
        socket.set(zmq.MAXMSGSIZE, max_message)
        socket.set(zmq.RECONNECT_IVL, 10)
        socket.set(zmq.RECONNECT_IVL_MAX, 500)
        if identity:
            socket.set(zmq.IDENTITY, identity.encode())
        if (bind or connect).startswith("tcp://"):
            _for_network(socket, "[" in bind or "[" in connect)
        if curve:
            _encrypt(socket, curve)
        if on_event:
            self._watch(socket, on_event)
        if bind:
            socket.bind(bind)
        if connect:
            socket.connect(connect)
        if on_message:
            self._handlers[socket] = on_message
            self._poller.register(socket, zmq.POLLIN)
        return socket

    def _watch(self, socket: zmq.Socket[bytes], on_event: Callable[[int], None]) -> None:
        def on_message(parts: list[bytes]) -> None:
            on_event(parse_monitor_message(parts)["event"])

        self._monitors[socket] = monitor = socket.get_monitor_socket()
        self._handlers[monitor] = on_message
        self._poller.register(monitor, zmq.POLLIN)

    def outgoing(self, address: str) -> Outgoing:
        """A sending socket that any thread may use. From any thread, until ``close``."""
        outgoing = Outgoing(self.socket(zmq.PUSH, connect=address))
        self._outgoing = [*(other for other in self._outgoing if not other.closed), outgoing]
        return outgoing

    def forget(self, socket: zmq.Socket[bytes]) -> None:
        """Close one socket that receives. In the thread, and not from its own handler: ``call`` it
        there."""
        if socket in self._monitors:
            socket.disable_monitor()
            self.forget(self._monitors.pop(socket))
        self._poller.unregister(socket)
        del self._handlers[socket]
        socket.close(0)

    def drain(self, socket: zmq.Socket[bytes]) -> None:
        """Handle what has arrived at a socket whose peer is dead, to the last message."""
        while int(socket.get(zmq.EVENTS)) & zmq.POLLIN:
            self._handlers[socket](socket.recv_multipart())

    def close(self) -> None:
        """Finish what was called, then close all sockets. Not from the thread itself."""

        def end() -> None:
            self._closing = True

        self.call(end)
        self._thread.join()

    def _main(self) -> None:
        try:
            while not self._closing:
                self._round()
        finally:
            for outgoing in self._outgoing:
                outgoing.close()
            self._context.destroy(LINGER_MS)
            self._bell.close()
            self._button.close()

    def _round(self) -> None:
        due = [due for due, (every, _) in zip(self._due, self._timers, strict=True) if every]
        if self._look_by is not None:
            due.append(self._look_by)
            self._look_by = None
        wait = max(0, math.ceil(1e3 * (min(due) - monotonic()))) if due else None
        for ready, _ in self._poller.poll(wait):
            if isinstance(ready, zmq.Socket):
                self._guarded(partial(self._read, ready))
            else:
                self._bell.recv(64)
        self._awake = False
        for _ in range(len(self._calls)):
            self._guarded(self._calls.popleft())
        now = monotonic()
        for index, (every, function) in enumerate(self._timers):
            if now >= self._due[index]:
                self._due[index] = now + every
                self._guarded(function)

    def _read(self, socket: zmq.Socket[bytes]) -> None:
        for _ in range(_BURST):
            handle = self._handlers.get(socket)
            if handle is None:
                return  # forgotten by a handler that came before it in this round
            if not int(socket.get(zmq.EVENTS)) & zmq.POLLIN:
                return
            handle(socket.recv_multipart())

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            log.debug("in the thread of sockets", exc_info=True)
            self._on_error(error)


def _for_network(socket: zmq.Socket[bytes], ipv6: bool) -> None:
    socket.set(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.set(zmq.HEARTBEAT_TIMEOUT, DEAD_AFTER_MS)
    socket.set(zmq.HEARTBEAT_TTL, DEAD_AFTER_MS)
    socket.set(zmq.HANDSHAKE_IVL, DEAD_AFTER_MS)
    socket.set(zmq.RECONNECT_IVL, 100)
    socket.set(zmq.RECONNECT_IVL_MAX, 5_000)
    socket.set(zmq.IMMEDIATE, 1)
    socket.set(zmq.IPV6, int(ipv6))


def _encrypt(socket: zmq.Socket[bytes], curve: Curve) -> None:
    socket.set(zmq.CURVE_PUBLICKEY, curve.public)
    socket.set(zmq.CURVE_SECRETKEY, curve.secret)
    if curve.server:
        socket.set(zmq.CURVE_SERVERKEY, curve.server)
    else:
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
