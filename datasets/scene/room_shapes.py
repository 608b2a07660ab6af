"""The shapes rooms are made of: tables for the ray caster, and how far a point is from them.

A shape lies in its own coordinates around its centre: a box by half sizes; a sphere by its radius;
a frustum along z by half height, lower and upper radius (cylinder, cone); a torus around z by the
radius of its ring and of its tube. World: metres, z up, the floor's middle at the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Columns of the table of shapes.
KIND, CENTRE, TURN, SIZE, BOUND, MATERIAL = 0, 1, 4, 13, 16, 17
SHAPE_COLUMNS = 18


class Kind(IntEnum):
    BOX = 0
    SPHERE = 1
    FRUSTUM = 2
    TORUS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """One primitive, placed."""

    kind: Kind
    size: tuple[float, float, float]
    centre: Array
    """[3]"""
    turn: Array
    """[3, 3], own to world coordinates."""
    material: int
    label: int
    instance: int
    """Number of the object it is a part of."""

    @property
    def bound(self) -> float:
        """Radius of a ball around the centre that holds it."""
        a, b, c = self.size
        if self.kind == Kind.BOX:
            return float(np.sqrt(a * a + b * b + c * c))
        if self.kind == Kind.SPHERE:
            return a
        if self.kind == Kind.FRUSTUM:
            return float(np.hypot(a, max(b, c)))
        return a + b


def table(shapes: Sequence[Shape]) -> Array:
    """[N, SHAPE_COLUMNS]; the turn is stored world to own coordinates, row by row."""
    rows = np.zeros((len(shapes), SHAPE_COLUMNS))
    for row, shape in zip(rows, shapes, strict=True):
        row[KIND], row[BOUND], row[MATERIAL] = shape.kind, shape.bound, shape.material
        row[CENTRE:TURN], row[TURN:SIZE] = shape.centre, shape.turn.T.reshape(-1)
        row[SIZE:BOUND] = shape.size
    return rows


def distance(shape: Shape, points: Array) -> Array:
    """[N] from ``points`` [N, 3] to the shape's surface, negative inside; exact outside."""
    p = (points - shape.centre) @ shape.turn
    a, b, c = shape.size
    if shape.kind == Kind.SPHERE:
        return np.asarray(np.linalg.norm(p, axis=1) - a)
    if shape.kind == Kind.BOX:
        q = np.abs(p) - np.array([a, b, c])
        return np.asarray(np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0))
    radial = np.hypot(p[:, 0], p[:, 1])
    if shape.kind == Kind.TORUS:
        return np.asarray(np.hypot(radial - a, p[:, 2]) - b)
    return _frustum_distance(radial, p[:, 2], a, b, c)


def _frustum_distance(radial: Array, z: Array, half: float, low: float, high: float) -> Array:
    """In the half plane through the axis: to the nearest of the two caps and the side."""
    corners = ((0.0, -half), (low, -half), (high, half), (0.0, half))
    best = np.full(len(z), np.inf)
    inside = np.ones(len(z), bool)
    for (x0, z0), (x1, z1) in pairwise(corners):
        dx, dz = x1 - x0, z1 - z0
        length2 = dx * dx + dz * dz
        if length2 == 0:
            continue
        along = np.clip(((radial - x0) * dx + (z - z0) * dz) / length2, 0, 1)
        best = np.minimum(best, np.hypot(radial - x0 - along * dx, z - z0 - along * dz))
        inside &= dx * (z - z0) - dz * (radial - x0) >= 0
    return np.where(inside, -best, best)


class Tables(NamedTuple):
    """All the ray caster knows of a room; arrays only."""

    half: Array
    """[3]: half its width, half its depth, its whole height."""
    shapes: Array
    """[N, SHAPE_COLUMNS]"""
    materials: NDArray[np.float32]
    """[M, MATERIAL_COLUMNS]; the first six are the walls' (-x, +x, -y, +y), floor's, ceiling's."""
    textures: NDArray[np.float32]
    """[T, 7, WAVES]: wave vector in cycles per metre, phase in cycles, RGB amplitude."""
    images: NDArray[np.float32]
    """[I, LEVELS, S, S, 3]: linear RGB, each level half the size of the one before, top left."""
    lights: Array
    """[L, 10]: centre, the direction it shines in, RGB power, radius."""
    sun: Array
    """[6]: the direction towards it, RGB."""
    ambient: Array
    """[3] RGB"""
    windows: NDArray[np.int64]
    """Shapes that the sun shines through."""
