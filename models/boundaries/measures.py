"""What changed between two pictures, measured on a small grid of their block colours."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.frame import Image

WIDTH, HEIGHT = 32, 18
SHAPE = (HEIGHT, WIDTH, 3)
Grid = NDArray[np.float32]
"""float32 [18, 32, 3]: mean RGB of each block, 0 to 255; the same shape for every size of frame."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_NOISE = 500.0
"""Sum of squared contrast (a standard deviation of 1 in 255) that counts as none."""


def grid(image: Image) -> Grid:
    """``image``, uint8 [H, W, 3] of any size, as block means."""
    import cv2

    small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def block_change(old: Grid, new: Grid) -> float:
    """Median over blocks of the mean absolute difference of colour, 0 to 255.

    A median: what moves over less than half of the picture does not count.
    """
    return float(np.median(np.abs(new - old).mean(-1)))


def structure_change(old: Grid, new: Grid) -> float:
    """1 - correlation of luma over the blocks, in [0, 2].

    Gain and offset cancel, so a change of exposure leaves it near 0; 1 beside a blank picture.
    """
    a, b = _contrast(old), _contrast(new)
    both = float((a * a).sum() + _NOISE) * float((b * b).sum() + _NOISE)
    return 1.0 - float((a * b).sum()) / math.sqrt(both)


def contrast(picture: Grid) -> float:
    """Standard deviation of luma over the blocks, 0 to 255."""
    return float(_contrast(picture).std())


def bend(run: NDArray[np.float32]) -> tuple[float, float]:
    """How far a run of grids [N, 18, 32, 3] is from a steady mix of its first into its last.

    At a quarter, half and three quarters of the run: distance from the line between the ends
    (as a share of their distance), and error of the place along it; the largest of each. Both are
    0 for a linear dissolve of two stills, and about 0.9 and 0.5 where the ends and the middle have
    nothing in common.
    """
    line = run[-1] - run[0]
    length = float((line * line).sum()) + 1e-6
    off = place = 0.0
    for share in (0.25, 0.5, 0.75):
        there = run[round(share * (len(run) - 1))] - run[0]
        along = float((there * line).sum()) / length
        rest = there - along * line
        off = max(off, (float((rest * rest).sum()) / length) ** 0.5)
        place = max(place, abs(along - share))
    return off, place


def _contrast(picture: Grid) -> Grid:
    luma = picture @ _LUMA
    return np.asarray(luma - luma.mean(), np.float32)
