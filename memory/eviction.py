"""Which row leaves a full memory. A policy ranks the rows held; the lowest leaves first.

All but ``Robust`` are published methods or baselines, kept to be compared with at equal budgets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.memory.table import Table
from retain.pipeline.errors import UsageError, nearest

COLUMNS = {
    "seconds": np.float64,
    "score": np.float64,
    "key": np.float64,
    "novelty": np.float64,
    "mass": np.float64,
}
"""What every policy may read of a row; ``key`` is its own, given once on arrival, and ``mass`` the
seconds of stream that the row stands for, counted by those that rank by it."""

Ranks = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a frame when it is offered."""

    number: int
    """How many frames of the stream were offered before it."""
    score: float
    novelty: float
    """1 - cosine to what the stream looked like lately; see memory/background.py."""
    gate: float = 1.0


class Policy:
    """First in, first out; and the defaults of the others."""

    routed = True
    """False: takes every frame, whatever the router says (content-blind baselines)."""
    demotes = False
    """True: a Clear picture becomes Blurred before anything is dropped for space."""
    similarity = False
    """True: needs the cosines between rows."""
    weighs = False
    """True: is told of every frame that is not kept, too."""

    def key(self, arrival: Arrival) -> float:
        """A number to keep with the row."""
        return arrival.gate

    def rank(self, held: Table) -> Ranks:
        """[rows]: lowest leaves first; of equals the oldest."""
        return held.order.astype(np.float64)

    def detail(self, held: Table) -> Ranks:
        """[rows]: of the Clear ones the lowest becomes Blurred first, where a policy demotes."""
        return self.rank(held)

    def passed(self, held: Table, cosine: NDArray[np.float32], seconds: float) -> None:
        """Called when a frame is not kept: its [rows] cosines to those held, and the ``seconds``
        since the frame before it. Only for policies with ``weighs``."""

    def leaving(self, held: Table, row: int) -> None:
        """Called before ``row`` is taken out."""

    def flashed(self, held: Table, seconds: float) -> None:
        """Called when the frame at ``seconds`` shows that the one before it was a flash."""


class Fifo(Policy):
    """The published CurveStream: the oldest leaves, whatever its score."""


class RecentOnly(Policy):
    """The last frames and nothing else (the SimpleStream baseline)."""

    routed = False


class ScoreHeap(Policy):
    """The best scores stay."""

    def key(self, arrival: Arrival) -> float:
        return arrival.score * arrival.gate

    def rank(self, held: Table) -> Ranks:
        return held["key"].astype(np.float64)


@dataclass
class ScoreDecay(ScoreHeap):
    """The best scores stay, each halved every ``half_life_s``."""

    half_life_s: float = 300.0

    def rank(self, held: Table) -> Ranks:
        seconds = held["seconds"]
        age = seconds.max(initial=0.0) - seconds
        return np.asarray(held["key"] * 0.5 ** (age / self.half_life_s), np.float64)


class AdjacentMerge(Policy):
    """StreamForest's penalty (arXiv 2509.24871): of the two neighbours most worth merging, the
    older leaves. ``0.4 (1 - cosine) + 0.2 time + 0.4 merges``, time and merges relative to their
    largest; ``key`` counts merges. That time is the age rank of the pair is our reading.
    """

    similarity = True

    def key(self, arrival: Arrival) -> float:
        return 0.0

    def rank(self, held: Table) -> Ranks:
        n = len(held)
        if n < 2:
            return np.zeros(n)
        seconds, merges = held["seconds"], held["key"]
        cosine = np.diagonal(held.similarity, 1)
        span = max(float(seconds[-1] - seconds[0]), 1e-9)
        pair = merges[:-1] + merges[1:]
        penalty = 0.4 * (1 - cosine) + 0.2 * (seconds[1:] - seconds[0]) / span
        penalty = penalty + 0.4 * pair / max(float(pair.max()), 1.0)
        return np.append(penalty, np.inf)

    def leaving(self, held: Table, row: int) -> None:
        if row + 1 < len(held):
            held["key"][row + 1] += held["key"][row] + 1


@dataclass
class Reservoir(Policy):
    """A uniform random sample of all frames: each draws a number, the highest stay. The draw is
    a function of ``seed`` and the frame's number alone, so no generator has to be saved.
    """

    seed: int = 0
    routed = False

    def key(self, arrival: Arrival) -> float:
        return _uniform(self.seed, arrival.number)

    def rank(self, held: Table) -> Ranks:
        return held["key"].astype(np.float64)


class StrideDoubling(Policy):
    """Every 2^k-th frame, k growing as the stream does: uniform without knowing the length."""

    routed = False

    def key(self, arrival: Arrival) -> float:
        n = arrival.number
        return 64.0 if n == 0 else float((n & -n).bit_length() - 1)

    def rank(self, held: Table) -> Ranks:
        # Of equal strides the newest leaves, so that the older grid stays whole.
        return held["key"] - np.arange(len(held)) / (2.0 * held.capacity)


@dataclass
class Robust(Policy):
    """The last ``recent`` rows always stay. The others stay for one of two reasons, and those go
    first that rank low by both: the best ``events`` rows by the first reason are held, and of the
    places left ``share`` for more of these, the rest for the best by the second.

    *Events.* A frame's worth is ``sqrt(score * novelty)``: the score says that something changed,
    the novelty that it changed *to* something unlike the background, which tells an event from the
    return after it. It is discounted as far as a row of higher worth resembles it, relative to its
    own novelty. By this worth Clear rows become Blurred, too.

    *Coverage.* A row stands for the frames nearest to it, ``mass`` seconds of them, which without
    it would be as far from what is held as its nearest neighbour is: ``mass * distance`` is what
    its leaving costs (k-medians, one row at a time), and the neighbour inherits the mass. The root
    of the mass counts: between that and the farthest-point rule, which asks for the distance alone.
    """

    recent: int = 4
    events: int = 14
    share: float = 0.35
    flash_s: float = 0.35
    """A change that is undone within this time was a flash: worth a fiftieth of what it seemed, and
    it stands for nothing."""
    similarity = True
    demotes = True
    weighs = True

    def flashed(self, held: Table, seconds: float) -> None:
        if len(held) and 0 <= seconds - held["seconds"][-1] <= self.flash_s:
            held["key"][-1] *= 0.02
            held["mass"][-1] = 0.0

    def passed(self, held: Table, cosine: NDArray[np.float32], seconds: float) -> None:
        if len(held):
            held["mass"][int(cosine.argmax())] += seconds

    def leaving(self, held: Table, row: int) -> None:
        if len(held) > 1:
            cosine = held.similarity[row].copy()
            cosine[row] = -2.0
            held["mass"][int(cosine.argmax())] += held["mass"][row]

    def key(self, arrival: Arrival) -> float:
        return arrival.gate * float(np.sqrt(max(arrival.score * arrival.novelty, 0.0)))

    def detail(self, held: Table) -> Ranks:
        worth, order = held["key"], np.arange(len(held))
        alike = 1.0 - (1.0 - held.similarity) / np.maximum(held["novelty"], 1e-9)[:, None]
        better = (worth[None, :] > worth[:, None]) | (
            (worth[None, :] == worth[:, None]) & (order[None, :] < order[:, None])
        )
        like = np.where(better, alike, 0.0).max(axis=1, initial=0.0)
        return np.asarray(worth * (1.0 - np.minimum(like, 1.0)), np.float64)

    def rank(self, held: Table) -> Ranks:
        cosine = held.similarity.copy()
        np.fill_diagonal(cosine, -2.0)
        distance = np.maximum(1.0 - cosine.max(axis=1, initial=-2.0), 0.0)
        events = np.maximum(_places(self.detail(held)) - self.events, 0.0) / self.share
        coverage = _places(np.sqrt(held["mass"]) * distance) / (1.0 - self.share)
        order = np.arange(len(held))
        # Where all are events, the one that covers least: coverage decides between equals.
        rank = -np.minimum(events, coverage) - 1e-6 * coverage
        return np.where(order >= len(held) - self.recent, 1e6 + order, rank)


def _places(values: Ranks) -> Ranks:
    """[rows]: 1 for the largest, and so on; of equals the older comes first."""
    places = np.empty(len(values))
    places[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return places


def _uniform(seed: int, number: int) -> float:
    """SplitMix64 of (seed, number), in [0, 1)."""
    mask = (1 << 64) - 1
    z = (seed * 0xD1342543DE82EF95 + (number + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return ((z ^ (z >> 31)) >> 11) / float(1 << 53)


POLICIES: dict[str, type[Policy]] = {
    "robust": Robust,
    "fifo": Fifo,
    "recent": RecentOnly,
    "score": ScoreHeap,
    "score-decay": ScoreDecay,
    "adjacent-merge": AdjacentMerge,
    "reservoir": Reservoir,
    "stride": StrideDoubling,
}


def policy(name: str, seed: int = 0) -> Policy:
    """The policy called ``name``. Raises UsageError for an unknown one."""
    if name not in POLICIES:
        raise UsageError(f"Unknown eviction policy {name!r}.", hint=nearest(name, POLICIES))
    return Reservoir(seed) if name == "reservoir" else POLICIES[name]()
