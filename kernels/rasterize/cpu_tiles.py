"""Which Gaussians lie over which tile, nearest first.

One radix sort by depth, then a stable counting sort by tile: no tile sorts for itself. Gaussians
of the same depth stay in the order in which they were given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from retain.kernels.rasterize.cpu_blend import (
    CHANNELS,
    CURVE,
    FALL,
    FLOOR,
    HALF,
    PEAK,
    SHEAR,
    TILE,
    X,
    Y,
)
from retain.kernels.rasterize.lanes import compiled

EXTENT = 3.33
"""Standard deviations beyond which nothing is drawn, whatever the opacity."""
_DIGIT = 11
_LOG2E = math.log2(math.e)


@compiled
def by_depth(depths: Any, radii: Any) -> Any:
    """Numbers int32 [M] of the Gaussians with ``radii`` [N, 2] greater than zero, nearest first."""
    n = depths.shape[0]
    bits = depths.view(np.uint32)
    keys, order = np.empty(n, np.uint32), np.empty(n, np.int32)
    m = 0
    for i in range(n):
        if radii[i, 0] > 0 and radii[i, 1] > 0:
            # Bits of floats compare as whole numbers do, once those of negative ones are turned.
            turn = np.uint32(0xFFFFFFFF) if bits[i] >> np.uint32(31) else np.uint32(0x80000000)
            keys[m], order[m] = bits[i] ^ turn, i
            m += 1
    other_keys, other = np.empty(m, np.uint32), np.empty(m, np.int32)
    keys, order = keys[:m], order[:m]
    for shift in range(0, 32, _DIGIT):
        counts = np.zeros((1 << _DIGIT) + 1, np.int64)
        for i in range(m):
            counts[((keys[i] >> np.uint32(shift)) & np.uint32((1 << _DIGIT) - 1)) + 1] += 1
        for i in range(1 << _DIGIT):
            counts[i + 1] += counts[i]
        for i in range(m):
            digit = (keys[i] >> np.uint32(shift)) & np.uint32((1 << _DIGIT) - 1)
            at = counts[digit]
            counts[digit] += 1
            other_keys[at], other[at] = keys[i], order[i]
        keys, other_keys, order, other = other_keys, keys, other, order
    return order


@compiled
def prepare(
    begin: int,
    end: int,
    order: Any,
    means: Any,
    conics: Any,
    opacities: Any,
    colors: Any,
    depths: Any,
    width: int,
    height: int,
    splats: Any,
    room: Any,
) -> None:
    """Rows ``begin`` to ``end`` of ``splats``, in the order of depth, and of ``room`` [M]: no more
    tiles than this does it lie over."""
    channels = colors.shape[1]
    for i in range(begin, end):
        n, splat = order[i], splats[i]
        a, b, c = np.float64(conics[n, 0]), np.float64(conics[n, 1]), np.float64(conics[n, 2])
        # One over the variance in y; float32 cannot tell more than 7 digits of difference.
        fall = max(c - b * b / a, 1e-7 * c)
        opacity = np.float64(opacities[n])
        drawn = a > 0 and fall > 0 and opacity > 0
        reach = 2 * math.log(255 * opacity) if drawn else -1.0
        splat[X], splat[Y] = means[n, 0], means[n, 1]
        splat[CURVE] = 0.5 * _LOG2E * a
        splat[SHEAR] = b / a if drawn else 0.0
        splat[FALL] = 0.5 * _LOG2E * fall
        splat[PEAK] = 0.5 * _LOG2E * reach + FLOOR
        splat[HALF] = math.sqrt(min(reach, EXTENT * EXTENT) / fall) if reach >= 0 else -1.0
        for k in range(channels):
            splat[CHANNELS + k] = colors[n, k]
        if splats.shape[1] > CHANNELS + channels:
            splat[CHANNELS + channels] = depths[n]
        left, right, top, bottom = _box(splat, width, height)
        room[i] = max(right - left + 1, 0) * max(bottom - top + 1, 0)


@compiled
def _between(low: float, high: float, size: int) -> Any:
    """First and last tile whose pixels have centres from ``low`` to ``high``; none: 1, 0."""
    first, last = max(math.ceil(low - 0.501), 0), min(math.floor(high - 0.499), size - 1)
    return (first // TILE, last // TILE) if first <= last else (1, 0)


@compiled
def _box(splat: Any, width: int, height: int) -> Any:
    """First and last tile column and row of a splat's box."""
    half, shear = np.float64(splat[HALF]), np.float64(splat[SHEAR])
    if half < 0:
        return 1, 0, 1, 0
    wide = half * math.sqrt(np.float64(splat[FALL]) / splat[CURVE] + shear * shear)
    left, right = _between(splat[X] - wide, splat[X] + wide, width)
    top, bottom = _between(splat[Y] - half, splat[Y] + half, height)
    return left, right, top, bottom


@compiled
def list_tiles(
    begin: int,
    end: int,
    share: int,
    splats: Any,
    width: int,
    height: int,
    firsts: Any,
    tiles: Any,
    counts: Any,
) -> None:
    """``tiles`` of every splat, from ``firsts`` on, ended by -1 where there is room left; and
    ``counts[begin // share]`` [tiles], how many of these splats lie over each."""
    across = (width + TILE - 1) // TILE
    mine = counts[begin // share]
    for i in range(begin, end):
        splat = splats[i]
        left, right, top, bottom = _box(splat, width, height)
        half, shear = np.float64(splat[HALF]), np.float64(splat[SHEAR])
        shape = np.float64(splat[FALL]) / splat[CURVE]
        # The ellipse is |dx + shear dy| <= sqrt(shape (half^2 - dy^2)), widest to the right where
        # shear pulls it.
        turn = -shear * half / math.sqrt(shape + shear * shear)
        number = firsts[i]
        for row in range(top, bottom + 1):
            low = max(row * TILE + 0.5 - splat[Y], -half)
            high = min((row + 1) * TILE - 0.5 - splat[Y], half)
            at = min(max(turn, low), high)
            x_right = math.sqrt(max(shape * (half * half - at * at), 0.0)) - shear * at
            at = min(max(-turn, low), high)
            x_left = -math.sqrt(max(shape * (half * half - at * at), 0.0)) - shear * at
            first, last = _between(splat[X] + x_left, splat[X] + x_right, width)
            for column in range(max(first, left), min(last, right) + 1):
                tiles[number] = row * across + column
                mine[row * across + column] += 1
                number += 1
        if number < firsts[i + 1]:
            tiles[number] = -1


@compiled
def offsets(room: Any, firsts: Any) -> None:
    at = 0
    for i in range(room.shape[0]):
        firsts[i] = at
        at += room[i]
    firsts[room.shape[0]] = at


@compiled
def begins(counts: Any, starts: Any) -> None:
    """From the ``counts`` of ``list_tiles`` to where each tile's list and each share's part of it
    begins."""
    at = 0
    for tile in range(counts.shape[1]):
        starts[tile] = at
        for share in range(counts.shape[0]):
            here = counts[share, tile]
            counts[share, tile] = at
            at += here
    starts[counts.shape[1]] = at


@compiled
def scatter(
    begin: int, end: int, share: int, firsts: Any, tiles: Any, counts: Any, slots: Any, numbers: Any
) -> None:
    """``slots`` and ``numbers`` [places]: each tile's splats, and where ``tiles`` names them."""
    mine = counts[begin // share]
    for i in range(begin, end):
        for number in range(firsts[i], firsts[i + 1]):
            tile = tiles[number]
            if tile < 0:
                break
            place = mine[tile]
            mine[tile] += 1
            slots[place], numbers[place] = i, number
