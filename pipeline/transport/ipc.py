"""Edges between processes: small tickets over ZeroMQ, pixels in shared memory.

Everything is one-way PUSH to PULL over socket files in the run's private directory, and the PULL
end binds. Per edge, tickets go to the consumer and credit to the producer; shares of slots go
back to the ring's owner. A node's own thread sends; what arrives is taken by the ``IoThread``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any

import zmq

from retain.pipeline import wire
from retain.pipeline.errors import PixelsGone, WireError
from retain.pipeline.mailbox import Mailbox
from retain.pipeline.metrics import EdgeStats
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.transport.base import Stopped
from retain.pipeline.transport.credit import Outlet, Window
from retain.pipeline.transport.inproc import Inbox
from retain.pipeline.transport.io import IoThread, Outgoing
from retain.pipeline.transport.ring import Share
from retain.pipeline.transport.store import GATHER, Store
from retain.pipeline.wire import Barrier, Credit, End, Fault, Released, Round, Ticket

GATHER_S = 0.004
"""How long a share may wait for others to go with."""


def edge_address(directory: str, src: int, dst: int, turn: int = 0) -> str:
    """Where an edge's tickets go; its credit goes to ``credit_address`` of it. Each ``turn``, after
    the death of an end, has an address of its own, so that nothing old arrives there."""
    return f"ipc://{directory}/{src}-{dst}.{turn}"


def credit_address(edge: str) -> str:
    return f"{edge}.credit"


def release_address(directory: str, owner: int) -> str:
    return f"ipc://{directory}/{owner}"


class IpcSender:
    """The producer's end of an edge."""

    def __init__(
        self,
        src: str,
        dst: str,
        policy: Policy,
        address: str,
        io: IoThread,
        store: Store,
        note: Callable[[Mailbox], None] = lambda box: None,
    ) -> None:
        self.src, self.dst = src, dst
        self._store = store
        self._io = io
        self._note = note
        """Writes down what became of the packets, whenever that changes."""
        self._outlet = Outlet(policy)
        self._changed = threading.Condition()
        self._end: End | None = None
        self._ended = self._aborted = False
        self._wire(address)

    def _wire(self, address: str) -> None:
        self._out = self._io.outgoing(address)
        self._credits = self._io.socket(
            zmq.PULL, bind=credit_address(address), on_message=self._on_message
        )

    def rewire(self, address: str, taken: int) -> None:
        """The consumer's process died, having taken ``taken`` packets in all; its successor is at
        ``address``. What waits here is the successor's. In the thread of the sockets."""
        with self._changed:
            self._out.close()
            self._io.forget(self._credits)
            self._outlet.reset()
            self._outlet.box.lost(self._outlet.box.delivered - taken)
            self._ended = False
            self._wire(address)
            self._note(self._outlet.box)
            self._changed.notify_all()

    @property
    def sent_bytes(self) -> int:
        """What went through the socket: tickets, never pixels."""
        return self._out.sent_bytes

    def send(self, packet: Packet) -> None:
        with self._changed:
            while not self._aborted and not self._outlet.box.room(packet):
                self._changed.wait()
            if self._aborted:
                raise Stopped
            self._outlet.put(packet)
            self._note(self._outlet.box)
            self._pump()

    def mark(self, barrier: Barrier) -> None:
        with self._changed:
            self._outlet.box.mark(barrier)
            self._pump()

    def end(self, fault: Fault | None = None) -> None:
        with self._changed:
            self._end = End(fault)
            self._pump()

    def wait_ended(self) -> None:
        """Return when everything, the end included, has been sent; or the run was cut short."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._aborted)

    def abort(self) -> None:
        with self._changed:
            self._aborted = True
            self._outlet.box.clear("stopped")
            self._changed.notify_all()

    def waiting(self) -> int:
        return len(self._outlet.box)

    def stats(self) -> EdgeStats:
        with self._changed:
            return EdgeStats.of(self.src, self.dst, self._outlet.box)

    def _on_message(self, parts: list[bytes]) -> None:
        message = _only(parts)
        if not isinstance(message, Credit):
            raise WireError(f"The consumer of {self.src} -> {self.dst} sent no credit.")
        with self._changed:
            self._outlet.grant(message.packets)
            self._pump()
            self._changed.notify_all()

    def _pump(self) -> None:
        """With the lock held, so that order is kept: send what has credit; the rest needs none."""
        box = self._outlet.box
        while True:
            if barrier := box.barrier:
                box.pass_barrier()
                self._out.send(wire.pack(barrier))
            elif packet := self._outlet.take():
                self._note(box)  # first: what was sent but not written down would come from nowhere
                self._out.send(wire.encode(packet, self._store.ticket(packet)))
            else:
                break
        if self._end and not self._ended and self._outlet.met and not len(box):
            self._out.send(wire.pack(self._end))
            self._ended = True
            self._changed.notify_all()


class IpcInbox(Inbox):
    """The consumer's end of all edges that lead into a node."""

    def __init__(
        self,
        name: str,
        policies: Mapping[str, Policy],
        addresses: Mapping[str, str],
        io: IoThread,
        store: Store,
        note: Callable[[int], None] = lambda place: None,
    ) -> None:
        super().__init__(name, policies)
        self._store = store
        self._io = io
        self._policies = policies
        self._note = {src: partial(note, place) for place, src in enumerate(policies)}
        """Writes down that a packet was taken."""
        self._windows = {src: Window(policy) for src, policy in policies.items()}
        self.boxes = {
            src: Mailbox(Policy("block", window.size), max_bytes=2**63)
            for src, window in self._windows.items()
        }
        self._tickets: dict[str, zmq.Socket[bytes]] = {}
        self._credit: dict[str, Outgoing] = {}
        self._skip = dict.fromkeys(policies, 0)
        for src, address in addresses.items():
            self._wire(src, address)

    def _wire(self, src: str, address: str) -> None:
        self._tickets[src] = self._io.socket(zmq.PULL, bind=address, on_message=self._handler(src))
        self._credit[src] = self._io.outgoing(credit_address(address))

    def rewire(self, src: str, address: str, again: int | None = None) -> int:
        """The producer's process died; its successor is at ``address``. Packets of the dead one
        that have arrived stay. Returns how many ever did. In the thread of the sockets.

        ``again``: the successor repeats every packet after so many; those known are passed over.
        """
        self._io.drain(self._tickets[src])
        with self.changed:
            self._io.forget(self._tickets[src])
            self._credit[src].close()
            self._windows[src] = Window(self._policies[src])
            self._ended.pop(src, None)
            count = self.counts[src]
            if again is not None:
                count.arrived, count.gone = count.arrived - count.gone, 0
                self._skip[src] = count.arrived - again
            self._wire(src, address)
            self.changed.notify_all()
            return count.arrived

    def mark(self, src: str, barrier: Barrier) -> None:
        count = self.counts[src]
        if not isinstance(barrier, Round):
            count.at = {barrier.number: count.arrived - self._skip[src]}
        super().mark(src, barrier)

    def waiting(self) -> int:
        return sum(len(box) for box in self.boxes.values())

    def idle(self) -> None:
        for src in self.boxes:
            self._grant(src, idle=True)

    def taken(self, src: str) -> None:
        self._note[src]()
        self._grant(src, idle=False)

    def _grant(self, src: str, idle: bool) -> None:
        if src in self._ended:
            return
        if packets := self._windows[src].ask(len(self.boxes[src]), idle):
            self._credit[src].send(wire.pack(Credit(packets)))

    def _handler(self, src: str) -> Any:
        def on_message(parts: list[bytes]) -> None:
            message = _only(parts)
            if isinstance(message, End):
                self.end(src, message)
            elif isinstance(message, Barrier):
                self.mark(src, message)
            elif isinstance(message, Ticket):
                self._arrived(src, message)
            else:
                raise WireError(f"The producer of {src} -> {self.name} sent no packet.")

        return on_message

    def _arrived(self, src: str, ticket: Ticket) -> None:
        try:
            packet = ticket.packet(self._store.open(ticket.pixels))
        except PixelsGone:
            packet = None
        with self.changed:
            self._windows[src].arrived()
            if self._aborted:
                return
            if self._skip[src]:
                self._skip[src] -= 1
                self.changed.notify_all()
                return
            self.counts[src].arrived += 1
            if packet is None:
                self.counts[src].gone += 1
            else:
                self.boxes[src].put(packet)
            self.changed.notify_all()


class Releases:
    """Brings shares of slots home: takes those of the own ring in, sends the others out.

    Rings have spare slots, so shares are gathered for a moment and go in one message.
    """

    def __init__(self, directory: str, io: IoThread, store: Store, owns: bool) -> None:
        self._directory, self._io, self._store = directory, io, store
        self._peers: dict[int, Outgoing] = {}
        self._next = 0.0
        if owns:
            address = release_address(directory, store.owner)
            io.socket(zmq.PULL, bind=address, on_message=self._on_message)
        io.every(0, self._flush)

    def _on_message(self, parts: list[bytes]) -> None:
        message = _only(parts)
        if not isinstance(message, Released):
            raise WireError("Something other than shares of slots was given back.")
        self._store.returned([Share(self._store.owner, *share) for share in message.shares])

    def _flush(self) -> None:
        if not (pending := self._store.pending):
            return
        if pending < GATHER and monotonic() < self._next:
            self._io.look_by(self._next)
            return
        self._next = monotonic() + GATHER_S
        for owner, shares in self._store.outgoing().items():
            if owner not in self._peers:
                self._peers[owner] = self._io.outgoing(release_address(self._directory, owner))
            rows = [tuple(share[1:]) for share in shares]
            self._peers[owner].send(wire.pack(Released(rows)))  # type: ignore[arg-type]


def _only(parts: list[bytes]) -> wire.Message:
    if len(parts) != 1:
        raise WireError(f"A message came in {len(parts)} parts; ours have one.")
    return wire.decode(parts[0])
