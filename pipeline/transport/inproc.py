"""Edges between threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import monotonic

from retain.pipeline.mailbox import Mailbox
from retain.pipeline.metrics import EdgeStats
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.transport.base import Stopped
from retain.pipeline.wire import End, Fault


class Inbox:
    """One mailbox per edge, one lock for all. Edges take turns, so none starves another."""

    def __init__(self, name: str, policies: Mapping[str, Policy]) -> None:
        self.name = name
        self.boxes = {src: Mailbox(policy) for src, policy in policies.items()}
        self.changed = threading.Condition()
        self._ended: dict[str, End] = {}
        self._turn = list(self.boxes)
        self._aborted = False

    def put(self, src: str, packet: Packet) -> None:
        with self.changed:
            box = self.boxes[src]
            while not box.room(packet) and not self._aborted:
                self.changed.wait()
            if self._aborted:
                raise Stopped
            box.put(packet)
            self.changed.notify_all()

    def end(self, src: str, end: End) -> None:
        with self.changed:
            self._ended[src] = end
            self.changed.notify_all()

    def recv(self, timeout: float | None = None) -> Packet | End | None:
        until = None if timeout is None else monotonic() + timeout
        with self.changed:
            while True:
                if self._aborted:
                    raise Stopped
                if found := self._next():
                    return found
                self.idle()
                left = None if until is None else until - monotonic()
                if (left is not None and left <= 0) or not self.changed.wait(left):
                    return None

    def abort(self) -> None:
        with self.changed:
            self._aborted = True
            for box in self.boxes.values():
                box.clear("stopped")
            self.changed.notify_all()

    def idle(self) -> None:
        """Called, with the lock held, when a receiver finds nothing waiting."""

    def taken(self, src: str) -> None:
        """Called, with the lock held, when a packet of ``src`` was taken."""

    def _next(self) -> Packet | End | None:
        for src in self._turn:
            if packet := self.boxes[src].get():
                self._turn.remove(src)
                self._turn.append(src)
                self.taken(src)
                self.changed.notify_all()
                return packet
        if len(self._ended) == len(self.boxes):
            faults = [end for end in self._ended.values() if end.fault]
            return faults[0] if faults else End()
        return None


class InprocSender:
    """The producer's end of one edge of an ``Inbox`` in the same process."""

    def __init__(self, src: str, inbox: Inbox) -> None:
        self.src = src
        self._inbox = inbox

    def send(self, packet: Packet) -> None:
        self._inbox.put(self.src, packet)

    def end(self, fault: Fault | None = None) -> None:
        self._inbox.end(self.src, End(fault))

    def stats(self) -> EdgeStats:
        with self._inbox.changed:
            return EdgeStats.of(self.src, self._inbox.name, self._inbox.boxes[self.src])
