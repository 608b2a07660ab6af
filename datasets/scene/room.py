"""Procedural rooms, seen by a hand-held camera: colour, exact depth, pose, class of every pixel.

Not a recording of anything, so free of rights, and every number of it is known. A room is a
function of its seed, its number of frames and its kind of path; what the *camera* does to it
(picture size, exposure, noise, a real depth sensor) changes neither the room nor the path.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.base import Shot
from retain.datasets.scene.room_classes import CEILING, FLOOR, WALL
from retain.datasets.scene.room_path import PathKind, camera_path
from retain.datasets.scene.room_plan import Plan, draw_size, furnish
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import UsageError

Array = NDArray[np.float64]
FPS = 30.0
_MEAN_LEVEL = 0.22
"""Of a room's linear picture values, on its path."""
_DIRECTIONS = 24


class Room:
    """``Room(seed)[i]`` is the i-th shot, always the same.

    ``kind``: ``loop`` sees its start again in its last tenth, ``walk`` does not, ``turn`` only
    turns; None draws one (loop 50 %, walk 40 %, turn 10 %). World: metres, z up, the floor's
    middle at the origin. Raises UsageError for what cannot be drawn.
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
    ) -> None:
        if frames < 1 or not (8 <= width <= 4096 and 8 <= height <= 4096):
            raise UsageError(f"A room cannot have {frames} frames of {width}x{height}.")
        if not 20 <= fov_deg <= 120:
            raise UsageError(f"fov_deg must be 20 to 120 degrees, got {fov_deg}.")
        rng = np.random.default_rng([seed, 0x2003])
        drawn = rng.choice(["loop", "walk", "turn"], p=[0.5, 0.4, 0.1])
        self.seed, self.kind = seed, kind or drawn
        focal = width / 2 / np.tan(np.radians(fov_deg) / 2)
        self.camera = Camera(focal, focal, width / 2, height / 2, width, height)
        size = draw_size(rng)
        self.poses = camera_path(rng, size, frames, self.kind)
        """[frames, 4, 4] float64 c2w."""
        self.plan: Plan = furnish(rng, size, self.poses[:, :3, 3])

    @property
    def description(self) -> str:
        x, y, z = self.plan.size
        things = len({shape.instance for shape in self.plan.shapes})
        return (
            f"procedural room {self.seed}: {x:.1f} x {y:.1f} x {z:.1f} m, {things} objects, "
            f"{len(self)} frames of a {self.kind}"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, index: int) -> Shot:
        from retain.datasets.scene import room_render

        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        index %= len(self)
        c2w = self.poses[index]
        tables, shapes = self.plan.tables, self.plan.tables.shapes
        camera = self.camera
        numbers = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
        depth, parts, normals, chosen, counts = room_render.geometry(
            tables, shapes, c2w, numbers, camera.width, camera.height
        )
        radiance = room_render.light(
            tables, self._grid, shapes, c2w, numbers, depth, parts, normals, chosen, counts
        )
        image = room_render.develop(radiance, np.full(3, 0.9))
        return Shot(index, index / FPS, image, camera, depth, c2w.copy(), self._labels[parts])

    @cached_property
    def _grid(self) -> NDArray[np.float32]:
        from retain.datasets.scene.room_shade import CELL_M, bake

        cells = tuple(int(np.ceil(side / CELL_M)) + 1 for side in self.plan.size)
        grid: NDArray[np.float32] = bake(self.plan.tables, cells, _sphere(_DIRECTIONS))
        return grid

    @cached_property
    def _labels(self) -> NDArray[np.uint8]:
        """By part: the shapes', then the walls', the floor's, the ceiling's."""
        shapes = [shape.label for shape in self.plan.shapes]
        return np.array([*shapes, WALL, WALL, WALL, WALL, FLOOR, CEILING], np.uint8)


def _sphere(count: int) -> Array:
    """[count, 3] directions, evenly spread (a golden spiral)."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], axis=1)
