"""A process per node, on this machine; sinks of the caller run in threads of its process."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

import msgspec
import psutil
import zmq

from retain.pipeline.errors import UsageError
from retain.pipeline.graph import Graph, Node
from retain.pipeline.metrics import EdgeStats, GraphStats, NodeStats, join
from retain.pipeline.runners.base import Run, RunEvent
from retain.pipeline.runners.control import (
    Exit,
    Failed,
    Opened,
    Port,
    Report,
    Spec,
    Stop,
    read_from_worker,
)
from retain.pipeline.runners.station import Station
from retain.pipeline.stage import Sink
from retain.pipeline.transport.credit import BLOCK_WINDOW
from retain.pipeline.transport.io import IoThread
from retain.pipeline.transport.ipc import edge_address
from retain.pipeline.wire import Fault, pack

log = logging.getLogger(__name__)

POLL_S = 0.05
GRACE_S = 2.0
"""What a worker gets to stop where it is before it is killed."""
STARVED_S = 10.0
"""How long a node may wait for a free slot before whoever keeps pictures is called to account."""
SPARE_SLOTS = 2
"""Pictures a stage may keep beside the one in hand: the previous one, say."""

MAX_DIRECTORY = 90
"""Characters: a socket file's name, directory included, may have 107."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class LocalRun(Run):
    def __init__(
        self,
        graph: Graph,
        sinks: Mapping[str, Sink],
        save: Mapping[str, str],
        on_event: Callable[[RunEvent], None] | None,
    ) -> None:
        super().__init__(graph, on_event)
        self._directory = _private_directory()
        self._control_address = f"ipc://{self._directory}/control"
        self._order = graph.order()
        self._save = save
        self._io = IoThread(f"retain-{graph.name}", self._io_failed)
        self._control = self._io.socket(
            zmq.ROUTER, bind=self._control_address, on_message=self._on_worker
        )
        self._stations = {
            name: Station(
                self._spec(graph.nodes[name]), self._io, self._opened, self._node_failed, sink
            )
            for name, sink in sinks.items()
        }
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._reports: dict[str, Report] = {}
        self._met: set[str] = set()
        self._done: set[str] = set()
        self._suspected: list[tuple[float, Fault]] = []
        """Broken edges, to be held against their node unless a death turns out to explain them."""
        self._ending: bool | None = None
        """How nodes were told to end: drain or not."""
        self._kill_at: float | None = None
        self._leaving = False
        self._io.every(POLL_S, self._look_after)
        # Spawned by the thread that lasts as long as the run: the kernel takes "parent died" to
        # mean that the thread which made the child has ended.
        self._io.call(self._spawn_all)
        self._io.start()

    def stats(self) -> GraphStats:
        reports = dict(self._reports)
        reports |= {name: station.report() for name, station in self._stations.items()}
        nodes, edges = [], []
        for node in self._order:
            report = reports.get(node.name)
            nodes.append(report.node if report else NodeStats(node.name, node.role))
        for edge in self.graph.edges:
            found = [] if edge.src not in reports else reports[edge.src].edges
            mine = [stats for stats in found if stats.dst == edge.dst]
            edges.append(mine[0] if mine else EdgeStats(edge.src, edge.dst, str(edge.policy)))
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
        for name in self._met:
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
        name = parts[0].decode()
        if name not in self._met:
            self._met.add(name)
            if self._ending is not None:  # told before it could hear
                self._send(name, Stop(self._ending))
        match read_from_worker(parts[-1]):
            case Opened(info):
                self._opened(name, info)
            case Failed(fault, fatal=True):
                self._suspected.append((monotonic() + POLL_S, fault))
            case Failed(fault):
                self._node_failed(fault)
            case Report() as report:
                self._reports[name] = report
                if report.starving_s > STARVED_S:
                    self._blame(name)
                if report.last:
                    self._done.add(name)

    def _look_after(self) -> None:
        """Notice deaths, kill who does not stop in time, and end the run when all are done."""
        if self._leaving:
            return
        late = self._kill_at is not None and monotonic() > self._kill_at
        for name, worker in self._workers.items():
            if worker.poll() is not None:
                self._done.add(name)
                self._gone(Fault(name, "crashed", _obituary(name, worker.returncode)))
            elif late and name not in self._done:
                worker.kill()
        for due, fault in self._suspected:
            if monotonic() > due:
                self._gone(fault)
        if late:  # a sink that hangs in the caller's process cannot be killed, only left behind
            self._done.update(self._stations)
        if len(self._done) == len(self._order):
            self._leaving = True
            for name in self._workers:
                self._send(name, Exit())
            threading.Thread(target=self._leave, name="retain-leave", daemon=True).start()

    def _leave(self) -> None:
        """In a thread of its own: see the workers out, then close the sockets."""
        for worker in self._workers.values():
            with suppress(subprocess.TimeoutExpired):
                worker.wait(GRACE_S)
            worker.kill()
            worker.wait()
            assert worker.stdin
            worker.stdin.close()
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
        self._control.send_multipart([name.encode(), pack(message)])

    def _spawn_all(self) -> None:
        for node in self._order:
            if node.name not in self._stations:
                self._workers[node.name] = self._spawn(node)
        for name, station in self._stations.items():
            threading.Thread(
                target=self._run_station, args=(name, station), name=f"retain-{name}", daemon=True
            ).start()

    def _run_station(self, name: str, station: Station) -> None:
        """In a thread of its own: a sink of the caller."""
        station.run()
        self._io.call(lambda: self._done.add(name))

    def _spawn(self, node: Node) -> subprocess.Popen[bytes]:
        stdin = _dup_stdin() if node.role == "source" else None
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "retain.pipeline.worker"],
            stdin=subprocess.PIPE,
            stdout=2,  # results are the caller's to print
            env=self._environment(),
            start_new_session=True,  # Ctrl-C in a terminal is for the parent alone
            pass_fds=() if stdin is None else (stdin,),
        )
        if stdin is not None:
            os.close(stdin)
        assert worker.stdin
        spec = msgspec.structs.replace(self._spec(node), stdin=stdin)
        with suppress(BrokenPipeError):  # it died at once: that is noticed by its exit code
            worker.stdin.write(msgspec.json.encode(spec) + b"\n")
            worker.stdin.flush()
        return worker

    def _environment(self) -> dict[str, str]:
        """Modules are found as here; threads of the processes together match the cores."""
        stages = sum(node.role == "stage" for node in self._order)
        threads = max(1, len(os.sched_getaffinity(0)) // max(1, stages))
        path = os.pathsep.join(entry for entry in sys.path if entry)
        return (
            {name: str(threads) for name in _THREAD_VARIABLES} | os.environ | {"PYTHONPATH": path}
        )

    def _spec(self, node: Node) -> Spec:
        index = {other.name: number for number, other in enumerate(self._order)}

        def port(peer: str, edge_index: int) -> Port:
            edge = edges[edge_index]
            return Port(
                peer, edge.policy, edge_address(self._directory, index[edge.src], index[edge.dst])
            )

        edges = self.graph.edges
        return Spec(
            name=node.name,
            role=node.role,
            target=node.target,
            options=node.options,
            index=index[node.name],
            directory=self._directory,
            control=self._control_address,
            parent_pid=os.getpid(),
            inputs=[port(e.src, i) for i, e in enumerate(edges) if e.dst == node.name],
            outputs=[port(e.dst, i) for i, e in enumerate(edges) if e.src == node.name],
            slots=_slots(self.graph, node.name),
            save=self._save.get(node.name),
            log_level=log.getEffectiveLevel(),
        )


def _slots(graph: Graph, name: str) -> int:
    """Pictures of ``name`` that may be in use at once, if all below it pass them on."""
    slots, seen, ahead = SPARE_SLOTS, set(), [name]
    while ahead:
        for edge in graph.outputs(ahead.pop()):
            if (edge.src, edge.dst) not in seen:
                seen.add((edge.src, edge.dst))
                window = BLOCK_WINDOW if edge.policy.kind == "block" else 1
                slots += edge.policy.depth + window + 1 + SPARE_SLOTS
                ahead.append(edge.dst)
    return slots


def _dup_stdin() -> int | None:
    """The caller's standard input under a number of its own; None when it has none."""
    try:
        return os.dup(0)
    except OSError:
        return None


def _obituary(name: str, code: int) -> str:
    how = f"ended by itself with exit code {code}"
    if code < 0:
        known = {number.value for number in signal.Signals}
        label = signal.Signals(-code).name if -code in known else "no name"
        how = f"was killed by signal {-code} ({label})"
    return f"The process of {name!r} {how} before its work was done."


def _private_directory() -> str:
    """A new directory for socket files, readable by this user alone; those of dead parents go."""
    for old in Path(tempfile.gettempdir()).glob("retain-run-*"):
        found = re.fullmatch(r"retain-run-(\d+)-\w+", old.name)
        if found and old.stat().st_uid == os.getuid() and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(old, ignore_errors=True)
    made = tempfile.mkdtemp(prefix=f"retain-run-{os.getpid()}-")
    if len(made) > MAX_DIRECTORY:
        os.rmdir(made)
        raise UsageError(
            f"Socket files cannot have names as long as {made!r}.",
            hint="Set TMPDIR to a shorter path.",
        )
    return made
