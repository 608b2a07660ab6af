# mypy: disallow-untyped-decorators=False
"""Shadows of a room, compiled: how much of each light reaches each point of a grid.

Once for a room; ``room_shade.lit`` reads between the points, so shadows are soft and do not alias.
Cached as ``room_render`` is: save this file after a change in ``room_cast``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from retain.datasets.scene.room_cast import FAR, blocked, hit
from retain.datasets.scene.room_shade import CELL_M, LIGHT, OPEN, SUN
from retain.datasets.scene.room_shapes import BOUND, CENTRE, Tables

_DIRECTIONS = 16
_SKY_M = 1.2
"""What is nearer takes from the ambient light."""
_SMALL_M = 0.07
"""Shapes of a smaller radius cast no shadow."""
_compiled = njit(cache=True, nogil=True, error_model="numpy")


def bake(room: Tables) -> NDArray[np.float32]:
    """Float32 [X, Y, Z, 2 + lights], parts of 1, at the corners of cells of ``CELL_M``."""
    size = np.ceil(room.half * [2, 2, 1] / CELL_M).astype(np.int64) + 1
    window = np.zeros(len(room.shapes), np.bool_)
    window[room.windows] = True
    large = window | (room.shapes[:, BOUND] > _SMALL_M)
    grid = np.zeros((*size, 2 + len(room.lights)), np.float32)
    _fill(
        grid, room.shapes[large], window[large], room.lights, room.sun, room.half,
        _sphere(_DIRECTIONS),
    )  # fmt: skip
    return grid


def _sphere(count: int) -> NDArray[np.float64]:
    """[count, 3] directions, evenly spread (a golden spiral)."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], axis=1)


@_compiled
def _fill(
    grid: Any, shapes: Any, window: Any, lights: Any, sun: Any, half: Any, directions: Any
) -> None:
    count = len(shapes)
    everything = np.arange(count).astype(np.int32)
    near = np.empty(count, np.int32)
    share = np.float32(1 / len(directions))
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            for k in range(grid.shape[2]):
                x, y, z = i * CELL_M - half[0], j * CELL_M - half[1], k * CELL_M
                close = _near(shapes, x, y, z, near)
                for m in range(len(directions)):
                    ex, ey, ez = directions[m, 0], directions[m, 1], directions[m, 2]
                    if not blocked(shapes, near, close, x, y, z, ex, ey, ez, _SKY_M):
                        grid[i, j, k, OPEN] += share
                    sx, sy, sz = sun[0] + 0.03 * ex, sun[1] + 0.03 * ey, sun[2] + 0.03 * ez
                    if _sunny(shapes, everything, window, x, y, z, sx, sy, sz):
                        grid[i, j, k, SUN] += share
                    if m % 2:
                        continue
                    for n in range(len(lights)):
                        # A point of the light's disc.
                        lx = lights[n, 0] + lights[n, 9] * ex - x
                        ly = lights[n, 1] + lights[n, 9] * ey - y
                        lz = lights[n, 2] - z
                        far = math.sqrt(lx * lx + ly * ly + lz * lz) + 1e-9
                        lx, ly, lz = lx / far, ly / far, lz / far
                        if not blocked(shapes, everything, count, x, y, z, lx, ly, lz, far - 0.02):
                            grid[i, j, k, LIGHT + n] += 2 * share


@_compiled
def _near(shapes: Any, x: float, y: float, z: float, out: Any) -> int:
    """How many shapes may come nearer than ``_SKY_M``; their numbers go to ``out``."""
    count = 0
    for i in range(len(shapes)):
        dx, dy, dz = shapes[i, CENTRE] - x, shapes[i, CENTRE + 1] - y, shapes[i, CENTRE + 2] - z
        reach = _SKY_M + shapes[i, BOUND]
        if dx * dx + dy * dy + dz * dz < reach * reach:
            out[count] = i
            count += 1
    return count


@_compiled
def _sunny(
    shapes: Any, everything: Any, window: Any,
    x: float, y: float, z: float, dx: float, dy: float, dz: float,
) -> bool:  # fmt: skip
    """Whether a ray towards the sun leaves through a window before it meets anything else."""
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx / length, dy / length, dz / length
    for i in range(len(shapes)):
        if window[i]:
            t = hit(shapes, i, x, y, z, dx, dy, dz)
            if t < FAR:
                return not blocked(shapes, everything, len(shapes), x, y, z, dx, dy, dz, t - 0.001)
    return False
