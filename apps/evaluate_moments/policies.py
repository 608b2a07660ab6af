"""Every policy that is compared, each within the same entries and tokens.

A policy answers with what it held at each of the asked frames. Those that look at a frame once
are causal; ``offline`` ones see the whole stream up to the question and are no competitors, only
marks to measure by. Baselines may hold Blurred pictures too (the best of theirs stay Clear), for
at equal tokens they would otherwise hold a sixth of the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from retain.apps.evaluate_moments import offline
from retain.apps.evaluate_moments.streams import Stream
from retain.datasets.held import Kept
from retain.memory.curvestream import BLURRED_SIDE, FrameMemory, FrameMemoryConfig, Item
from retain.memory.eviction import Arrival, Reservoir, StrideDoubling
from retain.memory.router import RouterConfig
from retain.memory.tokens import fit, tokens

PAPER_ENTRIES = 20


@dataclass(frozen=True, slots=True)
class Budget:
    """What every policy may hold."""

    entries: int = 64
    tokens: int = 12_800

    def clear(self, size: tuple[int, int], entries: int) -> int:
        """How many of ``entries`` pictures of ``size`` can be Clear, the others Blurred."""
        big = tokens(*fit(*size, 1280))
        small = tokens(*fit(*size, tokens(BLURRED_SIDE, BLURRED_SIDE)))
        if big == small:
            return min(entries, self.tokens // big)
        return max(0, min(entries, (self.tokens - entries * small) // (big - small)))


Asks = Sequence[int]
Run = Callable[[Stream, Budget, Asks, int], list[Kept]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy by name. ``run(stream, budget, asks, seed)``."""

    name: str
    run: Run
    offline: bool = False
    needs: str = ""
    """The field of ``Stream`` it cannot do without."""

    def can(self, stream: Stream) -> bool:
        return not self.needs or getattr(stream, self.needs) is not None


def memory(config: FrameMemoryConfig, stream: Stream, asks: Asks) -> list[Kept]:
    """Run a real ``FrameMemory`` over the stream."""
    held, out, wanted = FrameMemory(config), [], set(asks)
    picture = np.broadcast_to(np.zeros(3, np.uint8), (stream.size[1], stream.size[0], 3))
    for i, (feature, t) in enumerate(zip(stream.features, stream.times_s.tolist(), strict=True)):
        route = held.route("main", feature, t)
        held.write("main", Item(picture, i, i, Fraction(1), t, feature, route))
        if i in wanted:
            entries = held.held("main").entries
            frames = np.array([entry.seq for entry in entries], np.int64)
            out.append(Kept(i, frames, np.array([e.tier == "clear" for e in entries], bool)))
    return out


def ranked(keys: NDArray[np.float64], stream: Stream, budget: Budget, asks: Asks) -> list[Kept]:
    """The frames of highest key so far, at every question. Exactly what an online heap holds, for
    a frame's key never changes; of equal keys the older stays. The highest are Clear."""
    out = []
    for ask in asks:
        best = np.argsort(-keys[: ask + 1], kind="stable")[: budget.entries]
        out.append(_tiered(best, ask, stream, budget))
    return out


def _tiered(best: NDArray[np.int64], ask: int, stream: Stream, budget: Budget) -> Kept:
    """``best`` frames first; as many of them Clear as the tokens allow."""
    clear = np.arange(len(best)) < budget.clear(stream.size, len(best))
    order = np.argsort(best)
    return Kept(ask, best[order].astype(np.int64), clear[order])


def k_sigma_fifo(
    change: NDArray[np.float64], stream: Stream, budget: Budget, asks: Asks
) -> list[Kept]:
    """The paper's statistics and queue on another score per frame: [T]."""
    mean = var = 0.0
    kept: list[tuple[int, bool]] = []
    out, wanted = [], set(asks)
    costs = tokens(BLURRED_SIDE, BLURRED_SIDE), tokens(*stream.size)
    for i, score in enumerate(change.tolist()):
        mean = 0.9 * mean + 0.1 * score
        var = 0.9 * var + 0.1 * (score - mean) ** 2
        if score >= mean:
            kept.append((i, score >= mean + var**0.5))
        while len(kept) > PAPER_ENTRIES or sum(costs[c] for _, c in kept) > budget.tokens:
            del kept[0]
        if i in wanted:
            frames = np.array([frame for frame, _ in kept], np.int64)
            out.append(Kept(i, frames, np.array([clear for _, clear in kept], bool)))
    return out


def _robust(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    return memory(robust_config(stream, budget), stream, asks)


def robust_config(stream: Stream, budget: Budget, **changes: object) -> FrameMemoryConfig:
    """The default memory within ``budget``, without pictures."""
    config = FrameMemoryConfig(
        dim=stream.features.shape[1],
        max_entries=budget.entries,
        token_budget=budget.tokens,
        payload="none",
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def _paper(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    return memory(paper_config(stream, budget), stream, asks)


def paper_config(
    stream: Stream, budget: Budget, router: RouterConfig | None = None
) -> FrameMemoryConfig:
    """The published queue of 20, within the tokens of ``budget``."""
    return FrameMemoryConfig.paper(
        stream.features.shape[1],
        router=router or RouterConfig(mode="paper"),
        payload="none",
        token_budget=budget.tokens,
    )


def _cosine_fifo(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    router = RouterConfig(mode="paper", lambda_=0.0)
    return memory(paper_config(stream, budget, router), stream, asks)


def _recent(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    return ranked(np.arange(len(stream.times_s), dtype=float), stream, budget, asks)


def _reservoir(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    draw = Reservoir(seed)
    keys = [draw.key(Arrival(n, 0.0, 0.0)) for n in range(len(stream.times_s))]
    return ranked(np.array(keys), stream, budget, asks)


def _stride(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    keys = [StrideDoubling().key(Arrival(n, 0.0, 0.0)) for n in range(len(stream.times_s))]
    return ranked(np.array(keys), stream, budget, asks)


def motion(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - cosine of each frame to the one before, [T]; 0 for the first."""
    cosine = np.einsum("td,td->t", features[1:], features[:-1], dtype=np.float64)
    return np.concatenate([[0.0], 1.0 - cosine])


def _heap(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    return ranked(motion(stream.features), stream, budget, asks)


def _pixel_fifo(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    assert stream.change is not None
    return k_sigma_fifo(stream.change, stream, budget, asks)


def _adaptive_heap(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
    assert stream.cuts is not None
    return ranked(stream.cuts, stream, budget, asks)


def _chosen(
    choose: Callable[[NDArray[np.float32], int], NDArray[np.int64]],
) -> Run:
    """An offline choice made anew, on everything so far, at every question."""

    def run(stream: Stream, budget: Budget, asks: Asks, seed: int) -> list[Kept]:
        return [
            _tiered(choose(stream.features[: ask + 1], budget.entries), ask, stream, budget)
            for ask in asks
        ]

    return run


CONTENDERS = [
    Contender("robust", _robust),
    Contender("paper", _paper),
    Contender("cosine K-sigma FIFO", _cosine_fifo),
    Contender("pixel K-sigma FIFO", _pixel_fifo, needs="change"),
    Contender("cosine heap", _heap),
    Contender("AdaptiveDetector heap", _adaptive_heap, needs="cuts"),
    Contender("recent", _recent),
    Contender("reservoir", _reservoir),
    Contender("stride doubling", _stride),
    Contender("uniform", _chosen(offline.uniform), offline=True),
    Contender("k-centre", _chosen(offline.k_centre), offline=True),
    Contender("k-medoids", _chosen(offline.k_medoids), offline=True),
]
