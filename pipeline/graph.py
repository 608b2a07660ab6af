"""A graph is a description: nodes named by import path with plain options, edges with a policy.

It holds no live objects, so the same graph runs inline, as processes, or elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, get_args

import msgspec

from retain.pipeline.errors import GraphError, nearest
from retain.pipeline.policy import BLOCK, Policy

Role = Literal["source", "stage", "sink"]
Promise = Literal["finite", "live"]
"""finite: no frame is lost, none comes twice, whatever process dies; its work is done again.
live: order is kept, frames stay young, every loss is counted with its cause."""
PROMISES: tuple[Promise, ...] = get_args(Promise)
Option = str | int | float | bool | None | list["Option"] | dict[str, "Option"]

CALLER = "caller"
"""Target of a sink whose object the caller passes to ``run``; it lives in the caller's process."""


class Node(msgspec.Struct, frozen=True):
    """One process's worth of work."""

    name: str
    role: Role
    target: str
    """``"package.module:Class"``, or ``"caller"``."""
    options: dict[str, Option] = {}
    """Keyword arguments of the class: only values JSON can say."""


class Edge(msgspec.Struct, frozen=True):
    """Packets from ``src`` to ``dst``."""

    src: str
    dst: str
    policy: Policy = BLOCK


class Budget(msgspec.Struct, frozen=True):
    """Bytes that all stages of a graph may remember in, together."""

    nbytes: int
    weights: dict[str, float] = {}
    """By stage: its part of what is left when all have their least; 1 where none is given."""
    least: dict[str, int] = {}
    """By stage: bytes below which it cannot work, where it needs more than is known of it."""
    every: int = 32
    """Frames between two moments at which bytes may move from stage to stage; 0: they never do."""
    shares: dict[str, int] = {}
    """By stage: bytes at the start, as models/budget.py divides them."""


class Graph(msgspec.Struct):
    """Nodes and edges: add them with ``source``, ``stage``, ``sink``, ``connect``."""

    name: str = "graph"
    promise: Promise = "finite"
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    budget: Budget | None = None

    def source(self, name: str, target: str, /, **options: Option) -> str:
        return self._add(Node(name, "source", target, options))

    def stage(self, name: str, target: str, /, **options: Option) -> str:
        return self._add(Node(name, "stage", target, options))

    def sink(self, name: str, target: str = CALLER, /, **options: Option) -> str:
        return self._add(Node(name, "sink", target, options))

    def connect(self, *names: str, policy: Policy | str = BLOCK) -> None:
        """Chain nodes: ``connect("a", "b", "c")`` makes a→b and b→c."""
        chosen = Policy.parse(policy) if isinstance(policy, str) else policy
        self.edges.extend(Edge(a, b, chosen) for a, b in pairwise(names))

    def _add(self, node: Node) -> str:
        if node.name in self.nodes:
            raise GraphError(f"There are two nodes called {node.name!r}; names are unique.")
        self.nodes[node.name] = node
        return node.name

    def inputs(self, name: str) -> list[Edge]:
        return [edge for edge in self.edges if edge.dst == name]

    def outputs(self, name: str) -> list[Edge]:
        return [edge for edge in self.edges if edge.src == name]

    def order(self) -> list[Node]:
        """Nodes so that each comes after everything that feeds it. Raises GraphError on a cycle."""
        waiting = {name: {edge.src for edge in self.inputs(name)} for name in self.nodes}
        done: list[Node] = []
        while waiting:
            ready = [name for name, needs in waiting.items() if not needs]
            if not ready:
                raise GraphError(f"The graph has a cycle through {', '.join(sorted(waiting))}.")
            for name in ready:
                del waiting[name]
                done.append(self.nodes[name])
            for needs in waiting.values():
                needs.difference_update(ready)
        return done

    @property
    def repeats(self) -> bool:
        """Whether the same frames make the same packets come in the same order everywhere: not
        where edges join, whose order is that of time, nor where one may drop."""
        joins = any(len(self.inputs(name)) > 1 for name in self.nodes)
        return not joins and all(edge.policy.kind in ("block", "rate") for edge in self.edges)

    @property
    def moves(self) -> bool:
        """Whether bytes may move between its stages. With several sources nothing says which of
        their frames belong to one moment, so all keep what they have at the start."""
        sources = sum(node.role == "source" for node in self.nodes.values())
        return (
            sources == 1
            and self.budget is not None
            and bool(self.budget.every and self.budget.shares)
        )

    def validate(self) -> None:
        """Raise GraphError unless every node is connected as its role allows, without a cycle."""
        if not any(node.role == "source" for node in self.nodes.values()):
            raise GraphError("The graph has no source, so nothing would happen.")
        seen: set[tuple[str, str]] = set()
        for edge in self.edges:
            for end in (edge.src, edge.dst):
                if end not in self.nodes:
                    raise GraphError(
                        f"An edge names {end!r}, but there is no such node.",
                        hint=nearest(end, self.nodes),
                    )
            if (edge.src, edge.dst) in seen:
                raise GraphError(f"The edge {edge.src} -> {edge.dst} is there twice.")
            seen.add((edge.src, edge.dst))
        for node in self.nodes.values():
            self._check_role(node)
        self.order()

    def _check_role(self, node: Node) -> None:
        inputs, outputs = len(self.inputs(node.name)), len(self.outputs(node.name))
        if node.role == "source" and inputs:
            raise GraphError(f"{node.name!r} is a source, yet an edge leads into it.")
        if node.role == "sink" and outputs:
            raise GraphError(f"{node.name!r} is a sink, yet an edge leads out of it.")
        if node.role != "source" and not inputs:
            raise GraphError(f"Nothing feeds {node.name!r}; connect it or remove it.")
        if node.role == "source" and not outputs:
            raise GraphError(f"The source {node.name!r} feeds nothing; connect it or remove it.")


def check_caller_sinks(graph: Graph, given: Mapping[str, object]) -> None:
    """Raise GraphError unless exactly the sinks marked ``caller`` were given objects."""
    wanted = {name for name, node in graph.nodes.items() if node.target == CALLER}
    if wanted != set(given):
        missing, extra = sorted(wanted - set(given)), sorted(set(given) - wanted)
        raise GraphError(
            f"Sinks living with the caller do not match: missing {missing}, unexpected {extra}."
        )
