"""Which frames a memory takes in: one rule for every memory, by the router's decision or without.

The rule gives the ``gate`` of ``Memory.write``: 1 writes, 0 does not, between them a write counts
for less. It has no state: the same frames are written whatever ran before, so a stage that goes on
from a snapshot needs nothing of it. What each rule is worth to each memory is measured by
``retain bench writes``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from retain.pipeline.errors import UsageError, nearest
from retain.pipeline.results import Route

Kind = Literal["every", "routed", "clear", "scaled", "random"]


@dataclass(frozen=True, slots=True)
class WriteRule:
    """As written in a graph or on a command line:

    ``every``     each frame; ``every:K`` each whose ``seq`` divides by K
    ``routed``    those that the router does not discard
    ``clear``     those that it calls clear
    ``scaled``    each, by how far its score is from ``low`` (0) to ``high`` (1) of its thresholds
    ``random:P``  each with probability P, by a hash of ``seq``: the control at equal writes
    """

    kind: Kind = "every"
    number: float = 1.0

    @classmethod
    def parse(cls, text: str) -> WriteRule:
        """Raises UsageError unless ``text`` is one of the above."""
        name, _, given = text.partition(":")
        if name not in get_args(Kind):
            raise UsageError(
                f"There is no write rule {name!r}.",
                hint=nearest(name, get_args(Kind)) or "One of: " + ", ".join(get_args(Kind)),
            )
        wants = name in ("every", "random")
        try:
            number = float(given) if given else 1.0
        except ValueError:
            number = -1.0
        fits = number >= 1 and number.is_integer() if name == "every" else 0 <= number <= 1
        if not fits or (given and not wants) or (name == "random" and not given):
            raise UsageError(
                f"{text!r} is no write rule.",
                hint="every, every:4 (a whole number), random:0.25 (a share), "
                "routed, clear, scaled (no number).",
            )
        return cls(name, number)  # type: ignore[arg-type]

    def __str__(self) -> str:
        if self.kind == "every":
            return "every" if self.number == 1 else f"every:{int(self.number)}"
        return f"random:{self.number:g}" if self.kind == "random" else self.kind

    @property
    def by_router(self) -> bool:
        return self.kind in ("routed", "clear", "scaled")

    def gate(self, seq: int, route: Route | None = None, *, empty: bool = False) -> float:
        """The gate in [0, 1] of frame ``seq``. A memory that is ``empty`` takes what comes.

        Raises UsageError when the router is needed and did not look at the frame.
        """
        if self.by_router and route is None:
            raise UsageError(
                f"The write rule {self.kind!r} goes by the router, which did not see frame {seq}.",
                hint="Put `encode` and `remember` before this stage, or take the rule `every`.",
            )
        if empty:
            return 1.0
        if self.kind == "every":
            return float(seq % int(self.number) == 0)
        if self.kind == "random":
            return float(_unit(seq) < self.number)
        assert route is not None
        if self.kind == "scaled":
            return _between(route.score, route.low, route.high)
        return float(route.state == "clear" or (self.kind == "routed" and route.state == "blurred"))


def _between(score: float, low: float, high: float) -> float:
    """0 at ``low`` and below, 1 at ``high`` and above; 0 where that says nothing."""
    if not score > low:
        return 0.0
    if score >= high:
        return 1.0
    share = (score - low) / (high - low)
    return share if math.isfinite(share) else 0.0


def _unit(seq: int) -> float:
    """A number in [0, 1) of each ``seq``, as if at random (SplitMix64's finaliser)."""
    word = (seq + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    word = (word ^ word >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
    return (word ^ word >> 31) / 2**64
