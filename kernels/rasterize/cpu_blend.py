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
    total,
)

TILE = WIDTH
AREA = TILE * TILE
LIMIT = 0.999
"""No alpha is greater."""
FLOOR = math.log2(1 / 255)
"""Exponent of the smallest alpha that counts."""
STOP = 1e-4
"""A pixel ends before its transmittance would fall to this."""
# Columns of a splat: centre, the quadratic form in powers of two as curve * (dx + shear * dy)^2 +
# fall * dy^2 (never negative, whatever is rounded), exponent of the opacity, half height
# (negative: not drawn).
X, Y, CURVE, SHEAR, FALL, PEAK, HALF = range(7)
SPLAT = 8  # one cache line has two
# Columns of a (tile, Gaussian) gradient, before those of the colours: sums over pixels of s, s dx,
# s dy, s dx^2, s dx dy, s dy^2, with s the gradient of the exponent -sigma.
MOMENTS = 6


@compiled
def _rows(splat: Any, top: int, rows: int) -> Any:
    """First and last row of a tile, at ``top``, that a splat reaches."""
    low = math.ceil(splat[Y] - splat[HALF] - np.float32(0.501)) - top
    high = math.floor(splat[Y] + splat[HALF] - np.float32(0.499)) - top
    return max(low, 0), min(high, rows - 1)


@compiled
def forward(
    begin: int,
    end: int,
    across: int,
    starts: Any,
    slots: Any,
    splats: Any,
    features: Any,
    background: Any,
    image: Any,
    left: Any,
    reached: Any,
) -> None:
    """Tiles ``begin`` to ``end``, of which ``across`` lie side by side, into ``image`` [H, W, D],
    ``left`` [H, W] (transmittance) and ``reached`` [H, W] (Gaussians until the pixel ended).

    ``starts`` [tiles + 1] and ``slots`` say which of ``splats`` [M, 8] and ``features`` [M, D]
    lie over each tile, nearest first.
    """
    height, width, channels = image.shape
    light = np.empty(AREA, np.float32)
    ended = np.empty(AREA, np.float32)
    sums = np.empty(AREA * channels, np.float32)
    lit = np.empty(TILE, np.bool_)
    for tile in range(begin, end):
        x0, y0 = tile % across * TILE, tile // across * TILE
        rows, columns = min(TILE, height - y0), min(TILE, width - x0)
        first, last = starts[tile], starts[tile + 1]
        inside = pick(count_up() < fill(columns), fill(1.0), fill(-1.0))
        for row in range(TILE):
            store(light, row * WIDTH, inside)
            store(ended, row * WIDTH, fill(last - first))
            lit[row] = row < rows
        sums[:] = 0.0
        pixels = count_up() + (x0 + 0.5)
        live = rows
        for place in range(first, last):
            slot = slots[place]
            splat, feature = splats[slot], features[slot]
            low, high = _rows(splat, y0, rows)
            dx = pixels - splat[X]
            for row in range(low, high + 1):
                if not lit[row]:
                    continue
                dy = np.float32(y0 + row + 0.5) - splat[Y]
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
                for k in range(channels):
                    at = k * AREA + row * WIDTH
                    store(sums, at, load(sums, at) + weight * feature[k])
            if live == 0:
                break
        for row in range(rows):
            for column in range(columns):
                at = row * WIDTH + column
                t = abs(light[at])
                left[y0 + row, x0 + column] = t
                reached[y0 + row, x0 + column] = np.int32(ended[at])
                for k in range(channels):
                    image[y0 + row, x0 + column, k] = sums[k * AREA + at] + t * background[k]


@compiled
def backward(
    begin: int,
    end: int,
    across: int,
    starts: Any,
    slots: Any,
    splats: Any,
    features: Any,
    background: Any,
    left: Any,
    reached: Any,
    d_image: Any,
    d_alpha: Any,
    parts: Any,
) -> None:
    """``parts`` [places, 6 + D]: of every Gaussian on every tile, sums over the tile's pixels."""
    height, width, channels = d_image.shape
    light = np.empty(AREA, np.float32)
    ended = np.empty(AREA, np.float32)
    behind = np.empty(AREA, np.float32)
    given = np.empty(AREA * channels, np.float32)
    weights = np.empty(AREA, np.float32)
    for tile in range(begin, end):
        x0, y0 = tile % across * TILE, tile // across * TILE
        rows, columns = min(TILE, height - y0), min(TILE, width - x0)
        first, last = starts[tile], starts[tile + 1]
        light[:] = 1.0
        ended[:] = 0.0
        behind[:] = 0.0
        given[:] = 0.0
        used = 0
        for row in range(rows):
            for column in range(columns):
                at = row * WIDTH + column
                y, x = y0 + row, x0 + column
                light[at] = left[y, x]
                ended[at] = reached[y, x]
                used = max(used, reached[y, x])
                through = -d_alpha[y, x]
                for k in range(channels):
                    given[k * AREA + at] = d_image[y, x, k]
                    through += background[k] * d_image[y, x, k]
                behind[at] = left[y, x] * through
        for place in range(first + used, last):
            parts[place] = 0.0
        pixels = count_up() + (x0 + 0.5)
        for place in range(first + used - 1, first - 1, -1):
            slot = slots[place]
            splat, feature, part = splats[slot], features[slot], parts[place]
            low, high = _rows(splat, y0, rows)
            dx = pixels - splat[X]
            zero = fill(0.0)
            s, s_y, s_yy, sx, sx_y, sxx = zero, zero, zero, zero, zero, zero
            touched = False
            for row in range(low, high + 1):
                at = row * WIDTH
                dy = np.float32(y0 + row + 0.5) - splat[Y]
                u = dx + splat[SHEAR] * dy
                power = (splat[PEAK] - splat[FALL] * dy * dy) - u * u * splat[CURVE]
                seen = (power >= fill(FLOOR)) & (fill(place - first) < load(ended, at))
                if not some(seen):
                    store(weights, at, zero)
                    continue
                touched = True
                full = pick(seen, exp2(power), zero)
                alpha = least(full, fill(LIMIT))
                over = 1.0 / (1.0 - alpha)
                before = load(light, at) * over
                weight = alpha * before
                store(light, at, before)
                store(weights, at, weight)
                shade = load(given, at) * feature[0]
                for k in range(1, channels):
                    shade = shade + load(given, k * AREA + at) * feature[k]
                rest = load(behind, at)
                d = before * shade - over * rest
                store(behind, at, rest + weight * shade)
                d = pick(fill(LIMIT) >= full, d * alpha, zero)
                s = s + d
                s_y = s_y + d * dy
                s_yy = s_yy + d * (dy * dy)
                d = d * dx
                sx = sx + d
                sx_y = sx_y + d * dy
                sxx = sxx + d * dx
            if not touched:
                part[:] = 0.0
                continue
            part[0], part[1], part[2] = total(s), total(sx), total(s_y)
            part[3], part[4], part[5] = total(sxx), total(sx_y), total(s_yy)
            for k in range(channels):
                d = zero
                for row in range(low, high + 1):
                    d = d + load(weights, row * WIDTH) * load(given, k * AREA + row * WIDTH)
                part[MOMENTS + k] = total(d)


@compiled
def gather(
    begin: int,
    end: int,
    order: Any,
    firsts: Any,
    places: Any,
    parts: Any,
    conics: Any,
    opacities: Any,
    d_means: Any,
    d_conics: Any,
    d_opacities: Any,
    d_colors: Any,
    d_depths: Any,
) -> None:
    """Adds to the gradients of Gaussians ``order[begin:end]`` their parts, in the order of tiles.

    ``places[firsts[i] : firsts[i + 1]]`` are the rows of ``parts`` of the i-th Gaussian. A
    channel more than ``d_colors`` has is the depth's.
    """
    columns = parts.shape[1]
    colors = d_colors.shape[1]
    summed = np.empty(columns, np.float32)
    for i in range(begin, end):
        n = order[i]
        summed[:] = 0.0
        for at in range(firsts[i], firsts[i + 1]):
            part = parts[places[at]]
            for k in range(columns):
                summed[k] += part[k]
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
            d_colors[n, k] += summed[MOMENTS + k]
        if columns > MOMENTS + colors:
            d_depths[n] = summed[MOMENTS + colors]
