"""What waits on an edge, and who loses when it is full. Pure: no thread, no socket, no clock."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from fractions import Fraction
from typing import Literal, get_args

from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.wire import Barrier

Cause = Literal["stale", "full", "rate", "bytes", "stopped", "failed", "crashed", "gone"]
"""Why a packet was lost.

stale    a newer one took its place (``latest``, ``drop_oldest``, ``rate``)
full     no room for it (``drop_newest``)
rate     the edge's rate does not let it pass
bytes    the edge's byte limit was met before its depth
stopped  the run was cut short while it waited
failed   the node that should have had it had failed
crashed  on its way to, in hand of or waiting in a process that died
gone     the receiver on another host went away, or the line to it broke
"""
CAUSES: tuple[Cause, ...] = get_args(Cause)
MAX_BYTES = 512 << 20
"""Pixel bytes that may wait on one edge. One packet always fits, however large."""

Lost = list[tuple[Packet, Cause]]


class RateGate:
    """Lets at most ``fps`` packets per second of presentation time pass, for each stream.

    Works on a grid, so that the mean rate is exact: a packet passes when the next grid point has
    come. Presentation time that runs backwards (a reconnect) starts a new grid.
    """

    def __init__(self, fps: float) -> None:
        self._interval = 1 / Fraction(fps)
        self._due: dict[str, Fraction] = {}

    def passes(self, packet: Packet) -> bool:
        frame = packet.frame
        now = frame.pts * frame.time_base
        due = self._due.get(frame.stream, now)
        if now < due - self._interval:
            due = now
        if now < due:
            return False
        late = now - due
        self._due[frame.stream] = (due if late < self._interval else now) + self._interval
        return True


class Gaps:
    """Hands the mark of a gap on from a lost frame to the next one of its stream."""

    def __init__(self) -> None:
        self._owed: set[str] = set()

    def lost(self, packet: Packet) -> None:
        if packet.frame.discontinuity:
            self._owed.add(packet.frame.stream)

    def passes(self, packet: Packet) -> Packet:
        """The packet, marked where a mark is owed."""
        frame = packet.frame
        if frame.stream not in self._owed:
            return packet
        self._owed.discard(frame.stream)
        return Packet(replace(frame, discontinuity=True), packet.results)


class Mailbox:
    """Packets waiting on one edge under its policy, and barriers between them.

    Always: ``captured == delivered + sum(dropped.values()) + len(mailbox)``; barriers are not
    counted, keep their place and are never dropped. The mark of a gap outlives its frame.
    """

    def __init__(self, policy: Policy, max_bytes: int = MAX_BYTES) -> None:
        self.policy = policy
        self.max_bytes = max_bytes
        self.captured = 0
        self.delivered = 0
        self.dropped: Counter[Cause] = Counter()
        self.nbytes = 0
        self._waiting: deque[Packet | Barrier] = deque()
        self._packets = 0
        self._gone, self._refused = Gaps(), Gaps()
        """Marks owed to the next packet that leaves, and to the next that is taken in."""
        self._gate = RateGate(policy.fps) if policy.kind == "rate" else None

    def __len__(self) -> int:
        return self._packets

    def room(self, packet: Packet) -> bool:
        """Whether ``put(packet)`` may be called. Only ``block`` makes the producer wait."""
        fits = not self._packets or not self._over(packet.frame.nbytes)
        return self.policy.kind != "block" or fits

    def put(self, packet: Packet) -> Lost:
        """Take a packet in; returns those that were lost for it (perhaps itself), with causes."""
        assert self.room(packet), "a full block edge takes nothing; wait for room()"
        self.captured += 1
        if self._gate and not self._gate.passes(packet):
            return self._refuse(packet, "rate")
        size = packet.frame.nbytes
        if self.policy.kind == "drop_newest" and self._packets and self._over(size):
            cause: Cause = "full" if len(self) >= self.policy.depth else "bytes"
            return self._refuse(packet, cause)
        packet = self._refused.passes(packet)
        lost: Lost = []
        if self.policy.kind != "block":
            while self._packets and self._over(size):
                cause = "stale" if len(self) >= self.policy.depth else "bytes"
                lost.append((self._pop(), cause))
        self._waiting.append(packet)
        self._packets += 1
        self.nbytes += size
        return self._lose(lost)

    def mark(self, barrier: Barrier) -> None:
        """Put a barrier behind everything that waits."""
        self._waiting.append(barrier)

    def unmark(self, number: int) -> None:
        """Take out the barriers up to ``number``."""
        kept = [w for w in self._waiting if isinstance(w, Packet) or w.number > number]
        self._waiting = deque(kept)

    @property
    def barrier(self) -> Barrier | None:
        """The barrier at the front: it is next, before any packet."""
        head = self._waiting[0] if self._waiting else None
        return head if isinstance(head, Barrier) else None

    def pass_barrier(self) -> None:
        """Take the barrier at the front away."""
        assert self.barrier
        self._waiting.popleft()

    def get(self) -> Packet | None:
        """The packet that waits longest; None when there is none before the next barrier."""
        if not self._packets or self.barrier:
            return None
        self.delivered += 1
        return self._gone.passes(self._pop())

    def lost(self, packets: int, cause: Cause = "crashed") -> None:
        """Of those delivered, so many never got there."""
        self.delivered -= packets
        self.dropped[cause] += packets

    def clear(self, cause: Cause) -> Lost:
        """Give up everything that waits."""
        return self._lose([(self._pop(), cause) for _ in range(len(self))])

    def _over(self, size: int) -> bool:
        return len(self) >= self.policy.depth or self.nbytes + size > self.max_bytes

    def _pop(self) -> Packet:
        """The oldest packet, out from behind barriers where it must be."""
        for place, packet in enumerate(self._waiting):
            if isinstance(packet, Packet):
                del self._waiting[place]
                self._packets -= 1
                self.nbytes -= packet.frame.nbytes
                return packet
        raise IndexError("an empty mailbox")

    def _lose(self, lost: Lost) -> Lost:
        self.dropped.update(cause for _, cause in lost)
        for packet, _ in lost:
            self._gone.lost(packet)
        return lost

    def _refuse(self, packet: Packet, cause: Cause) -> Lost:
        self.dropped[cause] += 1
        self._refused.lost(packet)
        return [(packet, cause)]
