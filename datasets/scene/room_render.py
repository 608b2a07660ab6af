# mypy: disallow-untyped-decorators=False
"""A picture of a room, compiled: depth, parts, normals; then light, silhouettes smoothed.

numba's cache looks at a function's own file only: whoever changes ``room_cast`` or ``room_shade``
must save this file and ``room_bake`` too, or old code goes on being used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from retain.datasets.scene.room_cast import TILE, nearest, normal, tiles
from retain.datasets.scene.room_shade import GLOSS, GLOW, colour, lit

_compiled = njit(cache=True, nogil=True, error_model="numpy")
BRIGHTEST = 1.5
_CREASE = 0.9
"""Cosine between normals of neighbours under which a pixel lies on an edge."""


@_compiled
def _surface(shapes: Any, part: int, o: Any, t: float, d: Any) -> Any:
    """The normal of a part where a ray meets it, towards the camera."""
    face = part - len(shapes)
    if face < 0:
        return normal(shapes, part, o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
    if face < 2:
        return (-1.0 if face else 1.0), 0.0, 0.0
    if face < 4:
        return 0.0, (-1.0 if face == 3 else 1.0), 0.0
    return 0.0, 0.0, (-1.0 if face == 5 else 1.0)


@_compiled
def geometry(half: Any, shapes: Any, c2w: Any, camera: Any, width: int, height: int) -> Any:
    """Depth float32 [H, W], parts int32 [H, W], world normals float32 [H, W, 3]; and the tiles.

    A part below the number of shapes is that shape; above, a face of the room.
    """
    depth = np.empty((height, width), np.float32)
    parts = np.empty((height, width), np.int32)
    normals = np.empty((height, width, 3), np.float32)
    chosen, counts = tiles(shapes, c2w, camera, width, height)
    across = (width + TILE - 1) // TILE
    o = (c2w[0, 3], c2w[1, 3], c2w[2, 3])
    for v in range(height):
        for u in range(width):
            tile = v // TILE * across + u // TILE
            d = _ray(c2w, camera, u + 0.5, v + 0.5)
            t, part = nearest(
                half, shapes, chosen, tile, counts[tile],
                o[0], o[1], o[2], d[0], d[1], d[2],
            )  # fmt: skip
            n = _surface(shapes, part, o, t, d)
            depth[v, u], parts[v, u] = t, part
            normals[v, u, 0], normals[v, u, 1], normals[v, u, 2] = n
    return depth, parts, normals, chosen, counts


@_compiled
def _ray(c2w: Any, camera: Any, x: float, y: float) -> Any:
    """World direction, z = 1 in the camera, through a point of the picture."""
    a, b = (x - camera[2]) / camera[0], (y - camera[3]) / camera[1]
    return (
        c2w[0, 0] * a + c2w[0, 1] * b + c2w[0, 2],
        c2w[1, 0] * a + c2w[1, 1] * b + c2w[1, 2],
        c2w[2, 0] * a + c2w[2, 1] * b + c2w[2, 2],
    )


@_compiled
def _moves(c2w: Any, axis: int, t: float, n: Any, d: Any, focal: float) -> Any:
    """How the point at ``t`` along ``d`` moves on its plane for one pixel along x or y."""
    x, y, z = c2w[0, axis] / focal, c2w[1, axis] / focal, c2w[2, axis] / focal
    # Never more grazing than a point seen at 3 degrees.
    facing = min(d[0] * n[0] + d[1] * n[1] + d[2] * n[2], -0.05)
    slide = (x * n[0] + y * n[1] + z * n[2]) / facing
    return t * (x - d[0] * slide), t * (y - d[1] * slide), t * (z - d[2] * slide)


@_compiled
def light(
    room: Any, grid: Any, shapes: Any, c2w: Any, camera: Any,
    depth: Any, parts: Any, normals: Any, chosen: Any, counts: Any,
) -> Any:  # fmt: skip
    """Linear radiance float32 [H, W, 3]; four rays where a pixel has an edge."""
    # Out of the loop: a field of the tuple costs more than a ray.
    materials, textures, images = room.materials, room.textures, room.images
    lights, sun, ambient, half = room.lights, room.sun, room.ambient, room.half
    height, width = depth.shape
    out = np.empty((height, width, 3), np.float32)
    seen = np.empty(grid.shape[3])
    across = (width + TILE - 1) // TILE
    o = (c2w[0, 3], c2w[1, 3], c2w[2, 3])
    for v in range(height):
        for u in range(width):
            rays = 4 if _edge(parts, normals, u, v) else 1
            red, green, blue = 0.0, 0.0, 0.0
            for k in range(rays):
                x, y = u + 0.5, v + 0.5
                t, part = float(depth[v, u]), int(parts[v, u])
                n = (float(normals[v, u, 0]), float(normals[v, u, 1]), float(normals[v, u, 2]))
                if rays > 1:
                    x, y = x + (k & 1) * 0.5 - 0.25, y + (k >> 1) * 0.5 - 0.25
                d = _ray(c2w, camera, x, y)
                if rays > 1:
                    tile = v // TILE * across + u // TILE
                    t, part = nearest(
                        half, shapes, chosen, tile, counts[tile],
                        o[0], o[1], o[2], d[0], d[1], d[2],
                    )  # fmt: skip
                    n = _surface(shapes, part, o, t, d)
                p = (o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
                r, g, b, material = colour(
                    materials, textures, images, shapes, part, p,
                    _moves(c2w, 0, t, n, d, camera[0]), _moves(c2w, 1, t, n, d, camera[1]),
                )  # fmt: skip
                glow, gloss = materials[material, GLOW], materials[material, GLOSS]
                lr, lg, lb, gr, gg, gb = lit(lights, sun, ambient, half, grid, p, n, d, gloss, seen)
                # Each ray as a sensor would count it: what is too bright is white, not brighter.
                red += min(r * (lr + glow) + gr, BRIGHTEST)
                green += min(g * (lg + glow) + gg, BRIGHTEST)
                blue += min(b * (lb + glow) + gb, BRIGHTEST)
            out[v, u, 0], out[v, u, 1], out[v, u, 2] = red / rays, green / rays, blue / rays
    return out


@_compiled
def _edge(parts: Any, normals: Any, u: int, v: int) -> bool:
    height, width = parts.shape
    for k in range(4):
        x, y = u + (k == 0) - (k == 1), v + (k == 2) - (k == 3)
        if x < 0 or y < 0 or x >= width or y >= height:
            continue
        if parts[y, x] != parts[v, u]:
            return True
        dot = (
            normals[y, x, 0] * normals[v, u, 0]
            + normals[y, x, 1] * normals[v, u, 1]
            + normals[y, x, 2] * normals[v, u, 2]
        )
        if dot < _CREASE:
            return True
    return False


@_compiled
def develop(radiance: Any, gain: Any) -> Any:
    """uint8 [H, W, 3] of linear radiance times ``gain`` [3]: display gamma 2."""
    height, width = radiance.shape[:2]
    out = np.empty((height, width, 3), np.uint8)
    for v in range(height):
        for u in range(width):
            for c in range(3):
                value = min(max(radiance[v, u, c] * gain[c], 0.0), 1.0)
                out[v, u, c] = np.uint8(255.0 * math.sqrt(value) + 0.5)
    return out
