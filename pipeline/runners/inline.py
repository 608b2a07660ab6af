"""One thread does everything in a fixed order: the runner for tests, scripts and debuggers.

Each packet goes all the way down before the next one enters, so a consumer is never slower than
its producer and edge policies have nothing to drop, except ``rate``, which goes by presentation
time. Several sources take turns, a frame each.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from retain.pipeline.errors import RetainError, StateError
from retain.pipeline.graph import Edge, Graph
from retain.pipeline.mailbox import Gaps, RateGate
from retain.pipeline.metrics import EdgeStats, GraphStats, Meter, join
from retain.pipeline.node import Work
from retain.pipeline.packet import Packet
from retain.pipeline.past import Past
from retain.pipeline.runners.base import Run, RunEvent
from retain.pipeline.runners.rounds import Holdings, Rounds
from retain.pipeline.stage import Sink
from retain.pipeline.states import write
from retain.pipeline.tracing import tracer
from retain.pipeline.transport.base import Stopped
from retain.pipeline.wire import Fault


class _Route:
    """One edge: counts, and the rate gate where it has one."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.captured = 0
        self.dropped: Counter[str] = Counter()
        self._gate = RateGate(edge.policy.fps) if edge.policy.kind == "rate" else None
        self._gaps = Gaps()

    def passes(self, packet: Packet) -> Packet | None:
        """What goes on: the packet, or None where the rate does not let it pass."""
        self.captured += 1
        if self._gate and not self._gate.passes(packet):
            self.dropped["rate"] += 1
            self._gaps.lost(packet)
            return None
        return self._gaps.passes(packet)

    def stats(self) -> EdgeStats:
        dropped = dict(self.dropped)
        delivered = self.captured - sum(dropped.values())
        edge = self.edge
        return EdgeStats(edge.src, edge.dst, str(edge.policy), self.captured, delivered, dropped)


class InlineRun(Run):
    def __init__(
        self,
        graph: Graph,
        sinks: Mapping[str, Sink],
        save: Mapping[str, str],
        on_event: Callable[[RunEvent], None] | None,
        pasts: Mapping[str, Past] | None = None,
        holdings: Holdings | None = None,
    ) -> None:
        super().__init__(graph, on_event)
        past = {node.name: (pasts or {}).get(node.name, Past()) for node in graph.order()}
        self._sent = {name: one.sent for name, one in past.items()}
        """Packets of sources, in the whole run."""
        self._rounds = None
        if graph.moves:
            self._rounds = Rounds(graph, holdings, max(self._sent.values()))
            past = {name: self._rounds.takes_over(name, one) for name, one in past.items()}
        self._wanted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._works = {
            node.name: Work(
                node,
                Meter(node.name, node.role, cpu_s=lambda: 0.0),
                sinks.get(node.name),
                save.get(node.name),
                self._opened,
                past[node.name],
                tracer=tracer(f"{os.getpid()}-{self._started_ns}", node.name),
            )
            for node in graph.order()
        }
        self._routes = {
            name: [_Route(edge) for edge in graph.outputs(name)] for name in self._works
        }
        self._broken: dict[str, Fault] = {}
        threading.Thread(target=self._main, name=f"retain-{graph.name}", daemon=True).start()

    def stats(self) -> GraphStats:
        for work in self._works.values():
            if work.node.role == "source":  # it may be waiting for a camera, and says so
                work.sample()
        nodes = [work.meter.stats() for work in self._works.values()]
        edges = [route.stats() for routes in self._routes.values() for route in routes]
        limits, moves = self._rounds.told_of() if self._rounds else ({}, 0)
        return join(self.graph.name, self._state(), self._uptime(), nodes, edges, limits, moves)

    def stop(self, drain: bool = True) -> None:
        if self.running and self._stopped != "aborted":
            self._stopped = "drained" if drain else "aborted"
            self._event("stopping", "", self._stopped)
        self._stop_sources()

    def snapshot(self, folder: str | Path, timeout: float = 30.0) -> None:
        self._check_can_snapshot()
        answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def act() -> None:
            try:
                self._write(Path(folder))
                answers.put(None)
            except (OSError, RetainError) as error:
                answers.put(error)

        self._wanted.put(act)
        try:
            error = answers.get(timeout=timeout)
        except queue.Empty:
            raise StateError(f"The graph gave no snapshot within {timeout:g} s.") from None
        if error:
            raise StateError(f"The graph gave no snapshot: {error}") from error

    def _write(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="retain-snapshot-") as spare:
            paths = {name: f"{spare}/{place}" for place, name in enumerate(self._works)}
            states = {name: p for name, p in paths.items() if self._works[name].save_to(p)}
            uses = {name: work.turn({}) for name, work in self._works.items()}
            holdings = self._rounds.holdings.as_of(uses) if self._rounds else None
            write(folder, self.graph, self._sent, states, holdings)

    def _main(self) -> None:
        try:
            self._create()
            self._run_sources()
            for name in self._works:
                self._send(name, self._works[name].finish(self._upstream(name)))
        except Stopped:
            pass
        aborted = self._stopped == "aborted"
        for name, work in self._works.items():
            if name in self._broken and not aborted:
                with suppress(Exception):  # the fault that broke it has been told
                    work.salvage()
            try:
                work.close(aborted=aborted)
            except Exception as error:
                self._break(name, error)
            work.meter.state("failed" if name in self._broken else "done")
        self._finish()

    def _upstream(self, name: str) -> Fault | None:
        """The first fault above this node."""
        sources = [edge.src for edge in self.graph.inputs(name)]
        told = (self._broken.get(src) or self._upstream(src) for src in sources)
        return next((fault for fault in told if fault), None)

    def _create(self) -> None:
        for name, work in self._works.items():
            try:
                work.create()
            except Exception as error:
                self._break(name, error)

    def _run_sources(self) -> None:
        """A frame of each source in turn, until all have ended."""
        if self._broken:
            return
        running = {
            name: work.frames() for name, work in self._works.items() if work.node.role == "source"
        }
        while running:
            for name, frames in list(running.items()):
                if self._send_one(name, frames):
                    self._sent[name] += 1
                    self._let_go(name)
                else:
                    del running[name]
            while not self._wanted.empty():
                self._wanted.get()()

    def _let_go(self, source: str) -> None:
        """The round that is due after this frame: as in processes, nodes pass it in order."""
        if self._rounds and self._sent[source] >= self._rounds.at:
            due = self._rounds.due(1)
            for name, work in self._works.items():
                if name in self._broken:
                    return
                try:
                    use = work.turn(due.limits)
                except Exception as error:
                    self._break(name, error)
                    return
                self._rounds.told(name, due.number, use)

    def _send_one(self, name: str, packets: Iterator[Packet]) -> bool:
        """Take one packet from a node and see it all the way down; False at the node's end."""
        if self._stopped == "aborted":
            raise Stopped
        try:
            packet = next(packets, None)
        except (Exception, SystemExit) as error:
            self._break(name, error)
            return False
        if packet is None:
            return False
        for route in self._routes[name]:
            if passed := route.passes(packet):
                self._deliver(route.edge.dst, passed)
        return True

    def _send(self, name: str, packets: Iterator[Packet]) -> None:
        if name in self._broken:
            return
        while self._send_one(name, packets):
            pass

    def _deliver(self, name: str, packet: Packet) -> None:
        work = self._works[name]
        if name in self._broken:
            work.meter.count("failed")
            return
        self._send(name, work.process(packet))

    def _break(self, name: str, error: BaseException) -> None:
        """A broken source ends alone; a broken stage or sink ends the run, sources first."""
        if name in self._broken:
            return
        self._broken[name] = fault = Fault.of(name, error)
        self._works[name].meter.state("failed")
        self._failed(fault)
        if self._works[name].node.role != "source":
            self._stop_sources()

    def _stop_sources(self) -> None:
        for work in self._works.values():
            if work.node.role == "source":
                work.stop()
