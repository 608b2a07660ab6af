"""A node and its ends of the edges: the same in a worker process and in the caller's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from retain.pipeline.metrics import Meter
from retain.pipeline.node import NodeLoop, Work
from retain.pipeline.packet import Packet
from retain.pipeline.runners.control import Report, Spec
from retain.pipeline.stage import SourceInfo
from retain.pipeline.transport.io import IoThread
from retain.pipeline.transport.ipc import IpcInbox, IpcSender, Releases
from retain.pipeline.transport.store import Store
from retain.pipeline.wire import Fault


class Station:
    """Everything of one node except the thread it runs in (``run``) and the one of its sockets."""

    def __init__(
        self,
        spec: Spec,
        io: IoThread,
        on_open: Callable[[str, SourceInfo], None],
        on_fault: Callable[[Fault], None],
        made: Any = None,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        name = spec.node.name
        self._store = Store(spec.index, spec.slots, io.wake)
        self._senders = [
            IpcSender(name, port.peer, port.policy, port.address, io, self._store)
            for port in spec.outputs
        ]
        self._inbox = None
        if spec.inputs:
            self._inbox = IpcInbox(
                name,
                {port.peer: port.policy for port in spec.inputs},
                {port.peer: port.address for port in spec.inputs},
                io,
                self._store,
            )
        Releases(spec.directory, io, self._store, owns=bool(spec.outputs))
        self._meter = Meter(name, spec.node.role, cpu_s)
        self._work = Work(spec.node, self._meter, made, spec.save, on_open)
        self._loop = NodeLoop(self._work, self._inbox, self._senders, self._place, on_fault)

    def run(self) -> Fault | None:
        """Run the node to its end, until all it made has been taken."""
        fault = self._loop.run()
        for sender in self._senders:
            sender.wait_ended()
        return fault

    def stop(self, drain: bool) -> None:
        """End a source; without ``drain``, also wake whoever waits, to stop there."""
        self._work.stop()
        if not drain:
            self._store.abort()
            if self._inbox:
                self._inbox.abort()
            for sender in self._senders:
                sender.abort()

    def report(self, rss_bytes: int = 0, last: bool = False) -> Report:
        # A picture in hand or in a queue is not held back; what exceeds those is.
        queued = sum(sender.waiting() for sender in self._senders)
        queued += self._inbox.waiting() if self._inbox else 0
        held = max(0, self._store.held - queued - 1)
        return Report(
            self._meter.stats(rss_bytes, held),
            [sender.stats() for sender in self._senders],
            self._store.starving_s,
            last,
        )

    def _place(self, packet: Packet) -> Packet:
        return self._store.place(packet, len(self._senders))
