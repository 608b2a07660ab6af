"""Counts of processes that have died, so that those of nodes and edges go on over restarts.

Always: captured = delivered + dropped + waiting on an edge, and what was delivered to a node is
received, left out (quarantined) or on its way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from retain.pipeline.graph import Graph
from retain.pipeline.ledger import Ledger
from retain.pipeline.metrics import EdgeStats, NodeStats
from retain.pipeline.runners.control import Passed, Spec

Pair = tuple[str, str]
_COUNTS = ("received", "sent", "failed", "quarantined")


class Accounts:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.restarts: Counter[str] = Counter()
        self.clear()

    def clear(self) -> None:
        """Everything starts again."""
        self._nodes = {name: NodeStats(name, n.role) for name, n in self._graph.nodes.items()}
        self._edges = {(e.src, e.dst): self._empty(e.src, e.dst) for e in self._graph.edges}
        self._taken: Counter[Pair] = Counter()

    def begin_at(self, nodes: Iterable[NodeStats], edges: Iterable[EdgeStats]) -> None:
        """Everything starts again from a barrier, when these were the counts: what had been
        captured was delivered or dropped by then."""
        self.clear()
        for node in nodes:
            self._nodes[node.name] = NodeStats(
                node.name, node.role, **{c: getattr(node, c) for c in _COUNTS}
            )
        for edge in edges:
            delivered = edge.captured - sum(edge.dropped.values())
            self._edges[edge.src, edge.dst] = replace(
                edge, delivered=delivered, waiting=0, waiting_bytes=0
            )
            self._taken[edge.src, edge.dst] = delivered

    def _empty(self, src: str, dst: str) -> EdgeStats:
        policy = next(e.policy for e in self._graph.edges if (e.src, e.dst) == (src, dst))
        return EdgeStats(src, dst, str(policy))

    def bury(self, spec: Spec, ledger: Ledger) -> None:
        """A process has died; ``ledger`` is what it left."""
        taken = [ledger.taken(place) for place in range(len(spec.inputs))]
        received = sum(taken) - ledger["quarantined"]
        dead = NodeStats(
            spec.name,
            spec.role,
            received=received,
            sent=ledger["sent"],
            failed=received - ledger["finished"] if spec.inputs else 0,
            quarantined=ledger["quarantined"],
        )
        self._nodes[spec.name] = _sum_nodes(dead, self._nodes[spec.name])
        for place, port in enumerate(spec.inputs):
            self._taken[port.peer, spec.name] += taken[place]
        for place, port in enumerate(spec.outputs):
            left = ledger.edge(place, spec.name, port.peer, str(port.policy))
            pair = spec.name, port.peer
            self._edges[pair] = _sum_edges(left, self._edges[pair])

    def settle(self, pair: Pair, arrived: int) -> None:
        """The producer of an edge is dead, and of its packets so many ever ``arrived`` in the
        consumer's present process: the rest is lost."""
        edge = self._edges[pair]
        self._edges[pair] = _lose(edge, edge.delivered - self._taken[pair] - arrived)

    def owed(self, pair: Pair) -> int:
        """Packets taken from the producer's present process by consumers that are dead."""
        return self._taken[pair] - self._edges[pair].delivered

    def node(self, now: NodeStats) -> NodeStats:
        """Totals of a node, given the counts of its present process."""
        return replace(_sum_nodes(now, self._nodes[now.name]), restarts=self.restarts[now.name])

    def total(self, passed: Passed) -> Passed:
        """The same with the counts of the dead added."""
        edges = [self.edge(e, (e.src, e.dst), 0) for e in passed.edges]
        return replace(passed, node=self.node(passed.node), edges=edges)

    def edge(self, now: EdgeStats | None, pair: Pair, gone: int) -> EdgeStats:
        """Totals of an edge; ``gone`` packets came without pixels."""
        before = self._edges[pair]
        return _lose(_sum_edges(now, before) if now else before, gone)


def _sum_nodes(now: NodeStats, before: NodeStats) -> NodeStats:
    return replace(now, **{c: getattr(now, c) + getattr(before, c) for c in _COUNTS})


def _sum_edges(now: EdgeStats, before: EdgeStats) -> EdgeStats:
    return replace(
        now,
        captured=now.captured + before.captured,
        delivered=now.delivered + before.delivered,
        dropped=dict(Counter(now.dropped) + Counter(before.dropped)),
    )


def _lose(edge: EdgeStats, packets: int) -> EdgeStats:
    if not packets:
        return edge
    dropped = Counter(edge.dropped)
    dropped["crashed"] += packets
    return replace(edge, delivered=edge.delivered - packets, dropped=dict(dropped))
