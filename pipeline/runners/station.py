"""A node and its ends of the edges: the same in a worker process and in the caller's."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from retain.pipeline.errors import StateError
from retain.pipeline.metrics import Meter
from retain.pipeline.node import NodeLoop, Work
from retain.pipeline.packet import Packet
from retain.pipeline.runners.control import (
    Passed,
    Report,
    Rewire,
    Rewired,
    Spec,
    Turned,
    state_file,
)
from retain.pipeline.shares import Use
from retain.pipeline.stage import SourceInfo
from retain.pipeline.tracing import tracer
from retain.pipeline.transport.io import IoThread
from retain.pipeline.transport.ipc import IpcInbox, IpcSender, Releases
from retain.pipeline.transport.store import Store
from retain.pipeline.turns import Turns
from retain.pipeline.wire import Barrier, End, Fault, Round

log = logging.getLogger(__name__)


class Station:
    """Everything of one node except the thread it runs in (``run``) and the one of its sockets."""

    def __init__(
        self,
        spec: Spec,
        io: IoThread,
        on_open: Callable[[str, SourceInfo], None],
        on_fault: Callable[[Fault], None],
        on_barrier: Callable[[Passed | Turned], None],
        made: Any = None,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        name = spec.node.name
        self._spec = spec
        self._on_barrier = on_barrier
        self.ledger = spec.open_ledger()
        self._store = Store(spec.index, spec.slots, io.wake)
        self._senders = [
            IpcSender(
                name, port.peer, port.policy, port.address, io, self._store,
                partial(self.ledger.note, place),
            )
            for place, port in enumerate(spec.outputs)
        ]  # fmt: skip
        self._inbox = None
        if spec.inputs:
            self._inbox = IpcInbox(
                name,
                {port.peer: port.policy for port in spec.inputs},
                {port.peer: port.address for port in spec.inputs},
                io,
                self._store,
                self.ledger.took,
            )
        if self._inbox:
            self._inbox.void(spec.past.void)
            for src in spec.past.ended:
                self._inbox.end(src, End())
        Releases(spec.directory, io, self._store, owns=bool(spec.outputs))
        self._meter = Meter(name, spec.node.role, cpu_s)
        trace = tracer(spec.directory, name)
        self.work = Work(
            spec.node, self._meter, made, spec.save, on_open, spec.past, self.ledger, trace
        )
        self._turns = None
        if spec.past.round_at:
            self._turns = Turns(spec.past.round_at, spec.every, spec.waits)
        self._loop = NodeLoop(
            self.work, self._inbox, self._senders, self._place, on_fault, self._passed, self._turns
        )

    def run(self) -> Fault | None:
        """Run the node to its end, until all it made has been taken."""
        fault = self._loop.run()
        for sender in self._senders:
            sender.wait_ended()
        return fault

    def stop(self, drain: bool) -> None:
        """End a source; without ``drain``, also wake whoever waits, to stop there."""
        self.work.stop()
        if self._turns:
            self._turns.wake()
        if not drain:
            self.due(None)
            self._store.abort()
            if self._inbox:
                self._inbox.abort()
            for sender in self._senders:
                sender.abort()

    def snap(self, number: int) -> None:
        """Have a source send a barrier."""
        self._loop.ask(Barrier(number))

    def due(self, round_: Round | None) -> None:
        """Have a source send a round when it is time; None: there are no more."""
        if self._turns and round_:
            self._turns.give(round_)
        elif self._turns:
            self._turns.end()

    def _passed(self, barrier: Barrier) -> None:
        """In the node's thread (a source's: of the sockets): save what it holds at this moment, or
        take the limit that a round brings."""
        if isinstance(barrier, Round):
            self._on_barrier(Turned(barrier.number, self.work.turn(barrier.limits)))
            return
        path = state_file(self._spec.directory, barrier.number, self._spec.index)
        saved, error, use = False, "", Use(0, 0)
        try:
            saved, use = self.work.save_to(path), self.work.turn({})
        except Exception as failed:  # whatever it is, the stage itself is well
            # A stage that cannot say just now what it holds says StateError, and a snapshot that
            # was given up has no folder any more; others are defects.
            known = isinstance(failed, StateError) or not os.path.isdir(os.path.dirname(path))
            level = logging.INFO if known else logging.WARNING
            log.log(level, "there is no snapshot: %s", failed)
            error = f"{self._spec.name!r} could not save its state: {failed}"
        sent = self._spec.past.sent + self._loop.sent
        edges = [sender.stats() for sender in self._senders]
        told = Passed(barrier.number, saved, sent, self._meter.stats(), edges, error, use)
        self._on_barrier(told)

    def rewire(self, message: Rewire) -> list[Rewired]:
        """Join the ends of edges to the successors of dead processes. In the thread of sockets."""
        self._store.abandon()
        if self._inbox:
            self._inbox.void(message.void)
        for sender in self._senders:
            if found := message.targets.get(sender.dst):
                sender.rewire(*found)
        inbox = self._inbox
        return [] if inbox is None else [
            Rewired(src, inbox.rewire(src, address)) for src, address in message.sources.items()
        ]  # fmt: skip

    def replay(self, addresses: Mapping[str, str], before: Mapping[str, int], void: int) -> None:
        """Everything upstream starts again from where ``before`` packets had come, by producer:
        what came since is passed over when it comes again. In the thread of the sockets."""
        assert self._inbox
        self._inbox.void(void)
        for src, address in addresses.items():
            self._inbox.rewire(src, address, again=before.get(src, 0))

    def came(self, number: int) -> dict[str, int]:
        """Packets by producer that came before this barrier."""
        counts = self._inbox.counts if self._inbox else {}
        return {src: count.at.get(number, count.arrived) for src, count in counts.items()}

    def report(self, rss_bytes: int = 0, last: bool = False) -> Report:
        if self._spec.role == "source":
            self.work.sample()
        # A picture in hand or in a queue is not held back; what exceeds those is.
        queued = sum(sender.waiting() for sender in self._senders)
        queued += self._inbox.waiting() if self._inbox else 0
        held = max(0, self._store.held - queued - 1)
        return Report(
            self._meter.stats(rss_bytes, held),
            [sender.stats() for sender in self._senders],
            self._store.starving_s,
            last,
            [count.gone for count in self._inbox.counts.values()] if self._inbox else [],
        )

    def _place(self, packet: Packet) -> Packet:
        return self._store.place(packet, len(self._senders))
