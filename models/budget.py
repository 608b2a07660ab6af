"""One budget for all stages of a graph, divided before any of them starts.

Stages may live in processes of their own, so no hub can hold all their memories. What is one is the
sum: each stage that has a budget option gets its share, and its own hub keeps it. Which numbers
these are does not depend on the runner. While the graph runs, bytes move by the same weights
(pipeline/runners/rounds.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from retain.pipeline.catalog import load_class
from retain.pipeline.errors import UsageError
from retain.pipeline.graph import Budget, Graph, Option
from retain.pipeline.shares import apportion

Options = Mapping[str, Option]


@dataclass(frozen=True, slots=True)
class Takes:
    """How a stage is told its budget. ``least``: bytes it needs, of its options, for pictures of up
    to 640x480; ``Budget.least`` says what others need."""

    option: str
    unit: int
    least: Callable[[Options], int]


def _object(options: Options) -> int:
    """Six examples of maps of the working picture, 16:9 at most."""
    side = options.get("side", 480)
    side = side if isinstance(side, int) else 480
    return 400_000 + 130 * side * side


TAKES: dict[str, Takes] = {
    "retain.models.curvestream:Remember": Takes("byte_budget", 1, lambda _: 500_000),
    "retain.models.mamba.stage:Detect": Takes("budget_mb", 10**6, lambda _: 500_000),
    "retain.models.object.stage:SegmentObject": Takes("budget_mb", 10**6, _object),
    "retain.models.ditmem.stage:Imagine": Takes("budget_mb", 10**6, lambda _: 200_000),
    "retain.models.scene.stage:Reconstruct": Takes("budget_mb", 10**6, lambda _: 32_000_000),
}
"""Stages with a budget, by import path."""


def shares(graph: Graph) -> dict[str, int]:
    """Bytes of each stage that takes a budget; empty for a graph without one.

    Raises UsageError when the budget cannot hold what they need at least, gives a weight to a stage
    that takes none, or a stage has a budget of its own besides.
    """
    budget = graph.budget
    return {} if budget is None else apportion(budget.nbytes, _least(graph, budget), budget.weights)


def _least(graph: Graph, budget: Budget) -> dict[str, int]:
    """Of each stage that takes a budget. Raises UsageError."""
    least = {}
    for node in graph.order():
        if node.target in TAKES:
            takes = TAKES[node.target]
            if takes.option in node.options:
                raise UsageError(
                    f"Node {node.name!r} has the option {takes.option!r}, and the graph a budget.",
                    hint="Take one of them out; `weights` says how the budget is divided.",
                )
            least[node.name] = budget.least.get(node.name, takes.least(node.options))
    for name in {**budget.weights, **budget.least}:
        if name not in least:
            raise UsageError(f"The budget speaks of {name!r}, which takes none.")
    return least


def outside(graph: Graph) -> list[str]:
    """Stages that remember something but take no budget: what they hold is small or fixed."""
    return [
        node.name
        for node in graph.order()
        if node.role == "stage"
        and node.target not in TAKES
        and hasattr(load_class(node.target), "save")
    ]


def divided(graph: Graph) -> Graph:
    """The graph with each stage's share among its options; the same one if it has no budget.

    Raises UsageError as ``shares`` does.
    """
    if graph.budget is None:
        return graph
    nodes, told = dict(graph.nodes), shares(graph)
    for name, nbytes in told.items():
        takes, node = TAKES[nodes[name].target], nodes[name]
        value = nbytes if takes.unit == 1 else nbytes / takes.unit
        nodes[name] = msgspec.structs.replace(node, options={**node.options, takes.option: value})
    least = _least(graph, graph.budget)
    budget = msgspec.structs.replace(graph.budget, least=least, shares=told)
    return msgspec.structs.replace(graph, nodes=nodes, budget=budget)
