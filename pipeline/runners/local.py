"""A process per node, on this machine; sinks of the caller run in threads of its process."""

from __future__ import annotations

import logging
import shutil
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import zmq

from retain.pipeline.errors import StateError
from retain.pipeline.graph import Graph
from retain.pipeline.metrics import GraphStats, NodeState, NodeStats, join
from retain.pipeline.past import Past
from retain.pipeline.runners.accounts import Accounts
from retain.pipeline.runners.base import Run, RunEvent
from retain.pipeline.runners.control import (
    Exit,
    Failed,
    Opened,
    Passed,
    Report,
    Rewired,
    Stop,
    Turned,
    read_from_worker,
)
from retain.pipeline.runners.crew import Crew
from retain.pipeline.runners.process import Child, private_directory
from retain.pipeline.runners.rounds import Holdings, Rounds
from retain.pipeline.runners.snapshots import Export, Snapshots
from retain.pipeline.runners.station import Station
from retain.pipeline.runners.successors import Successors
from retain.pipeline.runners.supervisor import Supervision
from retain.pipeline.runners.wiring import SPARE_SLOTS, Wiring
from retain.pipeline.shares import Use
from retain.pipeline.stage import Sink, SourceInfo
from retain.pipeline.states import adopt
from retain.pipeline.transport.io import IoThread
from retain.pipeline.wire import Fault

log = logging.getLogger(__name__)

POLL_S = 0.02
GRACE_S = 2.0
"""What a worker gets to stop where it is before it is killed."""
STARVED_S = 10.0
"""How long a node may wait for a free slot before whoever keeps pictures is called to account."""


class _Suspicion(NamedTuple):
    """An edge of a node broke: to be held against it unless a death turns out to explain it."""

    due: float
    child: Child
    fault: Fault


class LocalRun(Run):
    def __init__(
        self,
        graph: Graph,
        sinks: Mapping[str, Sink],
        save: Mapping[str, str],
        on_event: Callable[[RunEvent], None] | None,
        supervision: Supervision | None = None,
        pasts: Mapping[str, Past] | None = None,
        holdings: Holdings | None = None,
    ) -> None:
        super().__init__(graph, on_event)
        self._supervision = supervision or Supervision()
        self._directory = private_directory()
        self._wiring = Wiring(graph, self._directory, save, self._supervision.restarts > 0)
        self._order = self._wiring.order
        self._pasts = adopt(pasts or {}, self._directory)
        """What the first processes take over from a snapshot."""
        self._accounts = Accounts(graph)
        self._io = IoThread(f"retain-{graph.name}", self._io_failed)
        self._control = self._io.socket(
            zmq.ROUTER, bind=self._wiring.control, on_message=self._on_worker
        )
        sent = max((past.sent for past in self._pasts.values()), default=0)
        self._rounds = Rounds(graph, holdings, sent) if graph.moves else None
        self._snapshots = Snapshots(self._directory, self._order, self._rounds)
        stations = {
            name: Station(
                self._wiring.spec(graph.nodes[name], Past()),
                self._io,
                self._opened,
                self._node_failed,
                self._station_passed(name),
                sink,
            )
            for name, sink in sinks.items()
        }
        self._crew = Crew(
            self._wiring, self._control, stations, self._rounds, self._snapshots.next_number
        )
        self._successors = Successors(
            graph, self._crew, self._accounts, self._snapshots, self._supervision, self._pasts
        )
        self._obituaries: dict[str, str] = {}
        """Of those whose successors have yet to start."""
        self._suspected: deque[_Suspicion] = deque()
        self._ending: bool | None = None
        """How nodes were told to end: drain or not."""
        self._kill_at: float | None = None
        self._leaving = False
        self._io.every(POLL_S, self._look_after)
        if self._supervision.snapshot_s:
            self._io.every(self._supervision.snapshot_s, self._snap_by_clock)
        # Spawned by the thread that lasts as long as the run: the kernel takes "parent died" to
        # mean that the thread which made the child has ended.
        self._io.call(self._spawn_all)
        self._io.start()

    def stats(self) -> GraphStats:
        reports = self._crew.reports()
        nodes, edges = [], []
        for node in self._order:
            report = reports.get(node.name)
            state: NodeState = "done" if node.name in self._crew.done else "starting"
            now = report.node if report else NodeStats(node.name, node.role, state)
            nodes.append(self._accounts.node(now))
        for edge in self.graph.edges:
            pair = edge.src, edge.dst
            report, taker = reports.get(edge.src), reports.get(edge.dst)
            mine = [e for e in (report.edges if report else []) if e.dst == edge.dst]
            place = [e.src for e in self.graph.inputs(edge.dst)].index(edge.src)
            gone = taker.gone[place] if taker and taker.gone else 0
            edges.append(self._accounts.edge(mine[0] if mine else None, pair, gone))
        limits, moves = self._rounds.told_of() if self._rounds else ({}, 0)
        return join(self.graph.name, self._state(), self._uptime(), nodes, edges, limits, moves)

    def stop(self, drain: bool = True) -> None:
        self._io.call(lambda: self._stop(drain))

    # Everything below runs in the thread of the sockets, unless it says otherwise.

    def _stop(self, drain: bool) -> None:
        if not self.running or self._stopped == "aborted":
            return
        self._stopped = "drained" if drain else "aborted"
        self._event("stopping", "", self._stopped)
        self._end(drain)

    def _end(self, drain: bool) -> None:
        """Tell all nodes: sources to end, or everybody to stop where they are."""
        self._ending = drain
        for name in self._crew.children:
            self._crew.send(name, Stop(drain))
        for station in self._crew.stations.values():
            station.stop(drain)
        if not drain:
            self._successors.give_up()
            self._kill_at = self._kill_at or monotonic() + GRACE_S

    def _node_failed(self, fault: Fault) -> None:
        """A node failed; from any thread. A source's end is downstream's end; a stage's or sink's
        ends the sources, and what is on its way is worked off."""

        def act() -> None:
            self._failed(fault)
            if self.graph.nodes[fault.node].role != "source":
                self._crew.end_rounds()
                self._end(drain=True)

        self._io.call(act)

    def _gone(self, fault: Fault) -> None:
        """The run cannot go on."""
        if self._kill_at is None:
            self._failed(fault)
            self._end(drain=False)

    def _io_failed(self, error: Exception) -> None:
        self._gone(Fault.of(self.graph.name, error))

    def _on_worker(self, parts: list[bytes]) -> None:
        child = self._crew.speaker(parts[0])
        if child is None:
            return
        name = child.spec.name
        match read_from_worker(parts[-1]):
            case Opened(info):
                self._source_opened(name, info)
            case Failed(fault, dying=True):
                child.reason = f"ended because {fault.message}"
            case Failed(fault, fatal=True):
                self._suspected.append(_Suspicion(monotonic() + 3 * POLL_S, child, fault))
            case Failed(fault):
                self._node_failed(fault)
            case Passed() as passed:
                self._snapshots.passed(name, self._accounts.total(passed))
            case Turned(number, use):
                self._turned(name, number, use)
            case Rewired(src, arrived):
                self._accounts.settle((src, name), arrived)
            case Report() as report:
                child.report = report
                if report.starving_s > STARVED_S:
                    self._blame(name)
                if report.last:
                    self._crew.done.add(name)

    def _turned(self, name: str, number: int, use: Use) -> None:
        if self._rounds and self._rounds.told(name, number, use):
            self._crew.send_round()

    def _source_opened(self, name: str, info: SourceInfo) -> None:
        if name not in self._sources:
            self._opened(name, info)

    def _look_after(self) -> None:
        """Notice deaths, kill who does not stop in time, and end the run when all are done."""
        if self._leaving:
            return
        late = self._kill_at is not None and monotonic() > self._kill_at
        for name, child in list(self._crew.children.items()):
            if name in self._crew.away:
                continue
            if child.process.poll() is not None:
                self._io.drain(self._control)  # its last words
                done = name in self._crew.done
                if not done or (self._goes_on() and self._successors.still_needed(name)):
                    self._died(name)
            elif late and name not in self._crew.done:
                child.kill()
            elif self._kill_at is None and (why := child.complaint(self._supervision)):
                child.kill(f"was ended because it {why}")
        while self._suspected and self._suspected[0].due < monotonic():
            self._convict(self._suspected.popleft())
        self._start_successors()
        if late:  # a sink that hangs in the caller's process cannot be killed, only left behind
            self._crew.done.update(self._crew.stations)
        if len(self._crew.done) == len(self._order):
            self._leaving = True
            self._snapshots.give_up()
            for name in self._crew.children:
                self._crew.send(name, Exit())
            threading.Thread(target=self._leave, name="retain-leave", daemon=True).start()

    def _convict(self, suspicion: _Suspicion) -> None:
        _, child, fault = suspicion
        if self._crew.children.get(fault.node) is not child or fault.node in self._crew.away:
            return  # its death explains it
        if self._goes_on():
            child.kill(f"was ended because {fault.message}")
        else:
            self._gone(fault)

    def _died(self, name: str) -> None:
        """Have it started again, within its budget; otherwise the run ends."""
        text, wait_s, why = self._crew.children[name].obituary(), 0.0, ""
        if goes_on := self._goes_on():
            wait_s, why = self._successors.replace(name, monotonic(), self._sources)
        if why or not goes_on:
            self._crew.done.add(name)
            self._gone(Fault(name, "crashed", f"{text} {why}".strip()))
            return
        log.warning("%s It is started again%s.", text, f" in {wait_s:.1f} s" if wait_s else "")
        self._obituaries[name] = text

    def _start_successors(self) -> None:
        try:
            begun = self._successors.look(monotonic(), draining=self._ending is not None)
        except OSError as error:
            self._gone(Fault.of(self.graph.name, error))
            return
        for name in begun:
            self._accounts.restarts[name] += 1
            self._event("restarted", name, self._obituaries[name])

    def _goes_on(self) -> bool:
        """Whether who dies is replaced: also while a run is drained that went well so far."""
        return self._ending is None or (self._ending and not self._errors)

    def snapshot(self, folder: str | Path, timeout: float = 30.0) -> None:
        self._check_can_snapshot()
        export = Export(self._snapshots)

        def act() -> None:
            self._snapshots.want(export.keep)
            if not self._snap():
                self._snapshots.give_up()

        self._io.call(act)
        export.write(Path(folder), self.graph, timeout)

    def _snap_by_clock(self) -> None:
        with suppress(StateError):
            self._check_can_snapshot()
            self._snap()

    def _snap(self) -> bool:
        """Have a barrier sent through the graph, unless one is on its way; False where none can."""
        sources = {node.name for node in self._order if node.role == "source"}
        children = self._crew.children
        if self._ending is not None or sources <= self._crew.done or self._crew.done - sources:
            return False
        if not all(c.report and c.process.poll() is None for c in children.values()):
            return False
        try:
            snap = self._snapshots.begin()
        except OSError as error:
            log.warning("There is no snapshot: %s", error)
            return False
        if snap:
            for name in sources:
                self._crew.send(name, snap)
        return True

    def _station_passed(self, name: str) -> Callable[[Passed | Turned], None]:
        """From the station's thread: what it has had by then, told to the thread of sockets."""

        def passed(message: Passed | Turned) -> None:
            if isinstance(message, Turned):
                self._io.call(lambda: self._turned(name, message.number, message.use))
                return
            came = self._crew.stations[name].came(message.number)
            self._io.call(lambda: self._snapshots.passed(name, message, came))

        return passed

    def _leave(self) -> None:
        """In a thread of its own: see the workers out, then close the sockets."""
        for child in self._crew.children.values():
            child.bury(GRACE_S)
        self._io.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._finish()

    def _blame(self, starving: str) -> None:
        """Name the stage that keeps so many pictures that ``starving`` has no slot left."""
        stats = self.stats()
        hoarder = max(stats.nodes, key=lambda node: node.held_slots)
        if hoarder.held_slots > SPARE_SLOTS:
            self._gone(
                Fault(
                    hoarder.name,
                    "starved",
                    f"{hoarder.name!r} keeps {hoarder.held_slots} pictures, so {starving!r} has had"
                    f" no free slot for {STARVED_S:.0f} s. Copy what a stage keeps"
                    " (frame.image.copy()).",
                )
            )

    def _spawn_all(self) -> None:
        try:
            for node in self._order:
                if node.name not in self._crew.stations:
                    self._crew.spawn(node, self._pasts.get(node.name, Past()))
        except OSError as error:
            self._crew.done.update(n.name for n in self._order if n.name not in self._crew.children)
            self._gone(Fault.of(self.graph.name, error))
            return
        self._crew.send_round()
        for name, station in self._crew.stations.items():
            threading.Thread(
                target=self._run_station, args=(name, station), name=f"retain-{name}", daemon=True
            ).start()

    def _run_station(self, name: str, station: Station) -> None:
        """In a thread of its own: a sink of the caller."""
        station.run()
        self._io.call(lambda: self._crew.done.add(name))
