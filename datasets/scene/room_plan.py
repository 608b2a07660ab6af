"""What stands where in a procedural room, and where its light comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene import room_classes as classes
from retain.datasets.scene import room_objects as objects
from retain.datasets.scene.room_materials import Palette, hue
from retain.datasets.scene.room_objects import Maker, Thing
from retain.datasets.scene.room_path import CLEARANCE_M
from retain.datasets.scene.room_shapes import Kind, Shape, Tables, distance, table
from retain.kernels.geometry import rigid

Array = NDArray[np.float64]

_SPARE_M = 0.05
"""Beyond the clearance: the path is known at its frames only."""
_GAP_M = 0.06
"""Between objects."""
_TRIES = 25
_WAYS = 150
_MOVER_M = 0.22
"""Radius of what moves."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A room without a camera."""

    size: Array
    """[3] metres."""
    tables: Tables
    shapes: tuple[Shape, ...]
    mover: Shape
    """A balloon that is not in ``tables.shapes``: it may drift through the room."""
    route: Array
    """[2, 3]: the ends of its way."""


def draw_size(rng: np.random.Generator) -> Array:
    """Width, depth and height of a room, metres."""
    return rng.uniform([3.4, 3.0, 2.4], [8.0, 6.5, 3.2])


def furnish(rng: np.random.Generator, size: Array, poses: Array) -> Plan:
    """A room of ``size`` [3] whose objects keep ``CLEARANCE_M`` from cameras at ``poses``
    [N, 4, 4]."""
    room = _Furnisher(rng, size, poses[:, :3, 3])
    room.hang(objects.door)
    for _ in range(1 + (rng.random() < 0.6)):
        room.hang(objects.window)
    for _ in range(int(rng.integers(1, 4))):
        room.light()
    area = float(size[0] * size[1])
    room.lay(objects.rug)
    for _ in range(int(rng.integers(2, 4))):
        room.hang(objects.AGAINST_WALL[rng.integers(len(objects.AGAINST_WALL))], standing=True)
    for _ in range(int(rng.integers(4, 8))):
        room.hang(objects.ON_WALL[rng.integers(len(objects.ON_WALL))])
    for i in range(5 + round(area / 3)):
        room.stand(objects.FREE[(i + int(rng.integers(2))) % len(objects.FREE)])
    for _ in range(int(rng.integers(2, 5))):
        room.overhead(objects.ON_CEILING[rng.integers(len(objects.ON_CEILING))])
    return room.plan(poses)


class _Furnisher:
    """Places objects, one at a time, where they do not meet others or the path."""

    def __init__(self, rng: np.random.Generator, size: Array, path: Array) -> None:
        self.rng, self.size, self.path = rng, size, path
        self.shapes: list[Shape] = []
        self.palette = Palette(rng)
        self._walls()
        self._lights: list[list[float]] = []
        self._objects = 6

    def _walls(self) -> None:
        """The first six materials: four walls, perhaps one of another colour, floor, ceiling."""
        rng, palette = self.rng, self.palette
        colour, accent = hue(rng, 0.5, 0.12), hue(rng, 0.38, 0.25)
        other = int(rng.integers(6))
        for i in range(4):
            palette.surface(accent if i == other else colour, 0.6)
        palette.surface(hue(rng, 0.28, 0.25), 0.9)
        palette.surface(hue(rng, 0.7, 0.05), 0.35)

    def hang(self, make: Maker, standing: bool = False) -> bool:
        """On a wall; doors and ``standing`` things on the floor."""
        thing = make(self.rng, self.palette)
        _, high = _extent(thing)
        for _ in range(_TRIES):
            side = int(self.rng.integers(4))
            along, out = (1, 0) if side < 2 else (0, 1)
            reach = self.size[along] / 2 - high[0] - 0.1
            place = np.zeros(3)
            place[along] = self.rng.uniform(-reach, reach) if reach > 0 else 0.0
            place[out] = (-1 if side % 2 == 0 else 1) * (self.size[out] / 2 - 0.001)
            if not (standing or thing.label == classes.DOOR):
                top = min(self.size[2] - high[2] - 0.15, 1.9)
                place[2] = self.rng.uniform(min(1.15, top), top)
            # Its y comes out of the wall: towards +x, -x, +y, -y.
            angle = (-np.pi / 2, np.pi / 2, 0.0, np.pi)[side]
            if self._place(thing, place, angle):
                return True
        return False

    def stand(self, make: Maker) -> bool:
        thing = make(self.rng, self.palette)
        _, high = _extent(thing)
        reach = self.size[:2] / 2 - np.hypot(high[0], high[1]) - 0.05
        for _ in range(_TRIES):
            place = np.array([*self.rng.uniform(-1, 1, 2) * np.maximum(reach, 0), 0.001])
            if self._place(thing, place, self.rng.uniform(0, 2 * np.pi)):
                return True
        return False

    def lay(self, make: Maker) -> None:
        """On the floor, under what stands there."""
        place = np.array([*self.rng.uniform(-0.15, 0.15, 2) * self.size[:2], 0.001])
        thing = make(self.rng, self.palette)
        self._add(self._shapes(thing, place, self.rng.uniform(-0.4, 0.4)))

    def overhead(self, make: Maker) -> bool:
        thing = make(self.rng, self.palette)
        for _ in range(_TRIES):
            place = np.array([*self.rng.uniform(-0.4, 0.4, 2) * self.size[:2], self.size[2]])
            if self._place(thing, place, self.rng.uniform(0, np.pi)):
                return True
        return False

    def light(self) -> None:
        """A lamp below the ceiling that lights the room, where one fits."""
        if not self.overhead(objects.ceiling_lamp):
            return
        lamp = self.shapes[-1]
        radius = max(0.08, lamp.bound * 0.8)
        under = lamp.centre - [0, 0, lamp.size[0] + 0.05]
        colour = hue(self.rng, self.rng.uniform(2.5, 4.0), 0.1)
        self._lights.append([*under, 0.0, 0.0, -1.0, *colour, radius])

    def plan(self, poses: Array) -> Plan:
        shapes = self.shapes
        # The first part of a window is its glass.
        glass = [
            i for i, s in enumerate(shapes)
            if s.label == classes.WINDOW and (i == 0 or shapes[i - 1].instance != s.instance)
        ]  # fmt: skip
        mover, route = self._mover(poses)
        materials, textures, images = self.palette.tables()
        lights = self._lights or [[0, 0, self.size[2] - 0.05, 0, 0, -1.0, 3, 3, 3, 0.1]]
        return Plan(
            self.size,
            Tables(
                np.array([self.size[0] / 2, self.size[1] / 2, self.size[2]]),
                table(shapes), materials, textures, images, np.array(lights, np.float64),
                self._sun([shapes[i] for i in glass]),
                hue(self.rng, self.rng.uniform(0.35, 0.55), 0.06),
                np.array(glass, np.int64),
            ),
            tuple(shapes), mover, route,
        )  # fmt: skip

    def _mover(self, poses: Array) -> tuple[Shape, Array]:
        """A balloon, and the way of it that is seen most among those on which it keeps clear of
        the camera and touches nothing. A full room may have none: then it goes through things."""
        reach = self.size / 2 - _MOVER_M - 0.05
        ends = self.rng.uniform(-reach, reach, (_WAYS, 2, 3))
        ends[..., 2] = self.rng.uniform(0.8, 1.3, (_WAYS, 2))
        way = ends[:, :1] + np.linspace(0, 1, 13)[:, None] * (ends[:, 1:] - ends[:, :1])
        gap = np.full(way.shape[:2], np.inf)
        for place in self.path:
            gap = np.minimum(gap, np.linalg.norm(way - place, axis=2) - CLEARANCE_M - _SPARE_M)
        safe = gap.min(axis=1) > _MOVER_M
        for shape in self.shapes:
            near = distance(shape, way.reshape(-1, 3)).reshape(gap.shape)
            gap = np.minimum(gap, near - _SPARE_M / 2)
        clear = gap.min(axis=1) > _MOVER_M
        long = np.minimum(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), 1)
        score = 4.0 * safe + 2.0 * clear + _seen_share(way[:, ::4], poses) + long
        route = ends[int(score.argmax())]
        size = (_MOVER_M, 0.0, 0.0)
        return Shape(
            Kind.SPHERE, size, route[0], np.eye(3), self.palette.busy(), classes.BALL,
            self._objects + 1,
        ), route  # fmt: skip

    def _sun(self, glass: Sequence[Shape]) -> Array:
        """Low enough, and on the side of the first window, to shine far into the room."""
        outwards = -glass[0].turn[:, 1] if glass else np.array([1.0, 0, 0])
        aside = self.rng.uniform(-0.7, 0.7) * np.array([outwards[1], -outwards[0], 0])
        towards = outwards + aside + [0, 0, self.rng.uniform(0.4, 0.9)]
        return np.concatenate([towards / np.linalg.norm(towards), [1.9, 1.75, 1.5]])

    def _place(self, thing: Thing, place: Array, angle: float) -> bool:
        shapes = self._shapes(thing, place, angle)
        for shape in shapes:
            if distance(shape, self.path).min() < CLEARANCE_M + _SPARE_M:
                return False
            if not self._inside(shape) or self._meets(shape):
                return False
        self._add(shapes)
        return True

    def _inside(self, shape: Shape) -> bool:
        reach = np.abs(shape.turn) @ _half(shape.kind, shape.size)
        limit = np.array([self.size[0] / 2, self.size[1] / 2])
        low, high = shape.centre - reach, shape.centre + reach
        flat = (np.maximum(np.abs(low[:2]), np.abs(high[:2])) <= limit + 1e-6).all()
        return bool(flat and low[2] >= -1e-6 and high[2] <= self.size[2] + 1e-6)

    def _meets(self, shape: Shape) -> bool:
        """Whether it comes too close to one placed: boxes around both, along the axes."""
        reach = np.abs(shape.turn) @ _half(shape.kind, shape.size)
        for other in self.shapes:
            if other.label == classes.RUG:
                continue
            theirs = np.abs(other.turn) @ _half(other.kind, other.size)
            if (np.abs(shape.centre - other.centre) < reach + theirs + _GAP_M).all():
                return True
        return False

    def _shapes(self, thing: Thing, place: Array, angle: float) -> list[Shape]:
        turn = rigid.exp([0, 0, angle, 0, 0, 0])[:3, :3]
        return [
            Shape(part.kind, part.size, place + turn @ part.at, turn @ part.turn, part.material,
                  thing.label, self._objects + 1)
            for part in thing.parts
        ]  # fmt: skip

    def _add(self, shapes: list[Shape]) -> None:
        self.shapes += shapes
        self._objects += 1


def _seen_share(points: Array, poses: Array) -> Array:
    """[N] share of ``points`` [N, P, 3] in the pictures of cameras at ``poses`` [F, 4, 4]."""
    cameras = poses[:: max(1, len(poses) // 30)]
    away = points[:, :, None] - cameras[:, :3, 3]
    x, y, z = np.einsum("fij,npfi->jnpf", cameras[:, :3, :3], away)
    return np.asarray(((np.abs(x) < 0.5 * z) & (np.abs(y) < 0.4 * z)).mean(axis=(1, 2)))


def _half(kind: Kind, size: tuple[float, float, float]) -> Array:
    """Half sides of the box around a shape, along its own axes."""
    a, b, c = size
    if kind == Kind.BOX:
        return np.array([a, b, c])
    if kind == Kind.SPHERE:
        return np.array([a, a, a])
    if kind == Kind.FRUSTUM:
        return np.array([max(b, c), max(b, c), a])
    return np.array([a + b, a + b, b])


def _extent(thing: Thing) -> tuple[Array, Array]:
    """Lowest and highest coordinates of an object's parts."""
    reach = [np.abs(part.turn) @ _half(part.kind, part.size) for part in thing.parts]
    low = np.min([part.at - r for part, r in zip(thing.parts, reach, strict=True)], axis=0)
    high = np.max([part.at + r for part, r in zip(thing.parts, reach, strict=True)], axis=0)
    return low, high
