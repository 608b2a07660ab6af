"""Numbers of a running graph: what went in, out and missing, how long it took, how old it was."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from retain.pipeline.mailbox import Mailbox
from retain.pipeline.stage import StatValue

NodeState = Literal["starting", "running", "done", "failed"]
RunState = Literal["starting", "running", "stopping", "done", "failed"]
WINDOW = 1024
"""Packets that quantiles look back on."""


class Spread(msgspec.Struct, frozen=True):
    """A distribution in milliseconds: mean and maximum of all, quantiles of the last 1024."""

    mean: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    max: float = 0.0


class NodeStats(msgspec.Struct, frozen=True):
    """One node. ``dropped`` and ``queue_*`` are of the edges that lead into it."""

    name: str
    role: str
    state: NodeState = "starting"
    received: int = 0
    sent: int = 0
    failed: int = 0
    """Packets in hand when the node failed, or refused after it had."""
    quarantined: int = 0
    """Packets left out because the node's process had died of them."""
    dropped: dict[str, int] = {}
    queue_packets: int = 0
    queue_bytes: int = 0
    service_ms: Spread = Spread()
    """Time spent on a packet, waiting for neighbours not counted."""
    age_ms: Spread = Spread()
    """Age of frames when the node was done with them, since they reached this host."""
    restarts: int = 0
    memory_bytes: int = 0
    """What the node's own ``stats()`` calls ``memory_bytes``."""
    cpu_s: float = 0.0
    """CPU time of the node's process or thread; 0 when it shares one with other nodes."""
    rss_bytes: int = 0
    """Resident memory of the node's process; 0 when it shares the caller's."""
    held_slots: int = 0
    """Pictures in shared memory that the node keeps from being reused."""
    extra: dict[str, StatValue] = {}
    """Everything else the node's ``stats()`` says."""


class EdgeStats(msgspec.Struct, frozen=True):
    """One edge. Always: captured = delivered + sum of dropped + waiting."""

    src: str
    dst: str
    policy: str
    captured: int = 0
    delivered: int = 0
    dropped: dict[str, int] = {}
    waiting: int = 0
    waiting_bytes: int = 0

    @classmethod
    def of(cls, src: str, dst: str, box: Mailbox) -> EdgeStats:
        return cls(
            src,
            dst,
            str(box.policy),
            box.captured,
            box.delivered,
            {str(cause): count for cause, count in box.dropped.items()},
            len(box),
            box.nbytes,
        )


class GraphStats(msgspec.Struct, frozen=True):
    """The whole run at one moment. ``msgspec.json.encode`` writes it for the page."""

    graph: str
    state: RunState
    uptime_s: float
    nodes: list[NodeStats] = []
    edges: list[EdgeStats] = []
    limits: dict[str, int] = {}
    """Bytes each stage may remember in, where the graph has one budget and they may move."""
    moves: int = 0
    """Limits that were changed so far."""

    def node(self, name: str) -> NodeStats:
        """The node called ``name``; KeyError when there is none."""
        node = self.find(name)
        if node is None:
            raise KeyError(name)
        return node

    def find(self, name: str) -> NodeStats | None:
        return next((node for node in self.nodes if node.name == name), None)


class _Series:
    """Mean and maximum of everything, quantiles of the latest values. Seconds in, ms out."""

    def __init__(self) -> None:
        self.count, self.total, self.max = 0, 0.0, 0.0
        self.recent: deque[float] = deque(maxlen=WINDOW)

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.max = max(self.max, seconds)
        self.recent.append(seconds)

    def spread(self) -> Spread:
        if not self.count:
            return Spread()
        ranked = sorted(self.recent)
        last = len(ranked) - 1
        return Spread(
            mean=1e3 * self.total / self.count,
            p50=1e3 * ranked[round(0.50 * last)],
            p95=1e3 * ranked[round(0.95 * last)],
            max=1e3 * self.max,
        )


class Meter:
    """Counts for one node. The node's thread writes, any thread may take ``stats()``."""

    REPORT_EVERY_S = 0.5

    def __init__(
        self,
        name: str,
        role: str,
        cpu_s: Callable[[], float] = time.thread_time,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._lock = threading.Lock()
        self._clock_ns = clock_ns
        self._cpu_clock = cpu_s
        self._name, self._role = name, role
        self._state: NodeState = "starting"
        self._counts: Counter[str] = Counter()
        self._service, self._age = _Series(), _Series()
        self._own: dict[str, StatValue] = {}
        self._own_at = -self.REPORT_EVERY_S
        self._cpu_s = 0.0

    def state(self, state: NodeState) -> None:
        with self._lock:
            self._state = state

    def count(
        self, what: Literal["received", "sent", "failed", "quarantined"], number: int = 1
    ) -> None:
        with self._lock:
            self._counts[what] += number

    def served(self, service_ns: int, age_ns: int) -> None:
        """A packet was worked on for ``service_ns``; its frame left the node ``age_ns`` old."""
        with self._lock:
            self._service.add(service_ns / 1e9)
            self._age.add(age_ns / 1e9)

    def sample(self, report: Callable[[], Mapping[str, StatValue]] | None, last: bool) -> None:
        """Ask the node for its own numbers, at most every half second. From its own thread."""
        now = self._clock_ns() / 1e9
        if not last and now - self._own_at < self.REPORT_EVERY_S:
            return
        own = dict(report()) if report else {}
        with self._lock:
            self._own, self._own_at, self._cpu_s = own, now, self._cpu_clock()

    def stats(self, rss_bytes: int = 0, held_slots: int = 0) -> NodeStats:
        with self._lock:
            extra = dict(self._own)
            return NodeStats(
                name=self._name,
                role=self._role,
                state=self._state,
                received=self._counts["received"],
                sent=self._counts["sent"],
                failed=self._counts["failed"],
                quarantined=self._counts["quarantined"],
                service_ms=self._service.spread(),
                age_ms=self._age.spread(),
                memory_bytes=int(extra.pop("memory_bytes", 0)),
                cpu_s=self._cpu_s,
                rss_bytes=rss_bytes,
                held_slots=held_slots,
                extra=extra,
            )


def join(
    graph: str,
    state: RunState,
    uptime_s: float,
    nodes: Iterable[NodeStats],
    edges: Iterable[EdgeStats],
    limits: Mapping[str, int] | None = None,
    moves: int = 0,
) -> GraphStats:
    """One picture of the run: what edges lost and hold is told of the node they lead into."""
    edges = list(edges)
    joined = []
    for node in nodes:
        inputs = [edge for edge in edges if edge.dst == node.name]
        dropped: Counter[str] = Counter()
        for edge in inputs:
            dropped.update(edge.dropped)
        joined.append(
            msgspec.structs.replace(
                node,
                dropped=dict(dropped),
                queue_packets=sum(edge.waiting for edge in inputs),
                queue_bytes=sum(edge.waiting_bytes for edge in inputs),
            )
        )
    return GraphStats(graph, state, uptime_s, joined, edges, dict(limits or {}), moves)


def prometheus_text(stats: GraphStats) -> str:
    """The same numbers in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

    registry = CollectorRegistry()

    def write(
        kind: type[Counter] | type[Gauge], name: str, text: str, *labels: str
    ) -> Counter | Gauge:
        return kind(f"retain_{name}", text, ["graph", *labels], registry=registry)

    def put(metric: Counter | Gauge, value: float, *labels: str) -> None:
        child = metric.labels(stats.graph, *labels)
        child.inc(value)

    packets = write(Counter, "packets", "Packets of a node by what became of them.", "node", "what")
    drops = write(Counter, "dropped", "Packets lost on an edge.", "src", "dst", "cause")
    waiting = write(Gauge, "waiting_packets", "Packets waiting on an edge.", "src", "dst")
    waiting_bytes = write(Gauge, "waiting_bytes", "Pixel bytes waiting on an edge.", "src", "dst")
    times = write(Gauge, "seconds", "Service time and frame age at exit.", "node", "what", "at")
    restarts = write(Counter, "restarts", "Restarts of a node.", "node")
    memory = write(Gauge, "memory_bytes", "Bytes a node's memories hold.", "node")
    limit = write(Gauge, "limit_bytes", "Bytes a node's memories may hold.", "node")
    resident = write(Gauge, "resident_bytes", "Resident bytes of a node's process.", "node")
    cpu = write(Counter, "cpu_seconds", "CPU time of a node.", "node")
    put(write(Gauge, "uptime_seconds", "Seconds since the run started."), stats.uptime_s)
    for node in stats.nodes:
        for what in ("received", "sent", "failed", "quarantined"):
            put(packets, getattr(node, what), node.name, what)
        for what, spread in (("service", node.service_ms), ("age", node.age_ms)):
            for at in ("mean", "p50", "p95", "max"):
                put(times, getattr(spread, at) / 1e3, node.name, what, at)
        put(restarts, node.restarts, node.name)
        put(memory, node.memory_bytes, node.name)
        if node.name in stats.limits:
            put(limit, stats.limits[node.name], node.name)
        put(resident, node.rss_bytes, node.name)
        put(cpu, node.cpu_s, node.name)
    for edge in stats.edges:
        put(waiting, edge.waiting, edge.src, edge.dst)
        put(waiting_bytes, edge.waiting_bytes, edge.src, edge.dst)
        for cause, count in edge.dropped.items():
            put(drops, count, edge.src, edge.dst, cause)
    return generate_latest(registry).decode()
