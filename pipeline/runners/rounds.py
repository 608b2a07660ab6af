"""Bytes that move between the stages of a running graph.

Every so many frames the source sends a round down the edges, between the packets. Each node, as it
passes, takes its new limit, if it has one, and says what it needs. When all have, it is decided
what the next round changes: only smaller limits, or only larger ones out of what nobody has. So
whoever shrinks has done it before anybody grows, and the sum is never above the budget; and as
nothing counts but what was held at a frame, the same frames bring the same limits in every runner.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from retain.pipeline.errors import StateError
from retain.pipeline.graph import Budget, Graph
from retain.pipeline.past import Past
from retain.pipeline.shares import Use, moved
from retain.pipeline.wire import Count, Positive, Round

Bytes = dict[str, Count]


class Holdings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who has what: part of the graph's state."""

    budget: Budget
    number: Positive
    """Of the next round; of a finite graph it comes after ``number * budget.every`` frames."""
    limits: Bytes
    """Of each stage, when the last round had passed all."""
    orders: Bytes = {}
    """Limits that the next round changes."""
    peaks: Bytes = {}
    """The most that each stage needed in any round."""
    needs: Bytes = {}
    """What each stage needed when it last could say: after ``load`` that may be a frame later."""
    moves: Count = 0
    """Limits that were changed so far."""

    def after(self, uses: Mapping[str, Use]) -> Holdings:
        """When a round has passed all."""
        budget = self.budget
        limits = {name: uses[name].limit or held for name, held in self.limits.items()}
        needs = self._needs(uses)
        now = {name: Use(limit, needs[name]) for name, limit in limits.items()}
        peaks = {name: max(use.need, self.peaks.get(name, 0)) for name, use in now.items()}
        orders = moved(budget.nbytes, budget.shares, budget.least, budget.weights, now, peaks)
        return replace(
            self,
            number=self.number + 1,
            limits=limits,
            orders=orders,
            peaks=peaks,
            needs=needs,
            moves=self.moves + sum(limits[name] != held for name, held in self.limits.items()),
        )

    def as_of(self, uses: Mapping[str, Use]) -> Holdings:
        """The same as part of a state, at the moment of these ``uses``."""
        return replace(self, needs=self._needs(uses))

    def _needs(self, uses: Mapping[str, Use]) -> Bytes:
        return {name: uses[name].need or self.needs.get(name, 0) for name in self.limits}


class Rounds:
    """The round that is on its way, and the holdings as the last whole one left them."""

    def __init__(self, graph: Graph, saved: Holdings | None = None, sent: int = 0) -> None:
        """``saved``: of the state that the graph goes on from; kept to if it is of the same budget.
        ``sent``: frames its source had given."""
        assert graph.budget is not None
        self.nodes = list(graph.nodes)
        (self.source,) = (node.name for node in graph.nodes.values() if node.role == "source")
        self._waits = graph.promise == "finite"
        self.holdings = Holdings(
            graph.budget, sent // graph.budget.every + 1, dict(graph.budget.shares)
        )
        if saved and saved.budget == graph.budget:
            number = saved.number if self._waits else self.holdings.number
            self.holdings = replace(saved, number=number)
        self.begun = self.holdings
        """Where the run began."""
        self._told: dict[str, Use] = {}
        self._number = 0

    @property
    def at(self) -> int:
        """Frames after which the next round goes, in the whole run."""
        return self.holdings.number * self.holdings.budget.every

    def takes_over(self, name: str, past: Past) -> Past:
        """What the next process of a node takes over, its bytes included. A live source counts its
        frames anew."""
        if name == self.source:
            at = self.at if self._waits else self.holdings.budget.every
            return replace(past, round_at=at)
        return replace(past, limit=self.holdings.limits.get(name, 0))

    def due(self, number: int) -> Round:
        """The next round as the barrier ``number``; words about earlier ones count no more."""
        self._number, self._told = number, {}
        return Round(number, dict(self.holdings.orders))

    def told(self, name: str, number: int, use: Use) -> bool:
        """A round has passed this node; True when it has passed all."""
        if number != self._number:
            return False
        self._told[name] = use
        if len(self._told) < len(self.nodes):
            return False
        self.holdings = self.holdings.after(self._told)
        return True

    def told_of(self) -> tuple[dict[str, int], int]:
        """Limits now, and how often one was changed; from any thread."""
        now = self.holdings
        return dict(now.limits), now.moves

    def back_to(self, holdings: Holdings | None) -> None:
        """The work is done again from where this was so; None: from where the run began."""
        self.holdings = holdings or self.begun
        self._number = 0

    def lose(self) -> None:
        """A process has died, and with it perhaps a round on its way: who had passed it has its new
        limit, the others not. The next one finds out, and changes nothing."""
        self.holdings = replace(self.holdings, orders={})


def checked(holdings: Holdings) -> Holdings:
    """Raises StateError for one that no run could have written."""
    names, budget = set(holdings.limits), holdings.budget
    told = {*holdings.orders, *holdings.peaks, *holdings.needs}
    known = names == set(budget.shares) and names >= told
    now, then = holdings.limits, {**holdings.limits, **holdings.orders}
    if not known or max(sum(now.values()), sum(then.values())) > budget.nbytes:
        raise StateError("The snapshot's limits are not those of a graph with a budget.")
    return holdings
