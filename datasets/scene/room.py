"""Procedural rooms, seen by a hand-held camera: colour, exact depth, pose, class of every pixel.

Not a recording of anything, so free of rights, and every number of it is known. A room and the path
through it are a function of the seed, the number of frames and the kind of path; what the *camera*
does (picture size, exposure, noise, a depth sensor's errors) changes neither.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene import room_sensor
from retain.datasets.scene.base import Shot
from retain.datasets.scene.room_classes import CEILING, CLASSES, FLOOR, WALL, codes
from retain.datasets.scene.room_path import PathKind, camera_path
from retain.datasets.scene.room_plan import Plan, draw_size, furnish
from retain.datasets.scene.room_shapes import CENTRE, TURN, table
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

Array = NDArray[np.float64]
FPS = 30.0
KINDS: tuple[PathKind, ...] = ("loop", "walk", "turn")
_SHARES = (0.5, 0.4, 0.1)
_MEAN_LEVEL = 0.24
"""Of a room's linear picture values, over its path."""
_MOVER_STEP_M = 0.04


@dataclass(frozen=True, slots=True)
class Truth:
    """A frame without any of the camera's errors."""

    image: Image
    depth: NDArray[np.float32]
    """[H, W] metres along z."""
    normals: NDArray[np.float32]
    """[H, W, 3] unit, in world coordinates, towards the camera."""
    labels: NDArray[np.uint8]
    """[H, W], see ``room_classes.CLASSES``."""
    instances: NDArray[np.uint16]
    """[H, W] number of the object; walls, floor and ceiling are 1 to 6."""


class _Cast(NamedTuple):
    """A frame's geometry, and what its lighting needs of it."""

    shapes: Array
    depth: NDArray[np.float32]
    parts: NDArray[np.int32]
    normals: NDArray[np.float32]
    chosen: Any
    counts: Any


class Room:
    """``Room(seed)[i]`` is the i-th shot, always the same.

    ``kind``: a ``loop`` sees its start again in its last tenth, a ``walk`` does not, a ``turn``
    stays where it is; None draws one (50, 40 and 10 %). ``jitter``: exposure and white balance
    wander, and there is noise. ``sensor``: depth has a structured-light sensor's errors.
    ``moving``: a balloon drifts through the room. ``covered``: frames with a hand over the lens,
    black, without depth and labels. ``truth`` has none of the camera's errors.

    World: metres, z up, the floor's middle at the origin. Raises UsageError for what cannot be
    drawn.
    """

    metric = True

    def __init__(
        self,
        seed: int,
        frames: int = 400,
        width: int = 320,
        height: int = 240,
        *,
        kind: PathKind | None = "loop",
        fov_deg: float = 65.0,
        jitter: bool = False,
        sensor: bool = False,
        moving: bool = False,
        covered: Container[int] = (),
    ) -> None:
        if seed < 0 or frames < 1 or not (8 <= width <= 4096 and 8 <= height <= 4096):
            raise UsageError(f"No room with seed {seed}, {frames} frames of {width}x{height}.")
        if kind is not None and kind not in KINDS:
            raise UsageError(f"kind {kind!r} is none of {', '.join(KINDS)}.")
        if not 20 <= fov_deg <= 120:
            raise UsageError(f"fov_deg must be 20 to 120 degrees, got {fov_deg}.")
        rng = np.random.default_rng([seed, 0x2003])
        drawn = KINDS[int(rng.choice(3, p=_SHARES))]
        self.seed, self.kind = seed, kind or drawn
        self.jitter, self.sensor, self.moving, self.covered = jitter, sensor, moving, covered
        focal = float(width / 2 / np.tan(np.radians(fov_deg) / 2))
        self.camera = Camera(focal, focal, width / 2, height / 2, width, height)
        size = draw_size(rng)
        self.poses = camera_path(rng, size, frames, self.kind)
        """[frames, 4, 4] float64 c2w."""
        self._size = size

    @cached_property
    def plan(self) -> Plan:
        """What is in the room; drawn when first needed."""
        rng = np.random.default_rng([self.seed, 0x2004])
        return furnish(rng, self._size, self.poses)

    @property
    def description(self) -> str:
        x, y, z = self.plan.size
        things = len({shape.instance for shape in self.plan.shapes})
        return (
            f"procedural room {self.seed}: {x:.1f} x {y:.1f} x {z:.1f} m, {things} objects, "
            f"{len(self)} frames ({self.kind})"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        hidden = sum(i in self.covered for i in range(len(self)))
        said = {
            "Exposure and white balance wander, and pictures have noise.": self.jitter,
            "Depth has a sensor's noise, holes and shift.": self.sensor,
            "A balloon drifts through the room.": self.moving,
            f"The lens is covered in {hidden} frames.": hidden > 0,
        }
        return tuple(sentence for sentence, so in said.items() if so)

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, index: int) -> Shot:
        index = self._index(index)
        camera, c2w = self.camera, self.poses[index]
        if index in self.covered:
            size = camera.height, camera.width
            image = room_sensor.covered(*size, self.seed, index)
            depth, labels = np.zeros(size, np.float32), np.zeros(size, np.uint8)
        else:
            cast = self._cast(index, camera, self.moving)
            image = self._picture(cast, index, camera)
            depth, labels = cast.depth, self._labels[cast.parts]
            if self.sensor:
                depth = room_sensor.depth_sensor(depth, cast.normals, camera, c2w, self.seed, index)
        return Shot(index, index / FPS, image, camera, depth, c2w.copy(), labels, codes(), CLASSES)

    def truth(self, index: int) -> Truth:
        """Frame ``index`` without the camera's errors. Raises IndexError past the end."""
        cast = self._cast(self._index(index), self.camera, self.moving)
        image = self._developed(cast, index, self.camera, np.full(3, self._exposure))
        return Truth(
            image, cast.depth, cast.normals, self._labels[cast.parts], self._instances[cast.parts]
        )

    def mover(self, index: int) -> Array:
        """[3] where the balloon's centre is at a frame."""
        start, end = self.plan.route
        way = float(np.linalg.norm(end - start))
        # To and fro, slower at the ends.
        part = 0.5 - 0.5 * np.cos(np.pi * index * _MOVER_STEP_M / max(way, 0.1))
        return np.asarray(start + part * (end - start))

    def _index(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return index % len(self)

    def _cast(self, index: int, camera: Camera, moving: bool) -> _Cast:
        from retain.datasets.scene.room_render import geometry

        shapes = self.plan.tables.shapes
        if moving:
            row = table([self.plan.mover])
            row[0, CENTRE:TURN] = self.mover(index)
            shapes = np.concatenate([shapes, row])
        half, c2w = self.plan.tables.half, self.poses[index]
        return _Cast(
            shapes, *geometry(half, shapes, c2w, _numbers(camera), camera.width, camera.height)
        )

    def _picture(self, cast: _Cast, index: int, camera: Camera) -> Image:
        if not self.jitter:
            return self._developed(cast, index, camera, np.full(3, self._exposure))
        gain = self._exposure * room_sensor.gains(self.seed, index)
        return room_sensor.noisy(self._developed(cast, index, camera, gain), self.seed, index)

    def _developed(self, cast: _Cast, index: int, camera: Camera, gain: Array) -> Image:
        from retain.datasets.scene.room_render import develop

        image: Image = develop(self._radiance(cast, index, camera), gain)
        return image

    def _radiance(self, cast: _Cast, index: int, camera: Camera) -> NDArray[np.float32]:
        from retain.datasets.scene.room_render import light

        out: NDArray[np.float32] = light(
            self.plan.tables, self._grid, cast.shapes, self.poses[index], _numbers(camera),
            *cast[1:],
        )  # fmt: skip
        return out

    @cached_property
    def _grid(self) -> NDArray[np.float32]:
        from retain.datasets.scene.room_bake import bake

        return bake(self.plan.tables)

    @cached_property
    def _exposure(self) -> float:
        """The gain that suits the room: from a few very small pictures."""
        small = self.camera.resized(40, 30)
        at = np.linspace(0, len(self) - 1, 8).astype(int).tolist()
        levels = [self._radiance(self._cast(i, small, False), i, small).mean() for i in at]
        return float(_MEAN_LEVEL / np.mean(levels))

    @cached_property
    def _labels(self) -> NDArray[np.uint8]:
        """By part, see ``_by_part``."""
        labels = [shape.label for shape in self._by_part]
        return np.array([*labels, WALL, WALL, WALL, WALL, FLOOR, CEILING], np.uint8)

    @cached_property
    def _instances(self) -> NDArray[np.uint16]:
        numbers = [shape.instance for shape in self._by_part]
        return np.array([*numbers, 1, 2, 3, 4, 5, 6], np.uint16)

    @property
    def _by_part(self) -> list[Any]:
        """Parts are the shapes, then the balloon if it drifts, then walls, floor and ceiling."""
        return [*self.plan.shapes, *([self.plan.mover] if self.moving else [])]


def _numbers(camera: Camera) -> Array:
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy])
