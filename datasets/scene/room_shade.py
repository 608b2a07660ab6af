# mypy: disallow-untyped-decorators=False
"""What a point of a room looks like, compiled: solid textures, pictures, light.

Textures are sums of cosines and pictures have levels, both filtered by the pixel's footprint on the
surface (its ray differentials), as a lens and a sensor would: nothing aliases at any size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from retain.datasets.scene.room_cast import blocked, turned
from retain.datasets.scene.room_shapes import CENTRE, MATERIAL, SIZE

# Columns of the table of materials: albedo RGB, texture or -1, picture or -1, gloss, glow.
TEXTURE, IMAGE, GLOSS, GLOW = 3, 4, 5, 6
MATERIAL_COLUMNS = 7
WAVES = 32
LEVELS = 5
CELL_M = 0.125
"""Of the grid in which light's visibility is kept: shadows are as soft as that."""
_SUN, _OPEN, _LIGHT = 0, 1, 2
"""Channels of the grid: the sun; the share of all directions that is free; then the lights."""
_BLUR = 0.5 * (0.5 * 2 * math.pi) ** 2  # a Gaussian of half a pixel, for cycles per pixel
_compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
_exact = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def _solid(waves: Any, x: Any, y: Any, z: Any, u: Any, v: Any) -> Any:
    """RGB of a texture at a point [m], its waves weakened by the footprint ``u``, ``v`` [3]."""
    red, green, blue = np.float32(0), np.float32(0), np.float32(0)
    ux, uy, uz, vx, vy, vz = u[0], u[1], u[2], v[0], v[1], v[2]
    half, one = np.float32(0.5), np.float32(1)
    for k in range(WAVES):
        kx, ky, kz = waves[0, k], waves[1, k], waves[2, k]
        phase = kx * x + ky * y + kz * z + waves[3, k]
        phase -= np.floor(phase + half)
        s = phase * phase
        # cos(2 pi phase) on [-1/2, 1/2], to 1e-4.
        cos = one + s * (
            np.float32(-19.738)
            + s * (np.float32(64.919) + s * (np.float32(-85.11) + s * np.float32(55.6)))
        )
        gu, gv = kx * ux + ky * uy + kz * uz, kx * vx + ky * vy + kz * vz
        q = np.float32(_BLUR) * (gu * gu + gv * gv)
        cos /= one + q * (one + q * (half + q * np.float32(1 / 6)))
        red += waves[4, k] * cos
        green += waves[5, k] * cos
        blue += waves[6, k] * cos
    return red, green, blue


@_exact
def _bilinear(image: Any, side: int, u: float, v: float, channel: int) -> float:
    """``image`` [S, S, 3] has ``side`` pixels in use; u and v from 0 to 1."""
    x = min(max(u * side - 0.5, 0.0), side - 1.0)
    y = min(max(v * side - 0.5, 0.0), side - 1.0)
    i, j = min(int(x), side - 2), min(int(y), side - 2)
    a, b = x - i, y - j
    top = (1 - a) * image[j, i, channel] + a * image[j, i + 1, channel]
    low = (1 - a) * image[j + 1, i, channel] + a * image[j + 1, i + 1, channel]
    return float((1 - b) * top + b * low)


@_exact
def _picture(levels: Any, row: Any, p: Any, u: Any, v: Any) -> Any:
    """RGB of a picture on the two largest sides of a box, at a point in its coordinates."""
    a, b, c = row[SIZE], row[SIZE + 1], row[SIZE + 2]
    i, j = (1, 2) if a <= b and a <= c else ((0, 2) if b <= c else (0, 1))
    wide, high = 2 * row[SIZE + i], 2 * row[SIZE + j]
    across, up = p[i] / wide + 0.5, 0.5 - p[j] / high
    side = levels.shape[1]
    # Texels per pixel, the longer way of the footprint, less the blur bilinear reading adds.
    du = (u[i] / wide) ** 2 + (u[j] / high) ** 2
    dv = (v[i] / wide) ** 2 + (v[j] / high) ** 2
    level = min(max(0.5 * math.log2(max(du, dv) * side * side + 1e-12), 0.0), LEVELS - 1.001)
    low = int(level)
    part = level - low
    red, green, blue = 0.0, 0.0, 0.0
    for k in range(2):
        weight = part if k else 1 - part
        image, size = levels[low + k], side >> (low + k)
        red += weight * _bilinear(image, size, across, up, 0)
        green += weight * _bilinear(image, size, across, up, 1)
        blue += weight * _bilinear(image, size, across, up, 2)
    return red, green, blue


@_exact
def bake(room: Any, size: Any, directions: Any) -> Any:
    """Where light comes through: float32 [X, Y, Z, 2 + lights] at the corners of cells.

    ``directions`` [D, 3] are units spread over the sphere; they serve for sky, sun and lights.
    """
    grid = np.zeros((size[0], size[1], size[2], 2 + len(room.lights)), np.float32)
    for index in range(size[0] * size[1] * size[2]):
        i, j, k = index // (size[1] * size[2]), index // size[2] % size[1], index % size[2]
        x, y, z = i * CELL_M - room.half[0], j * CELL_M - room.half[1], k * CELL_M
        cell = grid[i, j, k]
        for d in range(len(directions)):
            e = directions[d]
            if blocked(room.shapes, x, y, z, e[0], e[1], e[2], 1.2) < 0:
                cell[_OPEN] += 1
            for n in range(len(room.lights)):
                light = room.lights[n]
                lx = light[0] + light[9] * e[0] - x
                ly = light[1] + light[9] * e[1] - y
                lz = light[2] + 0.2 * light[9] * (e[2] - 1.5) - z
                away = math.sqrt(lx * lx + ly * ly + lz * lz) + 1e-9
                if blocked(room.shapes, x, y, z, lx / away, ly / away, lz / away, away - 0.02) < 0:
                    cell[_LIGHT + n] += 1
            sx, sy, sz = (
                room.sun[0] + 0.03 * e[0], room.sun[1] + 0.03 * e[1], room.sun[2] + 0.03 * e[2],
            )  # fmt: skip
            away = math.sqrt(sx * sx + sy * sy + sz * sz)
            met = blocked(room.shapes, x, y, z, sx / away, sy / away, sz / away, 30.0)
            for n in range(len(room.windows)):
                if met == room.windows[n]:
                    cell[_SUN] += 1
        cell /= np.float32(len(directions))
    return grid


@_exact
def _seen(grid: Any, x: float, y: float, z: float, out: Any) -> None:
    """The grid's channels between its corners; x, y, z in cells."""
    i = min(max(int(x), 0), grid.shape[0] - 2)
    j = min(max(int(y), 0), grid.shape[1] - 2)
    k = min(max(int(z), 0), grid.shape[2] - 2)
    a = min(max(x - i, 0.0), 1.0)
    b = min(max(y - j, 0.0), 1.0)
    c = min(max(z - k, 0.0), 1.0)
    for channel in range(grid.shape[3]):
        out[channel] = 0.0
    for corner in range(8):
        di, dj, dk = corner & 1, corner >> 1 & 1, corner >> 2
        weight = (a if di else 1 - a) * (b if dj else 1 - b) * (c if dk else 1 - c)
        for channel in range(grid.shape[3]):
            out[channel] += weight * grid[i + di, j + dj, k + dk, channel]


@_exact
def shade(
    room: Any, grid: Any, shapes: Any, part: int, p: Any, n: Any, d: Any, u: Any, v: Any, seen: Any
) -> Any:
    """Radiance RGB towards the camera of a point ``p`` with normal ``n`` met along ``d``.

    ``u``, ``v``: how the point moves from one pixel to the next, along x and y. ``shapes`` are the
    room's, moved; ``seen`` is room for the grid's channels.
    """
    count = len(shapes)
    face = part - count
    material = room.materials[face if face >= 0 else int(shapes[part, MATERIAL])]
    local, lu, lv = p, u, v
    if face < 0:
        row = shapes[part]
        local = turned(row, p[0] - row[CENTRE], p[1] - row[CENTRE + 1], p[2] - row[CENTRE + 2])
        lu, lv = turned(row, u[0], u[1], u[2]), turned(row, v[0], v[1], v[2])
    red, green, blue = float(material[0]), float(material[1]), float(material[2])
    if material[IMAGE] >= 0 and face < 0:
        r, g, b = _picture(room.images[int(material[IMAGE])], shapes[part], local, lu, lv)
        red, green, blue = red * r, green * g, blue * b
    if material[TEXTURE] >= 0:
        fu = (np.float32(lu[0]), np.float32(lu[1]), np.float32(lu[2]))
        fv = (np.float32(lv[0]), np.float32(lv[1]), np.float32(lv[2]))
        r, g, b = _solid(
            room.textures[int(material[TEXTURE])],
            np.float32(local[0]), np.float32(local[1]), np.float32(local[2]), fu, fv,
        )  # fmt: skip
        red, green, blue = (
            max(red * (1 + r), 0.004), max(green * (1 + g), 0.004), max(blue * (1 + b), 0.004),
        )  # fmt: skip
    # Read a little off the surface, whose inside is dark.
    off = 0.6
    _seen(
        grid,
        (p[0] + room.half[0]) / CELL_M + off * n[0],
        (p[1] + room.half[1]) / CELL_M + off * n[1],
        p[2] / CELL_M + off * n[2],
        seen,
    )
    r, g, b, gloss = _lit(room, p, n, d, seen, material[GLOSS])
    glow = material[GLOW]
    return red * (r + glow) + gloss[0], green * (g + glow) + gloss[1], blue * (b + glow) + gloss[2]


@_exact
def _lit(room: Any, p: Any, n: Any, d: Any, seen: Any, gloss: float) -> Any:
    """Irradiance RGB over pi, and what is reflected as by gloss."""
    sky = seen[_OPEN] * (0.75 + 0.25 * n[2])
    r, g, b = room.ambient[0] * sky, room.ambient[1] * sky, room.ambient[2] * sky
    gr, gg, gb = 0.0, 0.0, 0.0
    away = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
    mirrored = -2 * (d[0] * n[0] + d[1] * n[1] + d[2] * n[2]) / away
    m = (
        d[0] / away + mirrored * n[0],
        d[1] / away + mirrored * n[1],
        d[2] / away + mirrored * n[2],
    )
    s = room.sun
    facing = max(0.0, s[0] * n[0] + s[1] * n[1] + s[2] * n[2]) * seen[_SUN]
    r, g, b = r + facing * s[3], g + facing * s[4], b + facing * s[5]
    for i in range(len(room.lights)):
        light = room.lights[i]
        x, y, z = light[0] - p[0], light[1] - p[1], light[2] - p[2]
        far2 = x * x + y * y + z * z + 1e-6
        far = math.sqrt(far2)
        power = seen[_LIGHT + i] / (far2 + light[9] * light[9])
        power *= max(0.05, -(x * light[3] + y * light[4] + z * light[5]) / far)
        facing = power * max(0.0, (x * n[0] + y * n[1] + z * n[2]) / far)
        r, g, b = r + facing * light[6], g + facing * light[7], b + facing * light[8]
        if gloss > 0:
            shine = max(0.0, (x * m[0] + y * m[1] + z * m[2]) / far) ** 24 * power * gloss
            gr, gg, gb = gr + shine * light[6], gg + shine * light[7], gb + shine * light[8]
    return r, g, b, (gr, gg, gb)
