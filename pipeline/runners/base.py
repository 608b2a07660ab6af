"""What a started graph offers, whatever runs it."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from retain.pipeline.errors import StateError
from retain.pipeline.graph import Graph
from retain.pipeline.metrics import GraphStats, RunState
from retain.pipeline.stage import SourceInfo
from retain.pipeline.wire import Fault

log = logging.getLogger(__name__)

LEAVE_S = 5.0
"""So long an interrupted run is given to end before it is left behind."""


class RunEvent(msgspec.Struct, frozen=True):
    """Something worth telling a person while the graph runs."""

    kind: Literal["opened", "fault", "restarted", "stopping", "ended"]
    node: str
    """Empty when it concerns the whole run."""
    text: str


class RunReport(msgspec.Struct, frozen=True):
    """How a run went."""

    ok: bool
    """No node failed and the run was not cut short."""
    errors: list[Fault]
    """In the order they happened; the first is usually the cause of the others."""
    stats: GraphStats
    sources: dict[str, SourceInfo]
    started_ns: int
    """UTC nanoseconds since the epoch."""
    ended_ns: int
    stopped: Literal["", "drained", "aborted"] = ""
    """Whether somebody stopped it, and how."""


class Run(ABC):
    """A running graph. Used as a context manager, it is cut short when the block ends early."""

    def __init__(self, graph: Graph, on_event: Callable[[RunEvent], None] | None) -> None:
        self.graph = graph
        self._tell = on_event
        self._errors: list[Fault] = []
        self._sources: dict[str, SourceInfo] = {}
        self._stopped: Literal["", "drained", "aborted"] = ""
        self._ended = threading.Event()
        self._started_ns, self._began = time.time_ns(), time.monotonic()
        self._ended_ns, self._lasted = 0, 0.0

    @abstractmethod
    def stats(self) -> GraphStats:
        """Numbers of this moment; from any thread, at any time, also afterwards."""

    @abstractmethod
    def stop(self, drain: bool = True) -> None:
        """Ask for the end and return at once. With ``drain`` sources end and the rest is worked
        off; without, everything stops where it is and sinks keep no results under final names."""

    @abstractmethod
    def snapshot(self, folder: str | Path, timeout: float = 30.0) -> None:
        """Write the graph's state at one moment to a new ``folder``; the run goes on. ``start``
        with ``resume`` goes on from there, in any process, on any host.

        Raises StateError when the stream has ended, the state cannot be had within ``timeout``
        seconds, or ``folder`` cannot be written.
        """

    def _check_can_snapshot(self) -> None:
        rates = any(edge.policy.kind == "rate" for edge in self.graph.edges)
        if self.graph.promise == "finite" and rates:
            raise StateError(
                "A finite graph with a 'rate' edge gives no snapshot: which frame passes next is "
                "in no stage's state.",
                hint="Use the source's fps instead.",
            )

    def wait(self, timeout: float | None = None) -> RunReport:
        """The report, once the run has ended. Raises TimeoutError after ``timeout`` seconds."""
        if not self._ended.wait(timeout):
            raise TimeoutError(f"The graph still runs after {timeout} s.")
        return RunReport(
            ok=not self._errors and self._stopped != "aborted",
            errors=list(self._errors),
            stats=self.stats(),
            sources=dict(self._sources),
            started_ns=self._started_ns,
            ended_ns=self._ended_ns,
            stopped=self._stopped,
        )

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.running:
            self.stop(drain=False)
            with suppress(TimeoutError):  # whoever interrupts does not wait for what hangs
                self.wait(LEAVE_S if kind is KeyboardInterrupt else None)

    def _state(self) -> RunState:
        if self._ended.is_set():
            return "failed" if self._errors else "done"
        return "stopping" if self._stopped or self._errors else "running"

    def _uptime(self) -> float:
        return self._lasted or time.monotonic() - self._began

    def _opened(self, name: str, info: SourceInfo) -> None:
        self._sources[name] = info
        self._event("opened", name, info.description)

    def _failed(self, fault: Fault) -> None:
        self._errors.append(fault)
        self._event("fault", fault.node, fault.message)

    def _finish(self) -> None:
        self._ended_ns, self._lasted = time.time_ns(), time.monotonic() - self._began
        self._event("ended", "", self._errors[0].message if self._errors else "")
        self._ended.set()

    def _event(self, kind: Any, node: str, text: str) -> None:
        try:
            if self._tell:
                self._tell(RunEvent(kind, node, text))
        except Exception:
            log.exception("whoever is told of events of %s failed", self.graph.name)
