"""J and F of silhouettes, as DAVIS judges them (Perazzi et al., 2016; Pont-Tuset et al., 2017).

J is the overlap of regions (intersection over union); F the harmonic mean of a boundary's precision
and recall, where a boundary pixel is right within 0.8 % of the picture's diagonal. Where a mask is
given for the first frame, the first and the last frame are not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import UsageError

Region = NDArray[np.bool_]

TOLERANCE = 0.008
"""Of the diagonal: how far apart two boundaries may be and still be the same."""
HIT = 0.5
"""A frame counts for recall from this score on (exclusive)."""
_PARTS = 4
"""Of a sequence; decay is the score of the first less that of the last."""


@dataclass(frozen=True, slots=True)
class Course:
    """One measure over the frames of one object."""

    mean: float
    recall: float
    """Share of frames better than ``HIT``."""
    decay: float
    """Mean of the first quarter less that of the last; NaN with fewer than four frames."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One object of one sequence."""

    j: Course
    f: Course
    js: tuple[float, ...]
    """Of each judged frame."""
    fs: tuple[float, ...]

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.j.mean + self.f.mean) / 2


def region_score(found: Region, truth: Region, void: Region | None = None) -> float:
    """J of two masks bool [H, W]; 1 where both are empty. Pixels of ``void`` are not judged."""
    found, truth = _judged(found, truth, void)
    union = int(np.count_nonzero(found | truth))
    return int(np.count_nonzero(found & truth)) / union if union else 1.0


def boundary_score(
    found: Region, truth: Region, void: Region | None = None, tolerance: float = TOLERANCE
) -> float:
    """F of two masks bool [H, W]; 1 where neither has a boundary, 0 where only one has.

    ``tolerance``: of the diagonal, rounded up to whole pixels; from 1 on it is pixels.
    """
    found, truth = _judged(found, truth, void)
    ours, theirs = boundary(found), boundary(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    reach = tolerance if tolerance >= 1 else float(np.ceil(tolerance * np.hypot(*truth.shape)))
    precision = float((_distance(theirs)[ours] <= reach).mean())
    recall = float((_distance(ours)[theirs] <= reach).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(mask: Region) -> Region:
    """bool [H, W]: pixels of which the one to the right, below, or right below is of another kind.

    The frame's border is no boundary.
    """
    right, below = np.zeros_like(mask), np.zeros_like(mask)
    corner = np.zeros_like(mask)
    right[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    below[:-1] = mask[:-1] ^ mask[1:]
    corner[:-1, :-1] = mask[:-1, :-1] ^ mask[1:, 1:]
    return np.asarray(right | below | corner)


def judge(found: Iterable[Region], truth: Iterable[Region]) -> Judged:
    """Scores of one object whose mask in the first frame was given.

    Both hold all frames, first and last included, which are passed over. Raises UsageError when
    there are fewer than three frames, or not as many of both.
    """
    js, fs = [], []
    try:
        for ours, theirs in zip(found, truth, strict=True):
            js.append(region_score(ours, theirs))
            fs.append(boundary_score(ours, theirs))
    except ValueError as error:
        if "shorter" not in str(error) and "longer" not in str(error):
            raise
        raise UsageError("There are not as many masks as there are frames of truth.") from None
    return judged_of(js, fs)


def judged_of(js: Sequence[float], fs: Sequence[float]) -> Judged:
    """From J and F of all frames, first and last included. Raises UsageError for fewer than
    three."""
    if len(js) < 3:
        raise UsageError(
            f"J and F need at least three frames, not {len(js)}.",
            hint="The first frame is given and the last is not judged.",
        )
    js, fs = tuple(js[1:-1]), tuple(fs[1:-1])
    return Judged(course(js), course(fs), js, fs)


def course(scores: Sequence[float]) -> Course:
    """Mean, recall and decay of the scores of consecutive frames, at least one."""
    values = np.asarray(scores, np.float64)
    decay = float("nan")
    if len(values) >= _PARTS:
        # The parts share the frame at which they meet, as in the published evaluation.
        ends = np.floor(np.linspace(0, len(values) - 1, _PARTS + 1) + 0.5 + 1e-10).astype(int)
        first, last = values[: ends[1] + 1], values[ends[-2] : ends[-1] + 1]
        decay = float(first.mean() - last.mean())
    return Course(float(values.mean()), float((values > HIT).mean()), decay)


def overall(objects: Sequence[Judged]) -> Judged:
    """All objects of all sequences, each counting as much; frames are those of all in a row."""
    if not objects:
        raise UsageError("There is nothing to judge: no object was given.")

    def mean(courses: Sequence[Course]) -> Course:
        rows = [(c.mean, c.recall, c.decay) for c in courses]
        mean, recall, decay = np.asarray(rows).mean(0)
        return Course(float(mean), float(recall), float(decay))

    js = tuple(score for one in objects for score in one.js)
    fs = tuple(score for one in objects for score in one.fs)
    return Judged(mean([one.j for one in objects]), mean([one.f for one in objects]), js, fs)


def _judged(found: Region, truth: Region, void: Region | None) -> tuple[Region, Region]:
    if found.shape != truth.shape or found.ndim != 2:
        raise UsageError(
            f"A mask of {list(found.shape)} cannot be judged by one of {list(truth.shape)}."
        )
    found, truth = found.astype(bool), truth.astype(bool)
    return (found, truth) if void is None else (found & ~void, truth & ~void)


def _distance(marks: Region) -> NDArray[np.float32]:
    """[H, W] pixels to the nearest mark, exact."""
    import cv2

    return np.asarray(
        cv2.distanceTransform((~marks).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    )
