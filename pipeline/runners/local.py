"""A process per node, on this machine; sinks of the caller run in threads of its process.

A process that dies is started again (docs/runtime.md). In a ``live`` graph it alone is, from its
last saved state, and what it had in hand is counted as lost. In a ``finite`` graph all are, from
the last state of the whole graph, and do the work since then again: the caller's sinks are passed
over what they have had.
"""

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

import msgspec
import zmq
from msgspec.structs import replace

from retain.pipeline.errors import StateError
from retain.pipeline.graph import Graph, Node
from retain.pipeline.ledger import Ledger
from retain.pipeline.metrics import GraphStats, NodeState, NodeStats, join
from retain.pipeline.node import Past
from retain.pipeline.runners.accounts import Accounts
from retain.pipeline.runners.base import Run, RunEvent
from retain.pipeline.runners.control import (
    Exit,
    Failed,
    Opened,
    Passed,
    Report,
    Rewire,
    Rewired,
    Stop,
    read_from_worker,
)
from retain.pipeline.runners.process import Child, environment, private_directory
from retain.pipeline.runners.snapshots import Export, Snapshots, adopt
from retain.pipeline.runners.station import Station
from retain.pipeline.runners.supervisor import Record, Supervision
from retain.pipeline.runners.wiring import SPARE_SLOTS, Wiring
from retain.pipeline.stage import Sink, SourceInfo
from retain.pipeline.transport.io import IoThread
from retain.pipeline.wire import Fault, pack

log = logging.getLogger(__name__)

POLL_S = 0.02
GRACE_S = 2.0
"""What a worker gets to stop where it is before it is killed."""
STARVED_S = 10.0
"""How long a node may wait for a free slot before whoever keeps pictures is called to account."""


class _Suspicion(NamedTuple):
    """An edge of a node broke: to be held against it unless a death turns out to explain it."""

    due: float
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
    ) -> None:
        super().__init__(graph, on_event)
        self._supervision = supervision or Supervision()
        self._directory = private_directory()
        self._wiring = Wiring(graph, self._directory, save, self._supervision.restarts > 0)
        self._order = self._wiring.order
        self._pasts = adopt(pasts or {}, self._directory)
        """What the first processes take over from a snapshot."""
        self._accounts = Accounts(graph)
        self._records = {node.name: Record() for node in self._order}
        self._io = IoThread(f"retain-{graph.name}", self._io_failed)
        self._control = self._io.socket(
            zmq.ROUTER, bind=self._wiring.control, on_message=self._on_worker
        )
        self._snapshots = Snapshots(self._directory, self._order)
        self._stations = {
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
        self._children: dict[str, Child] = {}
        self._done: set[str] = set()
        """Stations and finished processes."""
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
        reports = {name: child.report for name, child in dict(self._children).items()}
        reports |= {name: station.report() for name, station in self._stations.items()}
        nodes, edges = [], []
        for node in self._order:
            report = reports.get(node.name)
            state: NodeState = "done" if node.name in self._done else "starting"
            now = report.node if report else NodeStats(node.name, node.role, state)
            nodes.append(self._accounts.node(now))
        for edge in self.graph.edges:
            pair = edge.src, edge.dst
            report, taker = reports.get(edge.src), reports.get(edge.dst)
            mine = [e for e in (report.edges if report else []) if e.dst == edge.dst]
            place = [e.src for e in self.graph.inputs(edge.dst)].index(edge.src)
            gone = taker.gone[place] if taker and taker.gone else 0
            edges.append(self._accounts.edge(mine[0] if mine else None, pair, gone))
        return join(self.graph.name, self._state(), self._uptime(), nodes, edges)

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
        for name in self._children:
            self._send(name, Stop(drain))
        for station in self._stations.values():
            station.stop(drain)
        if not drain and self._kill_at is None:
            self._kill_at = monotonic() + GRACE_S

    def _node_failed(self, fault: Fault) -> None:
        """A node failed; from any thread. A source's end is downstream's end; a stage's or sink's
        ends the sources, and what is on its way is worked off."""

        def act() -> None:
            self._failed(fault)
            if self.graph.nodes[fault.node].role != "source":
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
        life, _, name = parts[0].decode().partition("/")
        child = self._children[name]
        if int(life) != child.spec.life:
            return  # late words of one that is dead
        if not child.met:
            child.met = True
            while child.unheard:
                self._send(name, child.unheard.popleft())
        match read_from_worker(parts[-1]):
            case Opened(info):
                self._source_opened(name, info)
            case Failed(fault, dying=True):
                child.reason = f"ended because {fault.message}"
            case Failed(fault, fatal=True):
                self._suspected.append(_Suspicion(monotonic() + 3 * POLL_S, fault))
            case Failed(fault):
                self._node_failed(fault)
            case Passed() as passed:
                self._snapshots.passed(name, self._accounts.total(passed))
            case Rewired(src, arrived):
                self._accounts.settle((src, name), arrived)
            case Report() as report:
                child.report = report
                if report.starving_s > STARVED_S:
                    self._blame(name)
                if report.last:
                    self._done.add(name)

    def _source_opened(self, name: str, info: SourceInfo) -> None:
        if name not in self._sources:
            self._opened(name, info)

    def _look_after(self) -> None:
        """Notice deaths, kill who does not stop in time, and end the run when all are done."""
        if self._leaving:
            return
        late = self._kill_at is not None and monotonic() > self._kill_at
        for name, child in list(self._children.items()):
            if self._children[name] is not child:
                continue  # replaced meanwhile, with another that died
            if child.process.poll() is not None:
                if name not in self._done or self._still_needed(name):
                    self._died(name, child)
            elif late and name not in self._done:
                child.kill()
            elif self._kill_at is None and (why := child.complaint(self._supervision)):
                child.kill(f"was ended because it {why}")
        while self._suspected and self._suspected[0].due < monotonic():
            self._convict(self._suspected.popleft().fault)
        if late:  # a sink that hangs in the caller's process cannot be killed, only left behind
            self._done.update(self._stations)
        if len(self._done) == len(self._order):
            self._leaving = True
            self._snapshots.give_up()
            for name in self._children:
                self._send(name, Exit())
            threading.Thread(target=self._leave, name="retain-leave", daemon=True).start()

    def _convict(self, fault: Fault) -> None:
        child = self._children.get(fault.node)
        if child is None or self._ending is not None:
            self._gone(fault)
        else:
            child.kill(f"was ended because {fault.message}")

    def _died(self, name: str, child: Child) -> None:
        """Start it again, within its budget; otherwise the run ends."""
        self._io.drain(self._control)  # its last words
        code, ledger = child.process.returncode, child.ledger
        again = self._records[name].died(monotonic(), code, ledger.hand, self._supervision)
        why = self._cannot_restart()
        if self._ending is not None or not again or why:
            self._done.add(name)
            self._gone(Fault(name, "crashed", f"{child.obituary()} {why}".strip()))
            return
        fault = Fault(name, "crashed", child.obituary())
        began = monotonic()
        if self.graph.promise == "live":
            self._succeed(name, child)
        else:
            self._do_again()
        self._accounts.restarts[name] += 1
        took = 1e3 * (monotonic() - began)
        log.warning("%s It is started again (%.0f ms).", fault.message, took)
        self._event("restarted", name, fault.message)

    def _still_needed(self, name: str) -> bool:
        """Of a finite graph's node that is done: whether somebody may still read its pictures."""
        ends = {dst for _, dst in self._wiring.outputs(name)}
        return self.graph.promise == "finite" and self._ending is None and not ends <= self._done

    def _cannot_restart(self) -> str:
        """Why the work cannot be done again, if so, in a sentence."""
        if self.graph.promise == "live":
            return ""
        sources = self._sources.values()
        if any(info.kind == "live" or not info.repeats for info in sources):
            return "Its work cannot be done again: the source gives every frame once."
        if not self.graph.repeats:
            return "Its work cannot be done again exactly: edges join, or one may drop."
        if self._done.intersection(self._stations):
            return "Its work cannot be done again: a sink has closed."
        return ""

    def _succeed(self, name: str, child: Child) -> None:
        """Live: a new process for this node; its neighbours are told where to find it."""
        child.bury(0.0)
        self._accounts.bury(child.spec, child.ledger)
        inputs, outputs = self._wiring.inputs(name), self._wiring.outputs(name)
        for pair in (*inputs, *outputs):
            self._wiring.renew(pair)
        number = self._snapshots.give_up()
        for other in self._wiring.index:
            if other == name:
                continue
            rewire = Rewire(
                {p[0]: self._wiring.address(p) for p in outputs if p[1] == other},
                {
                    p[1]: (self._wiring.address(p), self._accounts.owed(p))
                    for p in inputs
                    if p[0] == other
                },
                number,
            )
            if station := self._stations.get(other):
                for rewired in station.rewire(rewire):
                    self._accounts.settle((rewired.src, other), rewired.arrived)
            else:
                self._send(other, rewire)
        source = self.graph.nodes[name].role == "source"
        past = Past(
            load=self._state_of(name),
            last=child.last_frame() if source else None,
            poison=self._records[name].poison,
            gap=not source,
            void=number,
            ended=[src for src, dst in inputs if self._bury_done(src, dst)],
        )
        self._spawn(self.graph.nodes[name], past)

    def _state_of(self, name: str) -> str | None:
        """The file with its last state: of this run, or of the one that this run goes on from."""
        if self._snapshots.last:
            return self._snapshots.state_of(name)
        return self._pasts.get(name, Past()).load

    def _bury_done(self, src: str, dst: str) -> bool:
        """Whether this producer is done and dead, so that nobody tells ``dst`` of its end."""
        child = self._children.get(src)
        if child is None or src not in self._done or child.process.poll() is None:
            return False
        if child.report:  # its last words become the ledger's, which know what was lost
            child.report = None
            self._accounts.bury(child.spec, child.ledger)
        self._accounts.settle((src, dst), 0)
        return True

    def _do_again(self) -> None:
        """Finite: all processes start from the last state of the graph, or from the beginning."""
        for child in self._children.values():
            child.kill()
        for child in self._children.values():
            child.bury(0.0)
        for edge in self.graph.edges:
            self._wiring.renew((edge.src, edge.dst))
        void = self._snapshots.give_up()
        point = self._snapshots.last if self._sinks_remember() else None
        self._accounts.clear()
        if point:
            self._accounts.begin_at(*point.counts())
        for name, station in self._stations.items():
            addresses = {p[0]: self._wiring.address(p) for p in self._wiring.inputs(name)}
            station.replay(addresses, point.came[name] if point else {}, void)
        self._done.intersection_update(self._stations)
        for node in self._order:
            if node.name not in self._stations:
                past = self._pasts.get(node.name, Past())
                if point:
                    sent = point.passed[node.name].sent if node.role == "source" else 0
                    past = Past(self._snapshots.state_of(node.name), sent)
                poison = self._records[node.name].poison
                self._spawn(node, replace(past, poison=poison, void=void))

    def _sinks_remember(self) -> bool:
        """Whether what sinks in processes of their own have written is part of the last state."""
        sinks = [n.name for n in self._order if n.role == "sink" and n.name not in self._stations]
        return all(self._snapshots.state_of(name) for name in sinks)

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
        children = self._children
        if self._ending is not None or sources <= self._done or self._done - sources:
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
                self._send(name, snap)
        return True

    def _station_passed(self, name: str) -> Callable[[Passed], None]:
        """From the station's thread: what it has had by then, told to the thread of sockets."""

        def passed(message: Passed) -> None:
            came = self._stations[name].came(message.number)
            self._io.call(lambda: self._snapshots.passed(name, message, came))

        return passed

    def _leave(self) -> None:
        """In a thread of its own: see the workers out, then close the sockets."""
        for child in self._children.values():
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

    def _send(self, name: str, message: msgspec.Struct) -> None:
        child = self._children[name]
        if child.met:
            self._control.send_multipart([child.spec.identity.encode(), pack(message)])
        else:
            child.unheard.append(message)

    def _spawn_all(self) -> None:
        try:
            for node in self._order:
                if node.name not in self._stations:
                    self._spawn(node, self._pasts.get(node.name, Past()))
        except OSError as error:
            self._done.update(n.name for n in self._order if n.name not in self._children)
            self._gone(Fault.of(self.graph.name, error))
            return
        for name, station in self._stations.items():
            threading.Thread(
                target=self._run_station, args=(name, station), name=f"retain-{name}", daemon=True
            ).start()

    def _run_station(self, name: str, station: Station) -> None:
        """In a thread of its own: a sink of the caller."""
        station.run()
        self._io.call(lambda: self._done.add(name))

    def _spawn(self, node: Node, past: Past) -> None:
        spec = self._wiring.spec(node, past)
        assert spec.ledger
        Ledger.prepare(spec.ledger, len(spec.inputs), len(spec.outputs))
        stages = sum(other.role == "stage" for other in self._order)
        self._children[node.name] = Child(spec, environment(stages))
