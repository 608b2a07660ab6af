# mypy: disallow-untyped-decorators=False
"""What a point of a room looks like, compiled: its colour, and the light on it.

Textures are sums of cosines and pictures have levels, both filtered by the pixel's footprint on the
surface (its ray differentials), as a lens and a sensor would: nothing aliases at any size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from retain.datasets.scene.room_cast import turned
from retain.datasets.scene.room_shapes import CENTRE, MATERIAL, SIZE

# Columns of the table of materials: albedo RGB, texture or -1, picture or -1, gloss, glow.
TEXTURE, IMAGE, GLOSS, GLOW = 3, 4, 5, 6
MATERIAL_COLUMNS = 7
WAVES = 32
LEVELS = 5
CELL_M = 0.125
"""Of the grid in which light's visibility is kept: shadows are as soft as that."""
SUN, OPEN, LIGHT = 0, 1, 2
"""Channels of the grid: the sun; the share of all directions that is free; then the lights."""
_OFF = 0.6
"""Cells above a surface at which the grid is read: inside the shape it is dark."""
_BLUR = 0.5 * (0.5 * 2 * math.pi) ** 2  # a Gaussian of half a pixel, for cycles per pixel
_compiled = njit(cache=True, nogil=True, error_model="numpy")
_fast = njit(cache=True, nogil=True, error_model="numpy", fastmath=True)


@_fast
def _solid(textures: Any, i: int, x: Any, y: Any, z: Any, u: Any, v: Any) -> Any:
    """RGB of a texture at a point [m], its waves weakened by the footprint ``u``, ``v`` [3]."""
    red, green, blue = np.float32(0), np.float32(0), np.float32(0)
    ux, uy, uz, vx, vy, vz = u[0], u[1], u[2], v[0], v[1], v[2]
    half, one = np.float32(0.5), np.float32(1)
    for k in range(WAVES):
        kx, ky, kz = textures[i, 0, k], textures[i, 1, k], textures[i, 2, k]
        phase = kx * x + ky * y + kz * z + textures[i, 3, k]
        phase -= np.floor(phase + half)
        s = phase * phase
        # cos(2 pi phase) on [-1/2, 1/2]
        cos = one + s * (
            np.float32(-19.738)
            + s * (np.float32(64.919) + s * (np.float32(-85.11) + s * np.float32(55.6)))
        )
        gu, gv = kx * ux + ky * uy + kz * uz, kx * vx + ky * vy + kz * vz
        q = np.float32(_BLUR) * (gu * gu + gv * gv)
        cos /= one + q * (one + q * (half + q * np.float32(1 / 6)))
        red += textures[i, 4, k] * cos
        green += textures[i, 5, k] * cos
        blue += textures[i, 6, k] * cos
    return red, green, blue


@_compiled
def _level(images: Any, image: int, level: int, u: float, v: float) -> Any:
    """RGB of one level of a picture between its pixels; u and v from 0 to 1."""
    side = images.shape[2] >> level
    x = min(max(u * side - 0.5, 0.0), side - 1.0)
    y = min(max(v * side - 0.5, 0.0), side - 1.0)
    i, j = min(int(x), side - 2), min(int(y), side - 2)
    a, b = x - i, y - j
    red, green, blue = 0.0, 0.0, 0.0
    for corner in range(4):
        di, dj = corner & 1, corner >> 1
        weight = (a if di else 1 - a) * (b if dj else 1 - b)
        red += weight * images[image, level, j + dj, i + di, 0]
        green += weight * images[image, level, j + dj, i + di, 1]
        blue += weight * images[image, level, j + dj, i + di, 2]
    return red, green, blue


@_compiled
def _picture(images: Any, image: int, shapes: Any, i: int, p: Any, u: Any, v: Any) -> Any:
    """RGB of a picture on the two largest sides of a box, at a point in its coordinates."""
    a, b, c = shapes[i, SIZE], shapes[i, SIZE + 1], shapes[i, SIZE + 2]
    if a <= b and a <= c:
        x, y, ux, uy, vx, vy, wide, high = p[1], p[2], u[1], u[2], v[1], v[2], 2 * b, 2 * c
    elif b <= c:
        x, y, ux, uy, vx, vy, wide, high = p[0], p[2], u[0], u[2], v[0], v[2], 2 * a, 2 * c
    else:
        x, y, ux, uy, vx, vy, wide, high = p[0], p[1], u[0], u[1], v[0], v[1], 2 * a, 2 * b
    side = images.shape[2]
    # Texels per pixel, the longer way of the footprint.
    texels2 = max((ux / wide) ** 2 + (uy / high) ** 2, (vx / wide) ** 2 + (vy / high) ** 2)
    level = min(max(0.5 * math.log2(texels2 * side * side + 1e-12), 0.0), LEVELS - 1.001)
    low = int(level)
    part = level - low
    x, y = x / wide + 0.5, 0.5 - y / high
    r0, g0, b0 = _level(images, image, low, x, y)
    r1, g1, b1 = _level(images, image, low + 1, x, y)
    return r0 + part * (r1 - r0), g0 + part * (g1 - g0), b0 + part * (b1 - b0)


@_compiled
def colour(
    materials: Any, textures: Any, images: Any, shapes: Any, part: int, p: Any, u: Any, v: Any
) -> Any:
    """Albedo RGB of a point ``p`` of a part, and the number of its material.

    ``u``, ``v``: how the point moves from one pixel to the next, along x and y.
    """
    material = part - len(shapes)
    local, lu, lv = p, u, v
    if material < 0:
        material = int(shapes[part, MATERIAL])
        x, y, z = shapes[part, CENTRE], shapes[part, CENTRE + 1], shapes[part, CENTRE + 2]
        local = turned(shapes, part, p[0] - x, p[1] - y, p[2] - z)
        lu = turned(shapes, part, u[0], u[1], u[2])
        lv = turned(shapes, part, v[0], v[1], v[2])
    red = float(materials[material, 0])
    green = float(materials[material, 1])
    blue = float(materials[material, 2])
    image, texture = int(materials[material, IMAGE]), int(materials[material, TEXTURE])
    if image >= 0 and part < len(shapes):
        r, g, b = _picture(images, image, shapes, part, local, lu, lv)
        red, green, blue = red * r, green * g, blue * b
    if texture >= 0:
        r, g, b = _solid(
            textures, texture,
            np.float32(local[0]), np.float32(local[1]), np.float32(local[2]),
            (np.float32(lu[0]), np.float32(lu[1]), np.float32(lu[2])),
            (np.float32(lv[0]), np.float32(lv[1]), np.float32(lv[2])),
        )  # fmt: skip
        red = max(red * (1 + r), 0.004)
        green = max(green * (1 + g), 0.004)
        blue = max(blue * (1 + b), 0.004)
    return red, green, blue, material


@_compiled
def _visible(grid: Any, x: float, y: float, z: float, out: Any) -> None:
    """The grid's channels between its corners; x, y, z in cells."""
    i = min(max(int(x), 0), grid.shape[0] - 2)
    j = min(max(int(y), 0), grid.shape[1] - 2)
    k = min(max(int(z), 0), grid.shape[2] - 2)
    a = min(max(x - i, 0.0), 1.0)
    b = min(max(y - j, 0.0), 1.0)
    c = min(max(z - k, 0.0), 1.0)
    for channel in range(grid.shape[3]):
        near = (1 - b) * ((1 - a) * grid[i, j, k, channel] + a * grid[i + 1, j, k, channel]) + b * (
            (1 - a) * grid[i, j + 1, k, channel] + a * grid[i + 1, j + 1, k, channel]
        )
        k1 = k + 1
        far = (1 - b) * (
            (1 - a) * grid[i, j, k1, channel] + a * grid[i + 1, j, k1, channel]
        ) + b * ((1 - a) * grid[i, j + 1, k1, channel] + a * grid[i + 1, j + 1, k1, channel])
        out[channel] = (1 - c) * near + c * far


@_compiled
def lit(
    lights: Any, sun: Any, ambient: Any, half: Any, grid: Any,
    p: Any, n: Any, d: Any, gloss: float, seen: Any,
) -> Any:  # fmt: skip
    """Irradiance / pi RGB of a point ``p`` with normal ``n`` met along ``d``; RGB of its gloss.

    ``seen`` is room for the grid's channels.
    """
    _visible(
        grid,
        (p[0] + half[0]) / CELL_M + _OFF * n[0],
        (p[1] + half[1]) / CELL_M + _OFF * n[1],
        p[2] / CELL_M + _OFF * n[2],
        seen,
    )
    sky = seen[OPEN] * (0.75 + 0.25 * n[2])
    facing = max(0.0, sun[0] * n[0] + sun[1] * n[1] + sun[2] * n[2]) * seen[SUN]
    r = ambient[0] * sky + facing * sun[3]
    g = ambient[1] * sky + facing * sun[4]
    b = ambient[2] * sky + facing * sun[5]
    gr, gg, gb = 0.0, 0.0, 0.0
    for i in range(len(lights)):
        x, y, z = lights[i, 0] - p[0], lights[i, 1] - p[1], lights[i, 2] - p[2]
        far2 = x * x + y * y + z * z + 1e-6
        far = math.sqrt(far2)
        power = seen[LIGHT + i] / (far2 + lights[i, 9] ** 2)
        power *= max(0.05, -(x * lights[i, 3] + y * lights[i, 4] + z * lights[i, 5]) / far)
        facing = power * max(0.0, (x * n[0] + y * n[1] + z * n[2]) / far)
        r, g, b = r + facing * lights[i, 6], g + facing * lights[i, 7], b + facing * lights[i, 8]
        if gloss > 0:
            # Towards the light, against the direction mirrored by the surface.
            away = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
            twice = 2 * (d[0] * n[0] + d[1] * n[1] + d[2] * n[2])
            mx, my, mz = d[0] - twice * n[0], d[1] - twice * n[1], d[2] - twice * n[2]
            cos = max(0.0, (x * mx + y * my + z * mz) / (far * away))
            shine = cos**24 * power * gloss
            gr, gg = gr + shine * lights[i, 6], gg + shine * lights[i, 7]
            gb = gb + shine * lights[i, 8]
    return r, g, b, gr, gg, gb
