# mypy: disallow-untyped-decorators=False
"""What a measured depth map says of Gaussians: seen where they should be, or in the way?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from retain.kernels.geometry.camera import Camera

UNKNOWN = 0
"""Out of view, nothing measured there, behind what is seen, or at an edge."""
AGREES = 1
IN_FRONT = 2
"""In front of everything measured at that pixel and beside it: the camera looks through it."""
HUGE = 3
"""Covers more of the picture than a Gaussian should."""
DIFFERS = 4
"""Near what is measured, but not near enough to be the same surface."""

_NEAR = 0.05
_compiled = njit(cache=True, nogil=True)


def verdicts(
    means: NDArray[np.float32],
    scales: NDArray[np.float32],
    depth: NDArray[np.float32],
    camera: Camera,
    w2c: NDArray[np.float64],
    agree: tuple[float, float],
    front: tuple[float, float],
    footprint: float,
) -> NDArray[np.uint8]:
    """uint8 [N] for centres [N, 3] in the world, seen by ``camera`` at ``w2c`` [4, 4].

    ``depth`` [H, W] metres, 0 where unknown, negative where guessed: a guess can agree, but nothing
    is in the way of one. ``agree`` and ``front``: (share of the depth,
    metres), of which the larger counts. ``footprint``: share of the picture that one standard
    deviation may cover.
    """
    out = np.zeros(len(means), np.uint8)
    numbers = np.array([camera.fx, camera.fy, camera.cx, camera.cy, *agree, *front, footprint])
    _verdicts(means, scales, depth, numbers, np.ascontiguousarray(w2c, np.float64), out)
    return out


@_compiled
def _verdicts(means: Any, scales: Any, depth: Any, p: Any, w2c: Any, out: Any) -> None:
    height, width = depth.shape
    largest = p[8] * height * width / (math.pi * p[0] * p[1])
    for i in range(len(means)):
        x, y, z = np.float64(means[i, 0]), np.float64(means[i, 1]), np.float64(means[i, 2])
        cz = w2c[2, 0] * x + w2c[2, 1] * y + w2c[2, 2] * z + w2c[2, 3]
        if cz < _NEAR:
            continue
        cx = w2c[0, 0] * x + w2c[0, 1] * y + w2c[0, 2] * z + w2c[0, 3]
        u = p[0] * cx / cz + p[2]
        if not 0 <= u < width:
            continue
        cy = w2c[1, 0] * x + w2c[1, 1] * y + w2c[1, 2] * z + w2c[1, 3]
        v = p[1] * cy / cz + p[3]
        if not 0 <= v < height:
            continue
        a, b, c = scales[i, 0], scales[i, 1], scales[i, 2]
        if max(a * b, a * c, b * c) > largest * cz * cz:
            out[i] = HUGE
            continue
        col, row = int(u), int(v)
        measured = np.float64(depth[row, col])
        if measured == 0:
            continue
        if abs(cz - abs(measured)) < max(p[4] * abs(measured), p[5]):
            out[i] = AGREES
        elif cz < measured - max(p[6] * measured, p[7]) and _clear(depth, row, col, cz, p):
            out[i] = IN_FRONT
        elif abs(cz - measured) < max(p[6] * measured, p[7]):
            out[i] = DIFFERS


@_compiled
def _clear(depth: Any, row: int, col: int, z: float, p: Any) -> bool:
    """Whether the neighbours were measured far behind too: a pose that is a pixel off must not cost
    the Gaussians along every edge."""
    height, width = depth.shape
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            y = min(max(row + dy, 0), height - 1)
            x = min(max(col + dx, 0), width - 1)
            d = np.float64(depth[y, x])
            if not d > 0 or z >= d - max(p[6] * d, p[7]):
                return False
    return True
