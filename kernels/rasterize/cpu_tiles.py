"""Which Gaussians lie over which tile, nearest first.

One radix sort by depth, then a stable counting sort by tile: no tile sorts for itself. Gaussians
of the same depth stay in the order in which they were given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from retain.kernels.rasterize.cpu_blend import CURVE, FALL, HALF, PEAK, SHEAR, TILE, X, Y
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
    splats: Any,
    features: Any,
) -> None:
    """Rows ``begin`` to ``end`` of ``splats`` and ``features``, in the order of depth."""
    channels = colors.shape[1]
    for i in range(begin, end):
        n = order[i]
        a, b, c = np.float64(conics[n, 0]), np.float64(conics[n, 1]), np.float64(conics[n, 2])
        # One over the variance in y; float32 cannot tell more than 7 digits of difference.
        fall = max(c - b * b / a, 1e-7 * c)
        opacity = np.float64(opacities[n])
        drawn = a > 0 and fall > 0 and opacity > 0
        reach = 2 * math.log(max(255 * opacity, 1.0)) if drawn else 0.0
        splats[i, X], splats[i, Y] = means[n, 0], means[n, 1]
        splats[i, CURVE] = 0.5 * _LOG2E * a
        splats[i, SHEAR] = b / a if drawn else 0.0
        splats[i, FALL] = 0.5 * _LOG2E * fall
        splats[i, PEAK] = math.log2(opacity) if drawn else 0.0
        splats[i, HALF] = math.sqrt(min(reach, EXTENT * EXTENT) / fall) if drawn else -1.0
        for k in range(channels):
            features[i, k] = colors[n, k]
        if features.shape[1] > channels:
            features[i, channels] = depths[n]


@compiled
def _span(splat: Any, top: float, width: int) -> Any:
    """First and last tile column that a splat's ellipse reaches in rows from ``top`` on."""
    curve, fall = np.float64(splat[CURVE]), np.float64(splat[FALL])
    shear, half = np.float64(splat[SHEAR]), np.float64(splat[HALF])
    reach = fall * half * half
    low = max(top + 0.5 - splat[Y], -half)
    high = min(top + TILE - 0.5 - splat[Y], half)
    if low > high:
        return 1, 0
    # The ellipse is |dx + shear dy| <= sqrt((reach - fall dy^2) / curve); it is widest to the
    # right where shear pulls it.
    turn = -shear * half / math.sqrt(fall / curve + shear * shear)
    right = min(max(turn, low), high)
    left = min(max(-turn, low), high)
    x_right = math.sqrt(max(reach - fall * right * right, 0.0) / curve) - shear * right
    x_left = -math.sqrt(max(reach - fall * left * left, 0.0) / curve) - shear * left
    first = max(math.ceil(splat[X] + x_left - 0.501), 0)
    last = min(math.floor(splat[X] + x_right - 0.499), width - 1)
    if first > last:
        return 1, 0
    return first // TILE, last // TILE


@compiled
def _tile_rows(splat: Any, height: int) -> Any:
    low = max(math.ceil(splat[Y] - splat[HALF] - 0.501), 0)
    high = min(math.floor(splat[Y] + splat[HALF] - 0.499), height - 1)
    if low > high:
        return 1, 0
    return low // TILE, high // TILE


@compiled
def count(
    begin: int, end: int, share: int, splats: Any, width: int, height: int, tiles: Any, per: Any
) -> None:
    """``tiles[begin // share]`` [tiles]: how many of these splats lie over each tile; ``per`` [M]:
    how many tiles each lies over."""
    across = (width + TILE - 1) // TILE
    mine = tiles[begin // share]
    for i in range(begin, end):
        top, bottom = _tile_rows(splats[i], height)
        touched = 0
        for row in range(top, bottom + 1):
            first, last = _span(splats[i], row * TILE, width)
            for column in range(first, last + 1):
                mine[row * across + column] += 1
            touched += max(last - first + 1, 0)
        per[i] = touched


@compiled
def offsets(tiles: Any, per: Any, starts: Any, firsts: Any) -> None:
    """Turns the counts of ``count`` into the places where each share and splat begins."""
    at = 0
    for tile in range(tiles.shape[1]):
        starts[tile] = at
        for share in range(tiles.shape[0]):
            here = tiles[share, tile]
            tiles[share, tile] = at
            at += here
    starts[tiles.shape[1]] = at
    at = 0
    for i in range(per.shape[0]):
        firsts[i] = at
        at += per[i]
    firsts[per.shape[0]] = at


@compiled
def scatter(
    begin: int,
    end: int,
    share: int,
    splats: Any,
    width: int,
    height: int,
    tiles: Any,
    firsts: Any,
    slots: Any,
    places: Any,
) -> None:
    """``slots`` [places]: each tile's splats; ``places``: where in it each splat's tiles are."""
    across = (width + TILE - 1) // TILE
    mine = tiles[begin // share]
    for i in range(begin, end):
        top, bottom = _tile_rows(splats[i], height)
        number = firsts[i]
        for row in range(top, bottom + 1):
            first, last = _span(splats[i], row * TILE, width)
            for tile in range(row * across + first, row * across + last + 1):
                place = mine[tile]
                mine[tile] += 1
                slots[place] = i
                places[number] = place
                number += 1
