"""Depth for keyframes of a tracker without depth, a few keyframes later, when there are neighbours
on both sides. What is handed on can be built into the map like a depth sensor's picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking.base import Pose
from retain.models.scene.tracking.sweep import Floats, Motion, Swept, enlarged, sweep
from retain.pipeline.errors import StateError

AFTER = 2
"""Keyframes that must follow before depth is made."""
HELD = 6
"""Keyframes whose pictures are kept: the last ones."""
NEIGHBOURS = 4
BASE = 0.02, 0.35
"""Distance of a neighbour, as a share of the depth: less tells nothing, more looks different."""
TURNED = np.deg2rad(35)
"""Radians: a neighbour that looks elsewhere sees little of the same."""
BEST_BASE = 0.12
AGREED = 0.06
"""Share by which depths of two keyframes may differ to confirm each other."""


@dataclass(frozen=True, slots=True)
class Dense:
    """A keyframe whose depth has become known. Lengths are the tracker's, not metres."""

    keyframe: int
    shot: Shot
    """With depth, 0 where unknown."""
    c2w: Pose
    """Its pose as known now."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the map says of a keyframe now."""

    c2w: Pose
    points: NDArray[np.float64]
    """[N, 3] world: those it sees."""


@dataclass(slots=True)
class _Held:
    id: int
    shot: Shot
    grey: Floats
    """Half size."""
    depth: Floats
    """Half size, once made; all 0 before."""
    done: bool


class Densifier:
    """Keeps the pictures of the last keyframes and makes depth of them, each once."""

    def __init__(self) -> None:
        self._held: list[_Held] = []

    def keep(self, key: int, shot: Shot) -> None:
        """A new keyframe."""
        grey = _half(shot.image)
        bare = Shot(shot.seq, shot.seconds, shot.image, shot.camera)
        self._held.append(_Held(key, bare, grey, np.zeros_like(grey), False))
        del self._held[:-HELD]

    def skip(self) -> None:
        """No depth is made of the newest keyframe; its picture serves its neighbours."""
        self._held[-1].done = True

    def ready(self, known: Mapping[int, Known], *, last: bool = False) -> list[Dense]:
        """Keyframes whose depth can be made now; ``last``: as none will follow, of all that are
        left. One without neighbours gets none."""
        made = []
        for at, held in enumerate(self._held[: len(self._held) - (0 if last else AFTER)]):
            if held.done:
                continue
            held.done = True
            if held.id not in known or len(known[held.id].points) < 10:
                continue
            depth = self._depth(at, known)
            if depth is not None:
                shot = replace(held.shot, depth=depth)
                made.append(Dense(held.id, shot, known[held.id].c2w.copy()))
        return made

    def _depth(self, at: int, known: Mapping[int, Known]) -> Floats | None:
        held = self._held[at]
        here = known[held.id]
        camera = held.shot.camera
        small = camera.resized(held.grey.shape[1], held.grey.shape[0])
        seen = rigid.transform(rigid.inverse(here.c2w), here.points)
        seen = seen[seen[:, 2] > 0]
        low, middle, high = np.percentile(seen[:, 2], (2, 50, 98))
        others = self._neighbours(held, known, float(middle))
        if len(others) < 2:
            return None
        pins = np.concatenate([small.project(seen), seen[:, 2:]], axis=1)
        swept = sweep(
            held.grey, small, [(other.grey, motion) for other, motion in others],
            float(low) / 1.4, float(high) * 1.5, pins,
        )  # fmt: skip
        held.depth = _confirmed(swept, small, [(o.depth, m) for o, m in others if o.depth.any()])
        return enlarged(held.depth, camera.width, camera.height)

    def _neighbours(
        self, held: _Held, known: Mapping[int, Known], middle: float
    ) -> list[tuple[_Held, Motion]]:
        """The held keyframes that show the same from a good distance, best first."""
        found = []
        for other in self._held:
            if other.id == held.id or other.id not in known:
                continue
            motion = rigid.inverse(known[other.id].c2w) @ known[held.id].c2w
            base = float(np.linalg.norm(motion[:3, 3])) / middle
            turn = float(np.linalg.norm(rigid.rotation_vector(motion[:3, :3])))
            if BASE[0] < base < BASE[1] and turn < TURNED:
                found.append((abs(np.log(base / BEST_BASE)) + turn, other.id, other, motion))
        found.sort(key=lambda entry: entry[:2])
        return [(other, motion) for _, _, other, motion in found[:NEIGHBOURS]]

    def state(self) -> dict[str, np.ndarray]:
        held = self._held
        size = held[0].shot.camera if held else Camera(1, 1, 0, 0, 1, 1)
        images = np.array([h.shot.image for h in held], np.uint8)
        depths = np.array([h.depth for h in held], np.float32)
        return {
            "dense_images": images if held else np.zeros((0, 1, 1, 3), np.uint8),
            "dense_depths": depths if held else np.zeros((0, 1, 1), np.float32),
            "dense_camera": np.array([size.fx, size.fy, size.cx, size.cy]),
            "dense_numbers": np.array(
                [[h.id, h.shot.seq, h.shot.seconds, h.done] for h in held], np.float64
            ).reshape(-1, 4),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises StateError for arrays that do not fit together."""
        images, depths, numbers = (state[f"dense_{k}"] for k in ("images", "depths", "numbers"))
        if not len(images) == len(depths) == len(numbers) or images.ndim != 4:
            raise StateError("The tracker's state holds pictures that do not fit its keyframes.")
        height, width = images.shape[1:3]
        fx, fy, cx, cy = map(float, state["dense_camera"])
        camera = Camera(fx, fy, cx, cy, width, height)
        self._held = []
        for image, depth, (key, seq, seconds, done) in zip(images, depths, numbers, strict=True):
            shot = Shot(int(seq), float(seconds), image.copy(), camera)
            self._held.append(_Held(int(key), shot, _half(shot.image), depth.copy(), bool(done)))


def _half(image: NDArray[np.uint8]) -> Floats:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    size = image.shape[1] // 2, image.shape[0] // 2
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)


def _confirmed(swept: Swept, camera: Camera, others: list[tuple[Floats, Motion]]) -> Floats:
    """Depths that the pictures or a neighbour's depth confirm, and no neighbour's contradicts."""
    depth = swept.depth
    points = camera.unproject(depth).reshape(-1, 3).astype(np.float64)
    known = depth.reshape(-1) > 0
    yes, no = np.zeros(len(points), np.int64), np.zeros(len(points), np.int64)
    for other, motion in others:
        moved = rigid.transform(motion, points)
        at = camera.project(moved)
        with np.errstate(invalid="ignore"):
            inside = known & ((at >= 0) & (at < (camera.width, camera.height))).all(axis=1)
        rows = np.flatnonzero(inside)
        x, y = at[rows].astype(np.int64).T
        theirs, mine = other[y, x], moved[rows, 2]
        off = np.where(theirs > 0, mine / np.maximum(theirs, 1e-6) - 1, np.nan)
        with np.errstate(invalid="ignore"):
            yes[rows] += np.abs(off) < AGREED
            # Farther than what the neighbour sees may be hidden from it; nearer may not.
            no[rows] += off < -AGREED
    kept = (swept.sure.reshape(-1) | (yes > 0)) & ((no == 0) | (yes > no))
    return np.where(kept.reshape(depth.shape), depth, 0).astype(np.float32)
