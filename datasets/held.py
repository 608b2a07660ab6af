"""Metrics of what a memory holds, against the truth of the stream it watched.

A memory is asked at several moments; what it held then is a ``Kept``: places in the stream and
which of them are Clear. Nothing here knows how frames were chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.datasets.planted import Event

AGES: dict[str, tuple[float, float]] = {
    "0-30 s": (0.0, 30.0),
    "30-120 s": (30.0, 120.0),
    "2-10 min": (120.0, 600.0),
    "> 10 min": (600.0, math.inf),
}
"""Age of an event when the question comes: seconds since its end, upper bound excluded."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What was held after frame ``asked`` of a stream had come."""

    asked: int
    frames: NDArray[np.int64]
    """[N], places in the stream, rising."""
    clear: NDArray[np.bool_]
    """[N]."""


class Found(NamedTuple):
    """An event, asked about once."""

    age_s: float
    held: bool
    detail: bool
    """Held, and Clear."""


def found(
    events: Iterable[Event], times_s: NDArray[np.float64], kept: Iterable[Kept]
) -> list[Found]:
    """Every event that had ended at each question, and what was held of it then."""
    out = []
    events = list(events)
    for k in kept:
        now, held = float(times_s[k.asked]), times_s[k.frames]
        for event in events:
            if event.end_s > now:
                continue
            inside = (held >= event.start_s) & (held < event.end_s)
            detail = bool((inside & k.clear).any())
            out.append(Found(now - event.end_s, bool(inside.any()), detail))
    return out


def share(answers: Sequence[bool]) -> float | None:
    """Share of yes; None without answers."""
    return sum(answers) / len(answers) if answers else None


class Coverage(NamedTuple):
    """How well the held frames stand for the whole stream."""

    mean: float
    """Of 1 - cosine from every frame to the nearest held one."""
    p95: float
    gap_s: float
    """Longest time without a held frame, the two ends of the stream included."""
    shots: float | None
    """Share of shots with a held frame; None where shots are not known."""


def coverage(
    features: NDArray[np.float32],
    times_s: NDArray[np.float64],
    kept: Kept,
    shots: NDArray[np.int64] | None = None,
) -> Coverage:
    """Coverage of the stream up to the question: ``features`` unit [T, D], ``times_s`` [T],
    ``shots`` [T]. A memory that holds nothing covers nothing: distance 1 everywhere."""
    seen = kept.asked + 1
    if not len(kept.frames):
        length = float(times_s[kept.asked] - times_s[0])
        return Coverage(1.0, 1.0, length, None if shots is None else 0.0)
    nearest = (features[:seen] @ features[kept.frames].T).max(axis=1)
    away = 1.0 - np.minimum(nearest, 1.0)
    marks = np.concatenate([times_s[:1], times_s[kept.frames], times_s[kept.asked : seen]])
    shown = None
    if shots is not None:
        shown = len(np.unique(shots[kept.frames])) / len(np.unique(shots[:seen]))
    p95 = float(np.quantile(away, 0.95))
    return Coverage(float(away.mean()), p95, float(np.diff(marks).max()), shown)


def query_ranks(
    queries: NDArray[np.float32], held: NDArray[np.float32], right: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Rank, from 1, of the best right answer to each question; 0 where none is held.

    ``queries`` [Q, D], ``held`` [N, D], ``right`` [Q, N]: which rows answer which question. Of
    equal cosines the wrong one counts as first.
    """
    ranks = np.zeros(len(queries), np.int64)
    if not held.size:
        return ranks
    cosine = queries @ held.T
    best = np.where(right, cosine, -np.inf).max(axis=1)
    before = (~right & (cosine >= best[:, None])).sum(axis=1)
    return np.where(right.any(axis=1), before + 1, 0).astype(np.int64)


def recall_at(ranks: NDArray[np.int64], k: int) -> float | None:
    """Share of questions with a right answer among the first ``k``; None without questions."""
    return share(((ranks >= 1) & (ranks <= k)).tolist())
