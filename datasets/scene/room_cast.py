# mypy: disallow-untyped-decorators=False
"""Ray casting, compiled: which shape a ray meets, where, and the surface's normal there.

Rays are origin + t * direction with directions of any length: a camera's, scaled to z = 1, give
depths. Analytic, but for the torus, whose distance function is followed (to 1e-7 m).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from retain.datasets.scene.room_shapes import BOUND, CENTRE, KIND, SIZE, TURN, Kind

TILE = 16
FAR = 1e30
_BOX, _SPHERE, _FRUSTUM = int(Kind.BOX), int(Kind.SPHERE), int(Kind.FRUSTUM)
_TINY = 1e-9
_compiled = njit(cache=True, nogil=True, error_model="numpy")
_inlined = njit(cache=True, nogil=True, error_model="numpy", inline="always")


@_inlined
def turned(shapes: Any, i: int, x: float, y: float, z: float) -> Any:
    """A world direction in the shape's coordinates."""
    return (
        shapes[i, TURN] * x + shapes[i, TURN + 1] * y + shapes[i, TURN + 2] * z,
        shapes[i, TURN + 3] * x + shapes[i, TURN + 4] * y + shapes[i, TURN + 5] * z,
        shapes[i, TURN + 6] * x + shapes[i, TURN + 7] * y + shapes[i, TURN + 8] * z,
    )


@_inlined
def turned_back(shapes: Any, i: int, x: float, y: float, z: float) -> Any:
    """A direction in the shape's coordinates in the world's."""
    return (
        shapes[i, TURN] * x + shapes[i, TURN + 3] * y + shapes[i, TURN + 6] * z,
        shapes[i, TURN + 1] * x + shapes[i, TURN + 4] * y + shapes[i, TURN + 7] * z,
        shapes[i, TURN + 2] * x + shapes[i, TURN + 5] * y + shapes[i, TURN + 8] * z,
    )


@_compiled
def _box(o: Any, d: Any, size: Any) -> Any:
    near, far = -FAR, FAR
    for i in range(3):
        a, b = (-size[i] - o[i]) / d[i], (size[i] - o[i]) / d[i]
        near, far = max(near, min(a, b)), min(far, max(a, b))
    if near > far or far <= 0:
        return FAR
    return near if near > 0 else far


@_compiled
def _sphere(o: Any, d: Any, size: Any) -> Any:
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - size[0] * size[0]
    root = b * b - a * c
    if root < 0:
        return FAR
    root = math.sqrt(root)
    if -b - root > 0:
        return (-b - root) / a
    return (-b + root) / a if -b + root > 0 else FAR


@_compiled
def _frustum(o: Any, d: Any, size: Any) -> Any:
    half, low, high = size[0], size[1], size[2]
    best = FAR
    if d[2] != 0.0:
        for side in range(2):
            t = ((half if side else -half) - o[2]) / d[2]
            x, y, r = o[0] + t * d[0], o[1] + t * d[1], high if side else low
            if 0 < t < best and x * x + y * y <= r * r:
                best = t
    slope, middle = (high - low) / (2 * half), (high + low) / 2
    at, grow = middle + slope * o[2], slope * d[2]
    a = d[0] * d[0] + d[1] * d[1] - grow * grow
    b = o[0] * d[0] + o[1] * d[1] - at * grow
    c = o[0] * o[0] + o[1] * o[1] - at * at
    root = b * b - a * c
    if root < 0:
        return best
    root = math.sqrt(root)
    for sign in (-1.0, 1.0):
        # Stable where a is near 0, a ray along the side.
        q = -b - root if b > 0 else -b + root
        t = q / a if (sign > 0) == (b <= 0) else (c / q if q != 0 else FAR)
        if 0 < t < best and abs(o[2] + t * d[2]) <= half and at + t * grow >= 0:
            best = t
    return best


@_compiled
def _torus(o: Any, d: Any, size: Any) -> Any:
    """Steps that cannot pass the surface: as long as the distance to it; or, near it, as far as it
    may come closer, given how fast it does and how hollow a torus can be (its inner circle)."""
    length = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
    ring, tube = size[0], size[1]
    # The slab |z| <= tube, within the ball around it.
    reach = ring + tube
    b = (o[0] * d[0] + o[1] * d[1] + o[2] * d[2]) / (length * length)
    inside = reach * reach - (o[0] * o[0] + o[1] * o[1] + o[2] * o[2])
    root = b * b + inside / (length * length)
    if root < 0:
        return FAR
    t, end = max(0.0, -b - math.sqrt(root)), -b + math.sqrt(root)
    p, q = (-tube - o[2]) / d[2], (tube - o[2]) / d[2]
    t, end = max(t, min(p, q)), min(end, max(p, q))
    hole = max(ring - tube, 0.0)
    for _ in range(200):
        if t > end:
            return FAR
        x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
        radius = math.sqrt(x * x + y * y) + _TINY
        away = math.sqrt((radius - ring) ** 2 + z * z) + _TINY
        step = away - tube
        if step < 1e-7:
            return t
        if step < hole / 4:
            slope = (radius - ring) * (x * d[0] + y * d[1]) / radius + z * d[2]
            slope *= hole / (2 * away * length)
            step = max(step, min(slope + math.sqrt(slope * slope + hole * step), hole / 4))
        t += step / length
    return FAR


@_compiled
def hit(
    shapes: Any, i: int, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> float:
    """Where a ray meets a shape, FAR if it does not. World coordinates."""
    o = turned(
        shapes, i, ox - shapes[i, CENTRE], oy - shapes[i, CENTRE + 1], oz - shapes[i, CENTRE + 2]
    )
    d = turned(shapes, i, dx, dy, dz)
    size = (shapes[i, SIZE], shapes[i, SIZE + 1], shapes[i, SIZE + 2])
    kind = shapes[i, KIND]
    if kind == _BOX:
        return float(_box(o, d, size))
    if kind == _SPHERE:
        return float(_sphere(o, d, size))
    if kind == _FRUSTUM:
        return float(_frustum(o, d, size))
    return float(_torus(o, d, size))


@_compiled
def normal(shapes: Any, i: int, px: float, py: float, pz: float) -> Any:
    """Unit, outwards, in world coordinates, of a point on a shape."""
    x, y, z = turned(
        shapes, i, px - shapes[i, CENTRE], py - shapes[i, CENTRE + 1], pz - shapes[i, CENTRE + 2]
    )
    a, b, c = shapes[i, SIZE], shapes[i, SIZE + 1], shapes[i, SIZE + 2]
    kind = shapes[i, KIND]
    if kind == _BOX:
        u, v, w = abs(x) - a, abs(y) - b, abs(z) - c
        if u >= v and u >= w:
            x, y, z = math.copysign(1.0, x), 0.0, 0.0
        elif v >= w:
            x, y, z = 0.0, math.copysign(1.0, y), 0.0
        else:
            x, y, z = 0.0, 0.0, math.copysign(1.0, z)
    elif kind == _FRUSTUM:
        radial, slope = math.sqrt(x * x + y * y), (c - b) / (2 * a)
        if a - abs(z) < 1e-7:
            x, y, z = 0.0, 0.0, math.copysign(1.0, z)
        else:
            z = -slope * radial
    elif kind != _SPHERE:
        radial = math.sqrt(x * x + y * y)
        x, y = x - x / radial * a, y - y / radial * a
    length = math.sqrt(x * x + y * y + z * z) + _TINY
    return turned_back(shapes, i, x / length, y / length, z / length)


@_compiled
def wall(half: Any, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> Any:
    """Where a ray leaves the room, and through which face: -x, +x, -y, +y, floor, ceiling."""
    best, face = FAR, 0
    if dx != 0.0:
        best, face = ((half[0] if dx > 0 else -half[0]) - ox) / dx, 1 if dx > 0 else 0
    if dy != 0.0:
        t = ((half[1] if dy > 0 else -half[1]) - oy) / dy
        if t < best:
            best, face = t, 3 if dy > 0 else 2
    if dz != 0.0:
        t = ((half[2] if dz > 0 else 0.0) - oz) / dz
        if t < best:
            best, face = t, 5 if dz > 0 else 4
    return best, face


@_compiled
def blocked(
    shapes: Any, chosen: Any, count: int,
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, end: float,
) -> bool:  # fmt: skip
    """Whether a ray with unit direction meets one of ``count`` ``chosen`` shapes before ``end``."""
    for j in range(count):
        i = chosen[j]
        x, y, z = shapes[i, CENTRE] - ox, shapes[i, CENTRE + 1] - oy, shapes[i, CENTRE + 2] - oz
        along = x * dx + y * dy + z * dz
        bound = shapes[i, BOUND]
        if along < -bound or along > end + bound:
            continue
        if x * x + y * y + z * z - along * along > bound * bound:
            continue
        if hit(shapes, i, ox, oy, oz, dx, dy, dz) < end:
            return True
    return False


@_compiled
def nearest(
    half: Any, shapes: Any, chosen: Any, tile: int, count: int,
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float,
) -> Any:  # fmt: skip
    """t and part of what a ray meets first, of a tile's ``chosen`` shapes and the walls."""
    best, face = wall(half, ox, oy, oz, dx, dy, dz)
    part = len(shapes) + face
    for j in range(count):
        i = chosen[tile, j]
        t = hit(shapes, i, ox, oy, oz, dx, dy, dz)
        if t < best:
            best, part = t, i
    return best, part


@_compiled
def tiles(shapes: Any, c2w: Any, camera: Any, width: int, height: int) -> Any:
    """For each tile of the picture the shapes whose ball it may show: [T, N] indices, [T] counts.

    ``camera`` is fx, fy, cx, cy.
    """
    across, down = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    chosen = np.empty((across * down, len(shapes)), np.int32)
    counts = np.zeros(across * down, np.int32)
    for i in range(len(shapes)):
        bound = shapes[i, BOUND]
        x, y, z = (
            shapes[i, CENTRE] - c2w[0, 3],
            shapes[i, CENTRE + 1] - c2w[1, 3],
            shapes[i, CENTRE + 2] - c2w[2, 3],
        )
        u = c2w[0, 0] * x + c2w[1, 0] * y + c2w[2, 0] * z
        v = c2w[0, 1] * x + c2w[1, 1] * y + c2w[2, 1] * z
        w = c2w[0, 2] * x + c2w[1, 2] * y + c2w[2, 2] * z
        if w < -bound:
            continue
        left, right = _span(u, w, bound, camera[0], camera[2], across)
        top, bottom = _span(v, w, bound, camera[1], camera[3], down)
        for ty in range(top, bottom):
            for tx in range(left, right):
                tile = ty * across + tx
                chosen[tile, counts[tile]] = i
                counts[tile] += 1
    return chosen, counts


@_compiled
def _span(side: float, depth: float, bound: float, focal: float, centre: float, count: int) -> Any:
    """Tiles [first, last) that a ball may touch along one axis: the tangents from the camera."""
    away2 = side * side + depth * depth - bound * bound
    if away2 <= 0:
        return 0, count
    away = math.sqrt(away2)
    first, last = 0, count
    # Tangent directions: the centre's, turned by asin(bound / distance) either way.
    x0, z0 = side * away - depth * bound, depth * away + side * bound
    x1, z1 = side * away + depth * bound, depth * away - side * bound
    if z0 > 0:
        first = max(0, min(count, math.floor((focal * x0 / z0 + centre) / TILE)))
    elif side > 0:
        first = count
    if z1 > 0:
        last = max(0, min(count, math.floor((focal * x1 / z1 + centre) / TILE) + 1))
    elif side < 0:
        last = 0
    return first, last
