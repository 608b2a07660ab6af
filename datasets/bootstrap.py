"""How sure a number is: its 95 % interval by resampling what it is a number of (Efron, 1979).

The percentile bootstrap: the statistic of as many rows as there are, drawn with replacement, over
and over; the interval holds the middle 95 % of what that gives. Rows are what was chosen at random
in the first place: worlds, patients, rooms, seeds; never frames of one video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


class Interval(NamedTuple):
    """A statistic with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


NOTHING = Interval(math.nan, math.nan, math.nan)
"""Of no rows."""


def interval(
    statistic: Callable[..., float],
    *columns: NDArray[np.floating[Any]],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """``statistic(*columns)`` of columns [N, ...], and its interval from resampling the N rows.

    The columns are resampled together, so differences and ratios of conditions are paired:
    ``interval(lambda a, b: a.mean() - b.mean(), wrong, right)``. A resample whose statistic is NaN
    does not count. The same columns give the same interval; NaN thrice for no rows.
    """
    rng, count = np.random.default_rng(seed), len(columns[0])
    if not count:
        return NOTHING
    drawn = [
        statistic(*(column[rows] for column in columns))
        for rows in (rng.integers(count, size=count) for _ in range(resamples))
    ]
    return _middle(statistic(*columns), drawn)


def of_mean(*groups: Sequence[float] | NDArray[np.floating[Any]], seed: int = 0) -> Interval:
    """The mean over ``groups`` of the mean of each one's rows [N] in float64, and its interval.

    Each group's rows are resampled within it. Groups weigh the same, those without rows not at all.

    >>> of_mean([0.5, 0.5])
    Interval(value=0.5, low=0.5, high=0.5)
    """
    filled = [np.asarray(group, np.float64) for group in groups if len(group)]
    if not filled:
        return NOTHING
    rng, drawn = np.random.default_rng(seed), np.zeros(RESAMPLES)
    for rows in filled:
        drawn += rows[rng.integers(len(rows), size=(RESAMPLES, len(rows)))].mean(axis=1)
    return _middle(float(np.mean([rows.mean() for rows in filled])), drawn / len(filled))


def _middle(value: float, drawn: Sequence[float] | NDArray[np.float64]) -> Interval:
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return Interval(float(value), float(low), float(high))
