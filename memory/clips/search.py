"""Exact search by inner product, and maximal marginal relevance among the best.

One matrix product over all rows; no index to build, to save or to be wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
_CLOSE = 1e-5
"""More than float32 can be wrong about the cosine of unit rows."""


def best(
    features: NDArray[np.float32],
    query: NDArray[np.float32],
    count: int,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[Rows, NDArray[np.float64]]:
    """The ``count`` rows of ``features`` [N, E] nearest to ``query`` [E], best first, with their
    products in float64; of equals the lower row. Only rows ``allowed`` bool [N]."""
    score = features @ query
    if allowed is not None:
        score[~allowed] = -np.inf
    if count < len(score):
        floor = np.partition(score, len(score) - count)[len(score) - count] - _CLOSE
    else:
        floor = -np.inf
    rows = np.flatnonzero((score >= floor) & (score > -np.inf))
    exact = products(features[rows], query)
    order = np.argsort(-exact, kind="stable")[:count]
    return rows[order], exact[order]


def products(features: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """[n]: summed row by row in float64, so that equal rows have equal products."""
    wide: NDArray[np.float64] = (features.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    return wide


def diverse(
    features: NDArray[np.float32], relevance: NDArray[np.float64], k: int, weight: float
) -> Rows:
    """Places of the ``k`` chosen among ``features`` [n, E] of unit length, in order of choice.

    Each time the largest ``(1 - weight) relevance - weight max cosine to those chosen`` (Carbonell
    and Goldstein 1998); the first is the most relevant.
    """
    wide = features.astype(np.float64)
    alike = np.full(len(wide), -np.inf)
    left = np.ones(len(wide), bool)
    chosen: list[int] = []
    while len(chosen) < min(k, len(wide)):
        penalty = weight * alike if chosen else 0.0
        worth = np.where(left, (1 - weight) * relevance - penalty, -np.inf)
        chosen.append(int(np.argmax(worth)))
        left[chosen[-1]] = False
        alike = np.maximum(alike, wide @ wide[chosen[-1]])
    return np.array(chosen, np.int64)
