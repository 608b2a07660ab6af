"""Edges between threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic

from retain.pipeline.mailbox import Mailbox
from retain.pipeline.metrics import EdgeStats
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.transport.base import Stopped
from retain.pipeline.wire import Barrier, End, Fault


@dataclass(slots=True)
class Arrivals:
    """Packets that came in on one edge."""

    arrived: int = 0
    gone: int = 0
    """Of these, how many had lost their pixels with the process that held them."""
    taken: int = 0
    at: dict[int, int] = field(default_factory=dict)
    """By barrier: packets before it on this edge, those passed over included."""


class Inbox:
    """One mailbox per edge, one lock for all. Edges take turns, so none starves another."""

    def __init__(self, name: str, policies: Mapping[str, Policy]) -> None:
        self.name = name
        self.boxes = {src: Mailbox(policy) for src, policy in policies.items()}
        self.counts = {src: Arrivals() for src in policies}
        self.changed = threading.Condition()
        self._ended: dict[str, End] = {}
        self._turn = list(self.boxes)
        self._aborted = False
        self._void = 0

    def put(self, src: str, packet: Packet) -> None:
        with self.changed:
            box = self.boxes[src]
            while not box.room(packet) and not self._aborted:
                self.changed.wait()
            if self._aborted:
                raise Stopped
            box.put(packet)
            self.changed.notify_all()

    def mark(self, src: str, barrier: Barrier) -> None:
        with self.changed:
            if barrier.number > self._void:
                self.boxes[src].mark(barrier)
            self.changed.notify_all()

    def void(self, number: int) -> None:
        """Barriers up to this one will not come on every edge any more: wait for none of them."""
        with self.changed:
            self._void = number
            for box in self.boxes.values():
                box.unmark(number)
            self.changed.notify_all()

    def end(self, src: str, end: End) -> None:
        with self.changed:
            self._ended[src] = end
            self.changed.notify_all()

    def recv(self, timeout: float | None = None) -> Packet | Barrier | End | None:
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

    def _next(self) -> Packet | Barrier | End | None:
        for src in self._turn:
            if packet := self.boxes[src].get():
                self._turn.remove(src)
                self._turn.append(src)
                self.counts[src].taken += 1
                self.taken(src)
                self.changed.notify_all()
                return packet
        return self._aligned() or self._all_ended()

    def _aligned(self) -> Barrier | None:
        """The barrier, once it is the next thing on every edge that still gives something."""
        open_ = [box for src, box in self.boxes.items() if src not in self._ended or box.barrier]
        barriers = [box.barrier for box in open_]
        if not barriers or None in barriers:
            return None
        first = min(barriers, key=lambda barrier: barrier.number)  # type: ignore[union-attr]
        for box in open_:
            if box.barrier == first:
                box.pass_barrier()
        return first

    def _all_ended(self) -> End | None:
        if len(self._ended) < len(self.boxes) or any(map(len, self.boxes.values())):
            return None
        faults = [end for end in self._ended.values() if end.fault]
        return faults[0] if faults else End()


class InprocSender:
    """The producer's end of one edge of an ``Inbox`` in the same process."""

    def __init__(self, src: str, inbox: Inbox) -> None:
        self.src = src
        self._inbox = inbox

    def send(self, packet: Packet) -> None:
        self._inbox.put(self.src, packet)

    def mark(self, barrier: Barrier) -> None:
        self._inbox.mark(self.src, barrier)

    def end(self, fault: Fault | None = None) -> None:
        self._inbox.end(self.src, End(fault))

    def stats(self) -> EdgeStats:
        with self._inbox.changed:
            return EdgeStats.of(self.src, self._inbox.name, self._inbox.boxes[self.src])
