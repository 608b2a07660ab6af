"""Which kept frames answer a question: exact cosine, then neighbours in time become one moment.

A memory holds few frames, so every one is compared: there is no index to build or to be wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import UsageError

FOLD_S = 3.0
"""Kept frames nearer in time than this to a better one are the same moment."""
_CLOSE = 1e-5
"""More than float32 can be wrong about a cosine of unit rows; such rows are compared exactly."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A run of kept frames that answers. Times in seconds of the stream."""

    row: int
    """Of the best frame."""
    rows: tuple[int, ...]
    """The best frame and those folded into it, in order of time."""
    seconds: float
    """Of the best frame."""
    start_s: float
    end_s: float
    score: float
    """Cosine between the best frame and the question; NaN when only a time range was asked for."""


def rank(
    embedding: NDArray[np.float32],
    seconds: NDArray[np.float64],
    query: NDArray[np.float32] | None,
    *,
    k: int = 5,
    start_s: float = -math.inf,
    end_s: float = math.inf,
    fold_s: float = FOLD_S,
    worth: NDArray[np.float64] | None = None,
) -> list[Moment]:
    """The ``k`` best moments among the frames from ``start_s`` to ``end_s``.

    ``embedding`` [N, D]: rows of unit length; rows that are zero or not finite have no feature and
    never answer a ``query``. ``seconds`` [N]. ``query`` [D], of any length but zero: best moment
    first. The best frame left is taken, with all frames at most ``fold_s`` seconds from it (greedy
    non-maximum suppression), until ``k`` are found. Of equal frames the earlier is better, then the
    lower row.

    Without a query: the ``k`` moments of the largest ``worth`` [N] (default: the earliest), in
    order of time, scores NaN.

    Raises UsageError for k < 1, a range that ends before it starts, and a query without direction.
    """
    if k < 1:
        raise UsageError(f"At least one moment must be asked for, not {k}.")
    if not start_s <= end_s:
        raise UsageError(f"The range from {start_s:g} s to {end_s:g} s ends before it starts.")
    open_ = (seconds >= start_s) & (seconds <= end_s)
    if query is None:
        score = np.zeros(len(seconds)) if worth is None else np.asarray(worth, np.float64)
        exact = None
    else:
        exact = _unit(query)
        with np.errstate(invalid="ignore", over="ignore"):  # such rows are passed over below
            score = (embedding @ exact.astype(np.float32)).astype(np.float64)
        open_ &= _described(embedding, score)
    moments = _picked(embedding, seconds, exact, score, open_, k, fold_s)
    return moments if query is not None else sorted(moments, key=lambda m: (m.seconds, m.row))


def _unit(query: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = np.asarray(query, np.float64)
    length = float(np.sqrt((wide * wide).sum()))
    if not 0 < length < math.inf:
        raise UsageError(
            "The question has no feature: the encoder sees nothing in it.",
            hint="A picture of one colour, for example, is like no other.",
        )
    return wide / length


def _described(embedding: NDArray[np.float32], score: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows have a feature [N]. Only a score of exactly 0 can be of a row of zeros."""
    good = np.isfinite(score)
    for row in np.flatnonzero(score == 0.0):
        good[row] = embedding[row].any()
    return good


def _picked(
    embedding: NDArray[np.float32],
    seconds: NDArray[np.float64],
    query: NDArray[np.float64] | None,
    score: NDArray[np.float64],
    open_: NDArray[np.bool_],
    k: int,
    fold_s: float,
) -> list[Moment]:
    moments: list[Moment] = []
    while len(moments) < k and open_.any():
        rows = np.flatnonzero(open_)
        here = score[rows]
        if query is None:
            value = here
        else:
            rows = rows[here >= here.max() - _CLOSE]
            # A sum along each row adds equal rows up equally; a matrix product need not.
            value = (embedding[rows] * query).sum(axis=1)
        order = np.lexsort((rows, seconds[rows], -value))
        best = int(rows[order[0]])
        folded = np.flatnonzero(open_ & (np.abs(seconds - seconds[best]) <= fold_s))
        folded = folded[np.lexsort((folded, seconds[folded]))]
        open_ = open_.copy()
        open_[folded] = False
        moments.append(
            Moment(
                row=best,
                rows=tuple(map(int, folded)),
                seconds=float(seconds[best]),
                start_s=float(seconds[folded[0]]),
                end_s=float(seconds[folded[-1]]),
                score=math.nan if query is None else float(value[order[0]]),
            )
        )
    return moments
