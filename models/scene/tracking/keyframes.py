"""When a shot becomes a keyframe, and the keyframes a shot is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.memory.keyframes import Place
from retain.models.scene.tracking.base import Pose
from retain.models.scene.tracking.features import Features
from retain.models.scene.tracking.pnp import PIXEL, Seen

FEWEST = 150
"""Inliers: with less in common a new keyframe is due."""
FEW_SHARE = 0.25
"""Of the keyframe's points: where it has few, few in common is not less."""
FARTHEST, TURNED, OVERLAP = 0.15, np.deg2rad(15), 0.9
"""Metres, radians and share of a keyframe's points still in the picture."""
LEVEL = 1.2
"""Each level of the pyramid is so much coarser."""


def due(inliers: int, points: int, apart: Pose, overlap: float) -> bool:
    """Whether a shot with ``inliers`` points of its keyframe found, which has ``points``, and
    ``apart`` from it (camera to camera) is far enough from it to be kept as one. ``overlap``: see
    ``overlapping``."""
    moved = float(np.linalg.norm(apart[:3, 3]))
    turned = float(np.linalg.norm(rigid.rotation_vector(apart[:3, :3])))
    few = inliers < min(FEWEST, FEW_SHARE * points)
    return few or moved > FARTHEST or turned > TURNED or overlap < OVERLAP


def overlapping(place: Place, camera: Camera, c2w: Pose) -> float:
    """Share of the points of ``place`` that are in the picture of ``camera`` at ``c2w``."""
    points = world(place)
    points = points[np.isfinite(points[:, 2])]
    if not len(points):
        return 0.0
    uv = camera.project(rigid.transform(rigid.inverse(c2w), points))
    with np.errstate(invalid="ignore"):
        inside = (uv >= 0) & (uv < (camera.width, camera.height))
    return float(inside.all(axis=1).mean())


def world(place: Place) -> np.ndarray:
    """Its points in the world, float64 [N, 3]; NaN where unknown."""
    return rigid.transform(place.c2w, place.points)


def nearest(
    places: Sequence[Place], camera: Camera, c2w: Pose, newest: int, count: int
) -> list[Place]:
    """The keyframe ``newest`` and up to ``count`` - 1 others with most points in the picture."""
    shares = [(overlapping(p, camera, c2w), p.id) for p in places if p.id != newest]
    chosen = {key for share, key in sorted(shares, reverse=True)[: count - 1] if share > 0.3}
    return [place for place in places if place.id == newest or place.id in chosen]


def seen(place: Place, features: Features, pairs: np.ndarray) -> Seen:
    """Points of ``place`` that ``features`` show; ``pairs`` [M, 2]: rows of both."""
    a, b = pairs[:, 0], pairs[:, 1]
    return Seen(
        world(place)[a],
        features.uv[b].astype(np.float64),
        features.points[b, 2].astype(np.float64),
        PIXEL * LEVEL ** features.octave[b].astype(np.float64),
    )


def place(key: int, seq: int, c2w: Pose, camera: Camera, features: Features) -> Place:
    intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    return Place(
        key, seq, c2w, intrinsics,
        features.uv, features.octave, features.descriptors, features.points,
    )  # fmt: skip
