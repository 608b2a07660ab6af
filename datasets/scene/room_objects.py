"""Furniture of procedural rooms: parts in an object's own coordinates, z up from where it stands.

What hangs on a wall has its back at y = 0 and comes out along +y; what hangs from the ceiling
reaches down from z = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene import room_classes as classes
from retain.datasets.scene.room_materials import Palette, hue
from retain.datasets.scene.room_shapes import Kind
from retain.kernels.geometry import rigid

Array = NDArray[np.float64]
Size = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Part:
    kind: Kind
    size: Size
    at: tuple[float, float, float]
    material: int
    turn: Array = field(default_factory=lambda: np.eye(3))


@dataclass(frozen=True, slots=True)
class Thing:
    """An object before it is placed."""

    label: int
    parts: tuple[Part, ...]


Maker = Callable[[np.random.Generator, Palette], Thing]


def _turn(*vector: float) -> Array:
    """The rotation about an axis by its length."""
    return rigid.exp([*vector, 0, 0, 0])[:3, :3]


def table(rng: np.random.Generator, palette: Palette) -> Thing:
    """A top on four thin legs, sometimes with something on it."""
    wide, deep, high = rng.uniform(0.45, 0.8), rng.uniform(0.3, 0.5), rng.uniform(0.6, 0.78)
    leg = rng.uniform(0.015, 0.03)
    top, legs = palette.coloured(0.3), palette.coloured(0.2)
    parts = [Part(Kind.BOX, (wide, deep, 0.02), (0, 0, high), top)]
    for x in (-1.0, 1.0):
        for y in (-1.0, 1.0):
            at = (x * (wide - 2 * leg), y * (deep - 2 * leg), high / 2)
            parts.append(Part(Kind.FRUSTUM, (high / 2, leg * 0.7, leg), at, legs))
    for side in (-0.5, 0.5):
        if rng.random() < 0.6:
            x, y = side * wide, rng.uniform(-0.4, 0.4) * deep
            parts += _trinket(rng, palette, x, y, high + 0.02)
    return Thing(classes.TABLE, tuple(parts))


def _trinket(
    rng: np.random.Generator, palette: Palette, x: float, y: float, z: float
) -> list[Part]:
    material = palette.coloured(0.4)
    pick, r = rng.integers(4), rng.uniform(0.05, 0.1)
    if pick == 0:
        return [Part(Kind.SPHERE, (r, 0, 0), (x, y, z + r), material)]
    if pick == 1:
        high = rng.uniform(0.06, 0.14)
        return [Part(Kind.FRUSTUM, (high, r * 0.6, r), (x, y, z + high), material)]
    if pick == 2:
        return [Part(Kind.TORUS, (r, r * 0.35, 0), (x, y, z + r * 0.35), material)]
    size = (rng.uniform(0.08, 0.16), rng.uniform(0.05, 0.12), rng.uniform(0.02, 0.1))
    return [Part(Kind.BOX, size, (x, y, z + size[2]), material, _turn(0, 0, rng.uniform(0, 3)))]


def chair(rng: np.random.Generator, palette: Palette) -> Thing:
    """A round stool with a ring between thin legs, or a chair with a back."""
    seat, legs = palette.coloured(0.35), palette.coloured(0.2)
    high, r = rng.uniform(0.42, 0.5), rng.uniform(0.17, 0.22)
    parts = []
    for x in (-1.0, 1.0):
        for y in (-1.0, 1.0):
            tilt = _turn(0.1 * y, -0.1 * x, 0)
            at = (0.75 * r * x, 0.75 * r * y, high / 2)
            parts.append(Part(Kind.FRUSTUM, (high / 2, 0.016, 0.014), at, legs, tilt))
    if rng.random() < 0.5:
        parts.append(Part(Kind.FRUSTUM, (0.025, r, r), (0, 0, high), seat))
        parts.append(Part(Kind.TORUS, (r * 1.1, 0.012, 0), (0, 0, high * 0.4), legs))
    else:
        parts.append(Part(Kind.BOX, (r, r, 0.02), (0, 0, high), seat))
        lean = _turn(0.12, 0, 0)
        parts.append(Part(Kind.BOX, (r, 0.012, 0.2), (0, -r * 1.05, high + 0.24), seat, lean))
    return Thing(classes.CHAIR, tuple(parts))


def cabinet(rng: np.random.Generator, palette: Palette) -> Thing:
    """A box with a front, back to y = 0."""
    wide, deep, high = rng.uniform(0.3, 0.7), rng.uniform(0.18, 0.28), rng.uniform(0.3, 0.95)
    body, front = palette.coloured(0.35), palette.coloured(0.4)
    parts = [Part(Kind.BOX, (wide, deep, high), (0, deep, high), body)]
    doors = int(rng.integers(1, 4))
    for i in range(doors):
        x = (i + 0.5) / doors * 2 * wide - wide
        door = (wide / doors - 0.015, 0.008, high - 0.03)
        parts.append(Part(Kind.BOX, door, (x, 2 * deep + 0.006, high), front))
        parts.append(Part(Kind.SPHERE, (0.02, 0, 0), (x, 2 * deep + 0.03, high), body))
    return Thing(classes.CABINET, tuple(parts))


def shelf(rng: np.random.Generator, palette: Palette) -> Thing:
    """Thin boards between sides, with books and things; stands, back to y = 0."""
    wide, deep, high = rng.uniform(0.35, 0.55), rng.uniform(0.12, 0.17), rng.uniform(0.6, 0.95)
    wood = palette.coloured(0.3)
    parts = [Part(Kind.BOX, (0.012, deep, high), (x * wide, deep, high), wood) for x in (-1.0, 1.0)]
    boards = int(rng.integers(3, 5))
    for i in range(boards):
        z = 0.05 + i * (2 * high - 0.1) / (boards - 1)
        parts.append(Part(Kind.BOX, (wide, deep, 0.012), (0, deep, z), wood))
        if i < boards - 1 and rng.random() < 0.85:
            books = (rng.uniform(0.15, 0.5) * wide, deep * 0.7, rng.uniform(0.08, 0.13))
            x = rng.uniform(-0.4, 0.4) * wide
            parts.append(Part(Kind.BOX, books, (x, deep, z + 0.012 + books[2]), palette.picture()))
    return Thing(classes.SHELF, tuple(parts))


def box(rng: np.random.Generator, palette: Palette) -> Thing:
    """One or two boxes, the upper one turned."""
    a = tuple(rng.uniform(0.12, 0.3, 3))
    parts = [Part(Kind.BOX, (a[0], a[1], a[2]), (0, 0, a[2]), palette.coloured(0.4))]
    if rng.random() < 0.5:
        b = rng.uniform(0.5, 0.8, 3) * a
        turn = _turn(0, 0, rng.uniform(-0.6, 0.6))
        at = (0.0, 0.0, 2 * a[2] + b[2])
        parts.append(Part(Kind.BOX, (b[0], b[1], b[2]), at, palette.coloured(0.4), turn))
    return Thing(classes.BOX, tuple(parts))


def ball(rng: np.random.Generator, palette: Palette) -> Thing:
    r = rng.uniform(0.12, 0.3)
    return Thing(classes.BALL, (Part(Kind.SPHERE, (r, 0, 0), (0, 0, r), palette.coloured(0.45)),))


def vase(rng: np.random.Generator, palette: Palette) -> Thing:
    """Two frustums and a rim."""
    r, high, material = rng.uniform(0.1, 0.18), rng.uniform(0.15, 0.3), palette.coloured(0.4)
    neck = r * rng.uniform(0.4, 0.7)
    return Thing(classes.VASE, (
        Part(Kind.FRUSTUM, (high / 2, r * 0.6, r), (0, 0, high / 2), material),
        Part(Kind.FRUSTUM, (high / 3, r, neck), (0, 0, high * 4 / 3), material),
        Part(Kind.TORUS, (neck, 0.02, 0), (0, 0, high * 5 / 3), material),
    ))  # fmt: skip


def plant(rng: np.random.Generator, palette: Palette) -> Thing:
    """A pot and a crown of cones or balls on a thin stem."""
    pot, green = palette.coloured(0.3), palette.surface(np.array([0.1, 0.3, 0.08]), 1.3)
    r, stem = rng.uniform(0.12, 0.18), rng.uniform(0.2, 0.5)
    parts = [
        Part(Kind.FRUSTUM, (0.12, r * 0.7, r), (0, 0, 0.12), pot),
        Part(Kind.FRUSTUM, (stem / 2, 0.02, 0.012), (0, 0, 0.24 + stem / 2), pot),
    ]
    top = 0.24 + stem
    if rng.random() < 0.5:
        for i in range(3):
            size = (0.18, 0.26 - 0.06 * i, 0.0)
            parts.append(Part(Kind.FRUSTUM, size, (0, 0, top + 0.16 * i), green))
    else:
        for x, y, z in rng.uniform(-0.13, 0.13, (4, 3)):
            parts.append(Part(Kind.SPHERE, (rng.uniform(0.12, 0.2), 0, 0), (x, y, top + z), green))
    return Thing(classes.PLANT, tuple(parts))


def floor_lamp(rng: np.random.Generator, palette: Palette) -> Thing:
    """A thin pole with a bright shade."""
    high, metal = rng.uniform(1.2, 1.5), palette.coloured(0.15)
    shade = palette.glow(hue(rng, 0.7, 0.15), 0.6)
    return Thing(classes.LAMP, (
        Part(Kind.FRUSTUM, (0.015, 0.15, 0.13), (0, 0, 0.015), metal),
        Part(Kind.FRUSTUM, (high / 2, 0.012, 0.012), (0, 0, high / 2), metal),
        Part(Kind.FRUSTUM, (0.12, 0.17, 0.1), (0, 0, high), shade),
    ))  # fmt: skip


def picture(rng: np.random.Generator, palette: Palette) -> Thing:
    """A picture in a frame, its middle at z = 0."""
    wide, high = rng.uniform(0.2, 0.6, 2)
    frame, rim = palette.coloured(0.2), rng.uniform(0.02, 0.05)
    return Thing(classes.PICTURE, (
        Part(Kind.BOX, (wide + rim, 0.012, high + rim), (0, 0.012, 0), frame),
        Part(Kind.BOX, (wide, 0.006, high), (0, 0.026, 0), palette.picture()),
    ))  # fmt: skip


def wall_shelf(rng: np.random.Generator, palette: Palette) -> Thing:
    """A board with things on it."""
    wide = rng.uniform(0.3, 0.5)
    parts = [Part(Kind.BOX, (wide, 0.1, 0.012), (0, 0.1, 0), palette.coloured(0.3))]
    for x in (-0.6 * wide, 0.0, 0.6 * wide):
        if rng.random() < 0.75:
            parts += _trinket(rng, palette, x, 0.11, 0.012)
    return Thing(classes.SHELF, tuple(parts))


def door(rng: np.random.Generator, palette: Palette) -> Thing:
    """Stands at z = 0."""
    leaf, frame = palette.coloured(0.35), palette.coloured(0.5)
    return Thing(classes.DOOR, (
        Part(Kind.BOX, (0.47, 0.01, 1.03), (0, 0.01, 1.03), frame),
        Part(Kind.BOX, (0.41, 0.02, 0.99), (0, 0.02, 0.99), leaf),
        Part(Kind.TORUS, (0.05, 0.012, 0), (0.33, 0.06, 1.0), frame, _turn(0.9, 0, 0)),
    ))  # fmt: skip


def window(rng: np.random.Generator, palette: Palette) -> Thing:
    """Bright glass, its middle at z = 0, behind a cross of thin bars; the glass comes first."""
    wide, high = rng.uniform(0.45, 0.75), rng.uniform(0.4, 0.6)
    glass = palette.glow(np.array([0.62, 0.75, 0.9]), rng.uniform(0.8, 1.2))
    bars = palette.surface(hue(rng, 0.6, 0.1), 0.4)
    parts = [Part(Kind.BOX, (wide, 0.01, high), (0, 0.01, 0), glass)]
    for x in (-wide, 0.0, wide):
        parts.append(Part(Kind.BOX, (0.025, 0.025, high + 0.025), (x, 0.025, 0), bars))
    for z in (-high, 0.0, high):
        parts.append(Part(Kind.BOX, (wide, 0.022, 0.022), (0, 0.022, z), bars))
    return Thing(classes.WINDOW, tuple(parts))


def rug(rng: np.random.Generator, palette: Palette) -> Thing:
    size = (rng.uniform(0.5, 1.2), rng.uniform(0.4, 0.9), 0.006)
    return Thing(classes.RUG, (Part(Kind.BOX, size, (0, 0, 0.006), palette.picture()),))


def ceiling_box(rng: np.random.Generator, palette: Palette) -> Thing:
    """A beam or a duct below the ceiling."""
    size = (rng.uniform(0.3, 1.0), rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.1))
    return Thing(classes.BOX, (Part(Kind.BOX, size, (0, 0, -size[2]), palette.coloured(0.5)),))


def pendant(rng: np.random.Generator, palette: Palette) -> Thing:
    """A ball or a ring in the air, on a thread."""
    drop, r, material = rng.uniform(0.25, 0.6), rng.uniform(0.08, 0.14), palette.coloured(0.45)
    thread = Part(Kind.FRUSTUM, (drop / 2, 0.004, 0.004), (0, 0, -drop / 2), material)
    if rng.random() < 0.5:
        return Thing(classes.BALL, (thread, Part(Kind.SPHERE, (r, 0, 0), (0, 0, -drop), material)))
    turn = _turn(np.pi / 2, 0, 0)
    ring = Part(Kind.TORUS, (r, 0.3 * r, 0), (0, 0, -drop - r), material, turn)
    return Thing(classes.BALL, (thread, ring))


def ceiling_lamp(rng: np.random.Generator, palette: Palette) -> Thing:
    """A flat panel, or a shade on a thin rod; light comes from its last part."""
    bright = palette.glow(hue(rng, 0.85, 0.08), 1.6)
    if rng.random() < 0.5:
        r = rng.uniform(0.18, 0.3)
        return Thing(classes.LAMP, (Part(Kind.FRUSTUM, (0.02, r, r), (0, 0, -0.02), bright),))
    drop, r = rng.uniform(0.15, 0.3), rng.uniform(0.12, 0.18)
    metal = palette.coloured(0.15)
    return Thing(classes.LAMP, (
        Part(Kind.FRUSTUM, (drop / 2, 0.01, 0.01), (0, 0, -drop / 2), metal),
        Part(Kind.FRUSTUM, (0.06, r, 0.03), (0, 0, -drop), metal),
        Part(Kind.SPHERE, (0.06, 0, 0), (0, 0, -drop - 0.05), bright),
    ))  # fmt: skip


FREE: tuple[Maker, ...] = (table, chair, box, ball, vase, plant, floor_lamp)
"""Stand anywhere."""
AGAINST_WALL: tuple[Maker, ...] = (cabinet, shelf, cabinet)
ON_WALL: tuple[Maker, ...] = (picture, picture, picture, wall_shelf)
ON_CEILING: tuple[Maker, ...] = (ceiling_box, ceiling_box, pendant)
