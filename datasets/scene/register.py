"""Depth of one camera as another one beside it sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from retain.datasets.scene.lens import Depth
from retain.kernels.geometry.camera import Camera

_compiled: Callable[[Any], Any] = njit(cache=True, nogil=True)
_AGREE = 0.02
"""Relative difference below which two neighbours of a hole are one surface."""


def register(depth: Depth, seen_by: Camera, wanted: Camera, motion: NDArray[np.float64]) -> Depth:
    """``depth`` [H, W] of ``seen_by`` moved to the pixels of ``wanted``.

    motion  [4, 4], coordinates of the first camera to those of the second, metres

    Every known pixel goes to the one it falls into; of several the nearest stays. Then each hole of
    a single pixel between two neighbours (left and right, or above and below) that agree within
    2 % takes the farther of them. What the depth camera did not see stays unknown.
    """
    moved = np.zeros((wanted.height, wanted.width), np.float32)
    numbers = [np.array((c.fx, c.fy, c.cx, c.cy)) for c in (seen_by, wanted)]
    _move(depth, numbers[0], numbers[1], np.ascontiguousarray(motion, np.float64), moved)
    return _filled(moved)


@_compiled
def _move(depth: Any, seen_by: Any, wanted: Any, motion: Any, out: Any) -> None:
    """``out`` float32 [H', W'] of zeros takes the nearest z of what falls into each pixel."""
    fx, fy, cx, cy = seen_by
    to_fx, to_fy, to_cx, to_cy = wanted
    height, width = out.shape
    for row in range(depth.shape[0]):
        y = (row + 0.5 - cy) / fy
        for column in range(depth.shape[1]):
            d = float(depth[row, column])
            if not d > 0:
                continue
            x = (column + 0.5 - cx) / fx
            z = d * (motion[2, 0] * x + motion[2, 1] * y + motion[2, 2]) + motion[2, 3]
            if z <= 0:
                continue
            across = d * (motion[0, 0] * x + motion[0, 1] * y + motion[0, 2]) + motion[0, 3]
            down = d * (motion[1, 0] * x + motion[1, 1] * y + motion[1, 2]) + motion[1, 3]
            u = math.floor(to_fx * across / z + to_cx)
            v = math.floor(to_fy * down / z + to_cy)
            if 0 <= u < width and 0 <= v < height and (out[v, u] == 0 or z < out[v, u]):
                out[v, u] = z


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
