"""A node's side of shared memory: its own ring, the rings it reads, and the shares it holds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from weakref import WeakValueDictionary

from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.transport.base import Stopped
from retain.pipeline.transport.ring import Lease, Ring, Share, _Block, attach, lease_of
from retain.pipeline.wire import PixelRef

ABANDONED_S = 10.0
"""How long a ring is kept from which a dead process never gave its shares back."""
GATHER = 8
"""Shares that are worth a message of their own."""


class Store:
    """``place`` is for the node's thread; everything else for the thread that owns the sockets."""

    def __init__(self, owner: int, slots: int, wake: Callable[[], None]) -> None:
        self.owner = owner
        self._slots = slots
        self._wake = wake
        self._ring: Ring | None = None
        self._retired: dict[int, Ring] = {}
        self._abandoned: deque[tuple[float, Ring]] = deque()
        self._freed = threading.Condition()
        self._stopped = False
        self._waiting_since: float | None = None
        self._current: dict[int, _Block] = {}
        self._blocks: WeakValueDictionary[int, _Block] = WeakValueDictionary()
        self._given: deque[Share] = deque()
        self._taken = self._ended = 0

    @property
    def held(self) -> int:
        """Leases that live in this process."""
        return self._taken - self._ended - len(self._given)

    @property
    def starving_s(self) -> float:
        """How long the node has been waiting for a free slot."""
        since = self._waiting_since
        return 0.0 if since is None else monotonic() - since

    def place(self, packet: Packet, tickets: int) -> Packet:
        """The packet with its pixels where ``tickets`` tickets can point at them.

        Pixels that came through shared memory and were not changed stay where they are; others
        are copied into this node's ring, waiting for a free slot. Raises Stopped.
        """
        lease = lease_of(packet.frame.image)
        if lease and lease.promise(tickets):
            return packet
        image = self._copy(packet.frame.image, tickets)
        return Packet(replace(packet.frame, image=image), packet.results)

    def ticket(self, packet: Packet) -> PixelRef:
        """A reference to a placed packet's pixels, with a share of its own."""
        lease = lease_of(packet.frame.image)
        assert lease, "place the packet first"
        return lease.split()

    def open(self, ref: PixelRef) -> Image:
        """The pixels a ticket points at. Raises PixelsGone when they went with their process."""
        block = self._blocks.get(ref.ring)
        if block is None:
            block = self._blocks[ref.ring] = self._current[ref.owner] = attach(ref)
        block.check(ref)
        return self._lease(ref, block).image()

    def returned(self, shares: list[Share]) -> None:
        """Shares of the own ring came back. Raises WireError when one was never given out."""
        with self._freed:
            for share in shares:
                ring = self._ring if self._ring and share.ring == self._ring.id else None
                ring = ring or self._retired.get(share.ring)
                if ring is None:
                    continue  # a ring this node has replaced and freed
                ring.give_back(share)
                if ring.idle:
                    self._retired.pop(ring.id, None)
            self._freed.notify_all()

    def abandon(self) -> None:
        """A process died that may have held shares of the own ring: they never come back. The
        next picture gets a new ring; the old one stays for those who still read it, for a while."""
        with self._freed:
            if self._ring is not None:
                self._retired.pop(self._ring.id, None)
                if not self._ring.idle:
                    self._abandoned.append((monotonic() + ABANDONED_S, self._ring))
            self._abandoned.extend((monotonic() + ABANDONED_S, r) for r in self._retired.values())
            self._retired.clear()
            self._ring = None
            self._freed.notify_all()

    @property
    def pending(self) -> int:
        """Shares given up here that ``outgoing`` has not told of yet."""
        return len(self._given)

    def outgoing(self) -> dict[int, list[Share]]:
        """Shares given up here since the last call, by owner; the own ones are settled at once."""
        by_owner: dict[int, list[Share]] = {}
        while self._given:
            share = self._given.popleft()
            self._ended += 1
            by_owner.setdefault(share.owner, []).append(share)
        if own := by_owner.pop(self.owner, None):
            self.returned(own)
        return by_owner

    def abort(self) -> None:
        with self._freed:
            self._stopped = True
            self._freed.notify_all()

    def _copy(self, image: Image, tickets: int) -> Image:
        ring, ref = self._claim(image)
        ring.fill(ref, image)  # without the lock: shares come home and tickets leave meanwhile
        lease = self._lease(ref, ring.block)
        lease.promise(tickets)
        return lease.image()

    def _claim(self, image: Image) -> tuple[Ring, PixelRef]:
        with self._freed:
            while not self._stopped:
                ring = self._fitting(image)
                if ref := ring.claim(image):
                    self._waiting_since = None
                    return ring, ref
                self._waiting_since = self._waiting_since or monotonic()
                self._freed.wait()
            self._waiting_since = None
            raise Stopped

    def _fitting(self, image: Image) -> Ring:
        """The ring for a picture of this size; the one before stays while somebody reads it."""
        while self._abandoned and self._abandoned[0][0] < monotonic():
            self._abandoned.popleft()
        if self._ring is None or image.nbytes > self._ring.slot_bytes:
            if self._ring is not None and not self._ring.idle:
                self._retired[self._ring.id] = self._ring
            self._ring = Ring(self.owner, self._slots, image.nbytes)
        return self._ring

    def _lease(self, ref: PixelRef, block: _Block) -> Lease:
        self._taken += 1
        return Lease(ref, block, self._give)

    def _give(self, share: Share) -> None:
        self._given.append(share)
        if len(self._given) in (1, GATHER):
            self._wake()
