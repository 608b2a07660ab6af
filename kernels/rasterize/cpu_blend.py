"""A tile's Gaussians over its pixels, front to back, and the gradients back to front.

A tile is 16 x 16 pixels; each of its rows is one ``Lanes``. What a tile needs while it is worked on
(transmittance, colours, gradients) lies in a few kilobytes of its own, row after row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from retain.kernels.rasterize.lanes import (
    WIDTH,
    compiled,
    count_up,
    exp2,
    fill,
    least,
    load,
    magnitude,
    pick,
    some,
    store,
    store_totals,
)

TILE = WIDTH
AREA = TILE * TILE
LIMIT = 0.999
"""No alpha is greater."""
FLOOR = math.log2(1 / 255)
"""Exponent of the smallest alpha that counts."""
_LN2 = math.log(2)
STOP = 1e-4
"""A pixel ends before its transmittance would fall to this."""
# Columns of a splat, a Gaussian as it is drawn: centre, the quadratic form in powers of two as
# curve * (dx + shear * dy)^2 + fall * dy^2 (never negative, whatever is rounded), exponent of the
# opacity, half height (negative: not drawn).
X, Y, CURVE, SHEAR, FALL, PEAK, HALF = range(7)
# Columns of a part, the gradient of one Gaussian on one tile: sums over the tile's pixels of s,
# s dx, s dy, s dx^2, s dx dy and s dy^2, with s the gradient of the exponent -sigma; then of the
# magnitudes of the centre's gradients in x and y, where they are wanted.
# In both, the channels follow.
CHANNELS = 8


@compiled
def _rows(y: float, half: float, top: int, rows: int) -> Any:
    """First and last row of a tile, at ``top``, that a splat reaches."""
    low = math.ceil(y - half - np.float32(0.501)) - top
    high = math.floor(y + half - np.float32(0.499)) - top
    return max(low, 0), min(high, rows - 1)


@compiled
def forward(
    begin: int,
    end: int,
    starts: Any,
    slots: Any,
    splats: Any,
    background: Any,
    image: Any,
    left: Any,
    reached: Any,
) -> None:
    """Tiles ``begin`` to ``end`` into ``image`` [H, W, D], ``left`` [H, W] (transmittance) and
    ``reached`` [H, W] (how many Gaussians the pixel came to).

    ``starts`` [tiles + 1] and ``slots`` say which of ``splats`` [M, 8 + D] lie over each tile,
    nearest first.
    """
    height, width, channels = image.shape
    across = (width + TILE - 1) // TILE
    light, ended = np.empty(AREA, np.float32), np.empty(AREA, np.float32)
    sums = np.empty(AREA * channels, np.float32)
    lit, middles = np.empty(TILE, np.bool_), np.empty(TILE, np.float32)
    for tile in range(begin, end):
        x0, y0 = tile % across * TILE, tile // across * TILE
        rows, columns = min(TILE, height - y0), min(TILE, width - x0)
        first, last = starts[tile], starts[tile + 1]
        inside = pick(count_up() < fill(columns), fill(1.0), fill(-1.0))
        for row in range(TILE):
            store(light, row * WIDTH, inside)
            store(ended, row * WIDTH, fill(last - first))
            lit[row], middles[row] = row < rows, y0 + row + 0.5
        sums[:] = 0.0
        pixels = count_up() + (x0 + 0.5)
        live = rows
        for place in range(first, last):
            splat = splats[slots[place]]
            low, high = _rows(splat[Y], splat[HALF], y0, rows)
            dx = pixels - splat[X]
            for row in range(low, high + 1):
                if not lit[row]:
                    continue
                dy = middles[row] - splat[Y]
                u = dx + splat[SHEAR] * dy
                power = (splat[PEAK] - splat[FALL] * dy * dy) - u * u * splat[CURVE]
                seen = power >= fill(FLOOR)
                if not some(seen):
                    continue
                alpha = least(pick(seen, exp2(power), fill(0.0)), fill(LIMIT))
                before = load(light, row * WIDTH)
                weight = alpha * before
                after = before - weight
                # A pixel that ended has its transmittance negative from then on.
                stop = after < fill(STOP)
                new = stop & (before >= fill(0.0))
                after = pick(stop, fill(0.0) - magnitude(before), after)
                weight = pick(stop, fill(0.0), weight)
                store(light, row * WIDTH, after)
                if some(new):
                    at = load(ended, row * WIDTH)
                    store(ended, row * WIDTH, pick(new, fill(place - first), at))
                    if not some(after >= fill(0.0)):
                        lit[row] = False
                        live -= 1
                at = row * channels * WIDTH
                for k in range(channels):
                    store(sums, at, load(sums, at) + weight * splat[CHANNELS + k])
                    at += WIDTH
            if live == 0:
                break
        for row in range(rows):
            for column in range(columns):
                at = row * WIDTH + column
                t = abs(light[at])
                left[y0 + row, x0 + column] = t
                reached[y0 + row, x0 + column] = np.int32(ended[at])
                at = row * channels * WIDTH + column
                for k in range(channels):
                    image[y0 + row, x0 + column, k] = sums[at + k * WIDTH] + t * background[k]


@compiled
def backward(
    begin: int,
    end: int,
    starts: Any,
    slots: Any,
    numbers: Any,
    splats: Any,
    background: Any,
    left: Any,
    reached: Any,
    d_image: Any,
    d_alpha: Any,
    parts: Any,
    touched: Any,
    absolute: bool,
) -> None:
    """``parts`` [pairs, 8 + D, padded] of every Gaussian on every tile it is seen on, at the
    ``numbers`` of their places; ``touched`` [pairs] says which were set."""
    height, width, channels = d_image.shape
    across, size = (width + TILE - 1) // TILE, parts.shape[1]
    wide = size - CHANNELS  # the channels, and zeros up to a multiple of four
    flat = parts.reshape(parts.size)
    light, ended = np.empty(AREA, np.float32), np.empty(AREA, np.float32)
    behind, weights = np.empty(AREA, np.float32), np.empty(AREA, np.float32)
    given = np.empty(AREA * wide, np.float32)
    middles = np.empty(TILE, np.float32)
    zero = fill(0.0)
    for tile in range(begin, end):
        x0, y0 = tile % across * TILE, tile // across * TILE
        rows, columns = min(TILE, height - y0), min(TILE, width - x0)
        first = starts[tile]
        light[:], ended[:], behind[:], given[:] = 1.0, 0.0, 0.0, 0.0
        used = 0
        for row in range(rows):
            middles[row] = y0 + row + 0.5
            for column in range(columns):
                at, y, x = row * WIDTH + column, y0 + row, x0 + column
                light[at], ended[at] = left[y, x], reached[y, x]
                used = max(used, reached[y, x])
                through = -d_alpha[y, x]
                for k in range(channels):
                    given[(row * wide + k) * WIDTH + column] = d_image[y, x, k]
                    through += background[k] * d_image[y, x, k]
                behind[at] = left[y, x] * through
        pixels = count_up() + (x0 + 0.5)
        for place in range(first + used - 1, first - 1, -1):
            splat = splats[slots[place]]
            low, high = _rows(splat[Y], splat[HALF], y0, rows)
            dx = pixels - splat[X]
            s, s_y, s_yy, sx, sx_y, sxx = zero, zero, zero, zero, zero, zero
            size_x, size_y = zero, zero
            any_seen = False
            for row in range(low, high + 1):
                at = row * WIDTH
                dy = middles[row] - splat[Y]
                u = dx + splat[SHEAR] * dy
                power = (splat[PEAK] - splat[FALL] * dy * dy) - u * u * splat[CURVE]
                seen = (power >= fill(FLOOR)) & (fill(place - first) < load(ended, at))
                if not some(seen):
                    store(weights, at, zero)
                    continue
                any_seen = True
                full = pick(seen, exp2(power), zero)
                alpha = least(full, fill(LIMIT))
                over = 1.0 / (1.0 - alpha)
                before = load(light, at) * over
                weight = alpha * before
                store(light, at, before)
                store(weights, at, weight)
                shade = zero
                for k in range(channels):
                    shade = shade + load(given, at * wide + k * WIDTH) * splat[CHANNELS + k]
                rest = load(behind, at)
                d = before * shade - over * rest
                store(behind, at, rest + weight * shade)
                d = pick(fill(LIMIT) >= full, d * alpha, zero)
                if absolute:
                    slope = u * (2 * _LN2 * splat[CURVE])
                    size_x = size_x + magnitude(d * slope)
                    down = 2 * _LN2 * splat[FALL] * dy
                    size_y = size_y + magnitude(d * (slope * splat[SHEAR] + down))
                s = s + d
                s_y = s_y + d * dy
                s_yy = s_yy + d * (dy * dy)
                d = d * dx
                sx = sx + d
                sx_y = sx_y + d * dy
                sxx = sxx + d * dx
            if not any_seen:
                continue
            number = numbers[place]
            touched[number] = 1
            to = number * size
            store_totals(flat, to, s, sx, s_y, sxx)
            store_totals(flat, to + 4, sx_y, s_yy, size_x, size_y)
            for k in range(0, wide, 4):
                one, two, three, four = zero, zero, zero, zero
                for row in range(low, high + 1):
                    weight, at = load(weights, row * WIDTH), (row * wide + k) * WIDTH
                    one = one + weight * load(given, at)
                    two = two + weight * load(given, at + WIDTH)
                    three = three + weight * load(given, at + 2 * WIDTH)
                    four = four + weight * load(given, at + 3 * WIDTH)
                store_totals(flat, to + CHANNELS + k, one, two, three, four)


@compiled
def gather(
    begin: int,
    end: int,
    order: Any,
    firsts: Any,
    parts: Any,
    touched: Any,
    conics: Any,
    opacities: Any,
    d_means: Any,
    d_conics: Any,
    d_opacities: Any,
    d_colors: Any,
    d_depths: Any,
    d_absolute: Any,
) -> None:
    """The gradients of Gaussians ``order[begin:end]`` from their parts, in the order of tiles;
    those of colours are added.

    ``parts[firsts[i] : firsts[i + 1]]`` are the i-th one's. A channel more than ``d_colors`` has
    is the depth's.
    """
    columns, colors = parts.shape[1], d_colors.shape[1]
    summed = np.empty(columns, np.float32)
    for i in range(begin, end):
        n = order[i]
        summed[:] = 0.0
        some_part = False
        for number in range(firsts[i], firsts[i + 1]):
            if touched[number]:
                some_part = True
                for k in range(columns):
                    summed[k] += parts[number, k]
        if not some_part:
            continue
        s, sx, sy, sxx, sxy, syy = summed[0], summed[1], summed[2], summed[3], summed[4], summed[5]
        a, b, c = conics[n, 0], conics[n, 1], conics[n, 2]
        # d = pixel - centre, and the exponent is -(a dx^2 + c dy^2) / 2 - b dx dy.
        d_means[n, 0] = a * sx + b * sy
        d_means[n, 1] = b * sx + c * sy
        d_conics[n, 0] = np.float32(-0.5) * sxx
        d_conics[n, 1] = -sxy
        d_conics[n, 2] = np.float32(-0.5) * syy
        d_opacities[n] = s / opacities[n]
        for k in range(colors):
            d_colors[n, k] += summed[CHANNELS + k]
        if d_depths.shape[0]:
            d_depths[n] = summed[CHANNELS + colors]
        if d_absolute.shape[0]:
            d_absolute[n, 0], d_absolute[n, 1] = summed[6], summed[7]
