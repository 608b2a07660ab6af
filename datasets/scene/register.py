"""Depth of one camera as another one beside it sees it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.lens import Depth
from retain.kernels.geometry.camera import Camera

_AGREE = 0.02
"""Relative difference below which two neighbours of a hole are one surface."""


def register(depth: Depth, seen_by: Camera, wanted: Camera, motion: NDArray[np.float64]) -> Depth:
    """``depth`` [H, W] of ``seen_by`` moved to the pixels of ``wanted``.

    motion  [4, 4], coordinates of the first camera to those of the second, metres

    Every known pixel goes to the one it falls into; of several the nearest stays. Then each hole of
    a single pixel between two neighbours (left and right, or above and below) that agree within
    2 % takes the farther of them. What the depth camera did not see stays unknown.
    """
    rotation = motion[:3, :3].astype(np.float32)
    known = depth > 0
    points = (seen_by.rays()[known] * depth[known][:, None]) @ rotation.T
    points += motion[:3, 3].astype(np.float32)
    x, y, z = points.T
    with np.errstate(divide="ignore", invalid="ignore"):
        column = np.floor(wanted.fx * (x / z) + wanted.cx)
        row = np.floor(wanted.fy * (y / z) + wanted.cy)
        inside = (z > 0) & (column >= 0) & (column < wanted.width) & (row >= 0)
        inside &= row < wanted.height
    place = (row[inside] * wanted.width + column[inside]).astype(np.int64)
    moved = np.full(wanted.height * wanted.width, np.inf, np.float32)
    np.minimum.at(moved, place, z[inside])
    moved[np.isinf(moved)] = 0
    return _filled(moved.reshape(wanted.height, wanted.width))


def _filled(depth: Depth) -> Depth:
    filled = depth.copy()
    for a, b, middle in (
        (np.s_[1:-1, :-2], np.s_[1:-1, 2:], np.s_[1:-1, 1:-1]),
        (np.s_[:-2, 1:-1], np.s_[2:, 1:-1], np.s_[1:-1, 1:-1]),
    ):
        near, far = np.minimum(depth[a], depth[b]), np.maximum(depth[a], depth[b])
        fits = (filled[middle] == 0) & (near > 0) & (far - near < _AGREE * far)
        filled[middle][fits] = far[fits]
    return filled
