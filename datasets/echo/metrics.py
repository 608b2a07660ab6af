"""How well masks and ejection fractions agree with their reference.

A *case* is one pair of masks: a patient, a view, a structure, a phase. Overlap and distances are
taken per case, over its pixels; then averaged within each patient, then over patients, whose
resampling gives the interval. What cannot be scored is None and counted, never replaced.

Distances are in the unit of the spacing, (y, x) per pixel: millimetres, or pixels with (1, 1). A
mask's surface is its pixels that have one of their four neighbours outside it; so has the picture's
edge. A distance is that of a surface pixel to the nearest surface pixel of the other mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.datasets import bootstrap

Mask = NDArray[np.bool_]


class Distances(NamedTuple):
    """Between the surfaces of two masks."""

    hd95: float
    """The larger of the two directed 95th percentiles (linear interpolation)."""
    hd: float
    """Hausdorff distance: the largest."""
    asd: float
    """Mean of the distances of both directions together."""


class PatientMean(NamedTuple):
    """A mean over patients with its 95 % bootstrap interval; NaN when nothing could be scored."""

    mean: float
    low: float
    high: float
    patients: int
    cases: int
    skipped: int
    """Cases without a score."""


class Agreement(NamedTuple):
    """Predicted against reference values, in their unit."""

    n: int
    mae: float
    rmse: float
    r: float
    """Pearson's correlation; NaN where either side is constant."""
    r2: float
    """1 - residual over total sum of squares, the line being predicted = reference; may be < 0."""
    bias: float
    """Mean of predicted - reference."""
    sd: float
    """Of predicted - reference, n - 1 in the denominator."""
    low: float
    """Lower limit of agreement: bias - 1.96 sd."""
    high: float


def dice(predicted: Mask, truth: Mask) -> float | None:
    """2 |A∩B| / (|A| + |B|), no smoothing. None when both are empty, 0 when one is."""
    _check(predicted, truth)
    both = int(np.count_nonzero(predicted)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(predicted & truth)) / both if both else None


def iou(predicted: Mask, truth: Mask) -> float | None:
    """|A∩B| / |A∪B|. None when both are empty, 0 when one is."""
    _check(predicted, truth)
    either = int(np.count_nonzero(predicted | truth))
    return int(np.count_nonzero(predicted & truth)) / either if either else None


def distances(
    predicted: Mask, truth: Mask, spacing: tuple[float, float] = (1.0, 1.0)
) -> Distances | None:
    """Surface distances of two masks [H, W]. None when both are empty.

    When one is, every distance is the diagonal of the field of view, between the centres of its
    corner pixels. Raises ValueError when the spacing is not known: pixels must be asked for.
    """
    _check(predicted, truth)
    if not (math.isfinite(spacing[0]) and math.isfinite(spacing[1]) and min(spacing) > 0):
        raise ValueError(f"spacing {spacing} is not known; pass (1, 1) for distances in pixels")
    if not (predicted.any() or truth.any()):
        return None
    if not (predicted.any() and truth.any()):
        height, width = predicted.shape
        return Distances(*[math.hypot((height - 1) * spacing[0], (width - 1) * spacing[1])] * 3)
    one, other = _surface(predicted), _surface(truth)
    there, back = _directed(one, other, spacing), _directed(other, one, spacing)
    return Distances(
        hd95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        hd=float(max(there.max(), back.max())),
        asd=float(np.concatenate((there, back)).mean()),
    )


def patient_mean(
    patients: Sequence[str], scores: Iterable[float | None], seed: int = 0
) -> PatientMean:
    """Mean over patients of their cases' means, and its interval from resampling patients.

    The same seed gives the same interval, whatever the order of the cases.
    """
    by_patient: dict[str, list[float]] = {}
    skipped = 0
    for patient, score in zip(patients, scores, strict=True):
        if score is None:
            skipped += 1
        else:
            by_patient.setdefault(patient, []).append(score)
    means = [float(np.mean(sorted(by_patient[patient]))) for patient in sorted(by_patient)]
    cases = sum(map(len, by_patient.values()))
    return PatientMean(*bootstrap.of_mean(means, seed=seed), len(means), cases, skipped)


def agreement(predicted: Sequence[float], reference: Sequence[float]) -> Agreement:
    """Errors, correlation and Bland-Altman limits, e.g. of ejection fractions in per cent.

    Pairs with a NaN are left out; ``n`` counts those used. Both sides must come from one method.
    """
    pairs = np.array(list(zip(predicted, reference, strict=True)), np.float64).reshape(-1, 2)
    ours, theirs = pairs[np.isfinite(pairs).all(axis=1)].T
    n = len(ours)
    if not n:
        return Agreement(0, *[math.nan] * 8)
    error = ours - theirs
    bias, sd = float(error.mean()), float(error.std(ddof=1)) if n > 1 else math.nan
    total = float(((theirs - theirs.mean()) ** 2).sum())
    varies = n > 1 and np.ptp(ours) > 0 and np.ptp(theirs) > 0
    return Agreement(
        n=n,
        mae=float(np.abs(error).mean()),
        rmse=math.sqrt(float((error**2).mean())),
        r=float(np.corrcoef(ours, theirs)[0, 1]) if varies else math.nan,
        r2=1 - float((error**2).sum()) / total if total > 0 else math.nan,
        bias=bias,
        sd=sd,
        low=bias - 1.96 * sd,
        high=bias + 1.96 * sd,
    )


def _check(predicted: Mask, truth: Mask) -> None:
    if predicted.dtype != np.bool_ or truth.dtype != np.bool_:
        raise ValueError(f"masks must be bool, got {predicted.dtype} and {truth.dtype}")
    if predicted.shape != truth.shape or predicted.ndim != 2:
        raise ValueError(f"masks must be [H, W] alike, got {predicted.shape} and {truth.shape}")


def _surface(mask: Mask) -> Mask:
    """The mask without its erosion by a cross; what lies outside the picture is background."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    surface: Mask = mask & ~inside
    return surface


def _directed(start: Mask, goal: Mask, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """[N]: the distance of each pixel of one surface to the nearest pixel of the other.

    A Euclidean distance transform in two passes, exact for any spacing: along each row, then over
    rows, only where the surfaces are.
    """
    goal_rows = np.flatnonzero(goal.any(axis=1))
    along = _along_rows(goal[goal_rows]) * spacing[1]
    found = []
    for row in np.flatnonzero(start.any(axis=1)):
        columns = np.flatnonzero(start[row])
        down = (goal_rows - row) * spacing[0]
        found.append(np.sqrt((along[:, columns] ** 2 + down[:, None] ** 2).min(axis=0)))
    return np.concatenate(found)


def _along_rows(goal: Mask) -> NDArray[np.float64]:
    """[R, W]: pixels to the nearest True of the same row; every row has one."""
    width = goal.shape[1]
    column = np.arange(width)
    before = np.maximum.accumulate(np.where(goal, column, -2 * width), axis=1)
    after = np.minimum.accumulate(np.where(goal, column, 3 * width)[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.minimum(column - before, after - column), np.float64)
