# mypy: disallow-untyped-decorators=False
"""Depth of a picture from its neighbours with known poses: a plane sweep.

Each pixel is compared with its neighbours at planes of constant inverse depth (Collins, CVPR 1996)
by normalised correlation, which exposure does not change. What texture does not decide,
semi-global matching takes from around (Hirschmueller, PAMI 2008). No learned weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from retain.kernels.geometry.camera import Camera

Floats = NDArray[np.float32]
Motion = NDArray[np.float64]
"""[4, 4], coordinates of the picture's camera to those of a neighbour's."""

PLANES = 56
PATCH = 5
"""Pixels: side of the patches that are compared."""
_GREY = 4.0
"""Variance of grey levels that is nothing but noise."""
_NEUTRAL = np.float32(0.5)
"""Cost of a plane that nothing is known of: that of patches without correlation."""
_BEND, _JUMP = np.float32(0.04), np.float32(0.5)
"""What it costs a neighbour to be one plane off, and any farther; the latter less at an edge."""
_EDGE = np.float32(20.0)
"""Grey levels of an edge where depth may jump at half the cost."""
_GOOD = np.float32(0.3)
"""Cost of a match that stands for itself: a correlation of 0.4."""
_UNIQUE = np.float32(0.97)
"""The best cost must be under this share of every other one that is no neighbour of it."""


@dataclass(frozen=True, slots=True)
class Swept:
    """[h, w] each."""

    depth: Floats
    """0 where unknown."""
    sure: NDArray[np.bool_]
    """Where the pictures themselves agree; elsewhere the depth comes from around the pixel."""


def sweep(
    grey: Floats, camera: Camera, others: list[tuple[Floats, Motion]], near: float, far: float,
    pins: NDArray[np.float64], planes: int = PLANES,
) -> Swept:  # fmt: skip
    """``grey`` float32 [h, w] of ``camera``, 0..255; ``others`` the same of two neighbours or more.
    Depths between ``near`` and ``far``. ``pins`` [N, 3]: u, v (pixels), depth of known points."""
    inverse = np.linspace(1 / far, 1 / near, planes)
    cost = _costs(grey, camera, others, inverse)
    _pinned(cost, pins, inverse)
    total = _paths(cost, np.ascontiguousarray(grey))
    place, unique, best = _winners(total, cost)
    z = 1 / (inverse[0] + place * (inverse[1] - inverse[0]))
    sure = unique & (best < _GOOD)
    known = unique & (place > 0) & (place < planes - 1)
    depth = np.where(known, z, 0).astype(np.float32)
    return Swept(_despeckled(depth), sure & known)


def _costs(
    grey: Floats, camera: Camera, others: list[tuple[Floats, Motion]], inverse: NDArray[np.float64]
) -> Floats:
    """[h, w, planes] in 0..1: half of one minus the correlation, the better half of neighbours."""
    h, w = grey.shape
    mean, variance = _moments(grey)
    out = np.empty((h, w, len(inverse)), np.float32)
    # Pixel i has its centre at i here, as warps have it.
    k = camera.K
    k[:2, 2] -= 0.5
    back = np.linalg.inv(k)
    stacked = [np.dstack([other, np.ones_like(other)]) for other, _ in others]
    costs = np.empty((len(others), h, w), np.float32)
    for p, i in enumerate(inverse):
        for n, (_, motion) in enumerate(others):
            plane = motion[:3, :3].copy()
            plane[:, 2] += motion[:3, 3] * i
            warped = cv2.warpPerspective(
                stacked[n], k @ plane @ back, (w, h),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            )  # fmt: skip
            costs[n] = _cost(grey, mean, variance, warped)
        out[:, :, p] = _better_half(costs)
    return out


def _cost(grey: Floats, mean: Floats, variance: Floats, warped: Floats) -> Floats:
    other = np.ascontiguousarray(warped[..., 0])
    other_mean, other_variance = _moments(other)
    both = cv2.blur(grey * other, (PATCH, PATCH)) - mean * other_mean
    correlation = both / np.sqrt((variance + _GREY) * (other_variance + _GREY))
    outside = cv2.erode(warped[..., 1], np.ones((PATCH, PATCH), np.uint8)) < 0.99
    cost = (1 - correlation) * np.float32(0.5)
    cost[outside] = _NEUTRAL
    return np.asarray(cost, np.float32)


def _moments(grey: Floats) -> tuple[Floats, Floats]:
    mean = cv2.blur(grey, (PATCH, PATCH))
    variance = np.maximum(cv2.blur(grey * grey, (PATCH, PATCH)) - mean * mean, 0)
    return mean, variance


def _better_half(costs: Floats) -> Floats:
    """Mean of the two lowest of ``costs`` [n, h, w], the lowest alone of two: what some neighbours
    cannot see, others can."""
    low, second = np.minimum(costs[0], costs[1]), np.maximum(costs[0], costs[1])
    if len(costs) == 2:
        return np.asarray(low)
    for cost in costs[2:]:
        second = np.minimum(second, np.maximum(low, cost))
        low = np.minimum(low, cost)
    return np.asarray((low + second) * np.float32(0.5))


def _pinned(cost: Floats, pins: NDArray[np.float64], inverse: NDArray[np.float64]) -> None:
    """Make the planes of known points cheap at their pixels, and others dear."""
    h, w, planes = cost.shape
    x, y = pins[:, 0].astype(np.int64), pins[:, 1].astype(np.int64)
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h) & (pins[:, 2] > 0)
    x, y = x[inside], y[inside]
    place = (1 / pins[inside, 2] - inverse[0]) / (inverse[1] - inverse[0])
    off = np.abs(np.arange(planes) - place[:, None])
    cost[y, x] = np.minimum(0.25 * off, 1.0)


_compiled = njit(cache=True, nogil=True, fastmath=True)


@_compiled
def _paths(cost, grey):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sum over four directions of the cheapest path to each pixel and plane; [h, w, planes]."""
    h, w, planes = cost.shape
    total = np.zeros_like(cost)
    last, now = np.zeros(planes, np.float32), np.zeros(planes, np.float32)
    for direction in range(4):
        across = direction < 2
        reverse = direction % 2 == 1
        for line in range(h if across else w):
            before = np.float32(0)
            for k in range(w if across else h):
                at = (w if across else h) - 1 - k if reverse else k
                y, x = (line, at) if across else (at, line)
                here = grey[y, x]
                if k == 0:
                    for d in range(planes):
                        now[d] = cost[y, x, d]
                else:
                    least = last[0]
                    for d in range(1, planes):
                        least = min(least, last[d])
                    jump = _JUMP / (1 + abs(here - before) / _EDGE)
                    ceiling = least + jump
                    for d in range(planes):
                        c = min(last[d], ceiling)
                        if d > 0:
                            c = min(c, last[d - 1] + _BEND)
                        if d < planes - 1:
                            c = min(c, last[d + 1] + _BEND)
                        now[d] = cost[y, x, d] + c - least
                before = here
                for d in range(planes):
                    total[y, x, d] += now[d]
                last, now = now, last
    return total


@_compiled
def _winners(total, cost):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Per pixel: the cheapest plane, between planes; whether it stands alone; its own cost."""
    h, w, planes = total.shape
    place = np.zeros((h, w), np.float32)
    unique = np.zeros((h, w), np.bool_)
    best = np.zeros((h, w), np.float32)
    for y in range(h):
        for x in range(w):
            row = total[y, x]
            low = 0
            for d in range(1, planes):
                if row[d] < row[low]:
                    low = d
            second = np.float32(1e9)
            for d in range(planes):
                if abs(d - low) > 2:
                    second = min(second, row[d])
            unique[y, x] = row[low] < _UNIQUE * second
            best[y, x] = cost[y, x, low]
            place[y, x] = low
            if 0 < low < planes - 1:
                bend = row[low - 1] - 2 * row[low] + row[low + 1]
                if bend > 0:
                    place[y, x] = low + 0.5 * (row[low - 1] - row[low + 1]) / bend
    return place, unique, best


def _despeckled(depth: Floats) -> Floats:
    """Without pixels that differ from the middle of their surroundings."""
    middle = cv2.medianBlur(depth, 5)
    return np.where(np.abs(middle - depth) < 0.05 * depth, depth, 0).astype(np.float32)


def enlarged(depth: Floats, width: int, height: int) -> Floats:
    """``depth`` at another size: between pixels of one surface linear in inverse depth, at edges
    the nearest pixel's."""
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 1e-6), 0).astype(np.float32)
    size = width, height
    nearest = cv2.resize(inverse, size, interpolation=cv2.INTER_NEAREST)
    smooth = cv2.resize(inverse, size, interpolation=cv2.INTER_LINEAR)
    best = np.where(np.abs(smooth - nearest) < 0.02 * nearest, smooth, nearest)
    return np.where(best > 0, 1 / np.maximum(best, 1e-6), 0).astype(np.float32)
