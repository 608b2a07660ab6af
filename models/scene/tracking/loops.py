"""Loop closure: a new keyframe that shows a place of long ago."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.memory.keyframes import Place
from retain.models.scene.tracking.base import Pose
from retain.models.scene.tracking.features import Features
from retain.models.scene.tracking.graph import PoseGraph
from retain.models.scene.tracking.keyframes import overlapping
from retain.models.scene.tracking.locate import CLOSE, Found, anywhere, near

LEAST = 50
"""Inliers of a loop."""
SHARED = 0.5
"""Of a neighbour's points in the picture: from here on it must confirm the loop."""
AGREE = (np.deg2rad(3.0), 0.06)
"""Radians, metres by which the neighbour's pose may differ."""


def closed(
    key: int, places: Sequence[Place], graph: PoseGraph, features: Features, camera: Camera
) -> Found | None:
    """Where keyframe ``key`` is as old places see it, those aside that it is joined with by one or
    two edges. A place counts if a neighbour that should see the same gives the same pose."""
    known = {key} | graph.neighbours(key)
    known |= {far for close in known for far in graph.neighbours(close)}
    found = anywhere([p for p in places if p.id not in known], features, camera, LEAST)
    if found is None:
        return None
    beside = graph.neighbours(found.places[0].id)
    for place in places:
        if place.id in beside and overlapping(place, camera, found.fit.c2w) > SHARED:
            again = near([place], features, camera, found.fit.c2w, CLOSE)
            if again is None or not _same(again.fit.c2w, found.fit.c2w):
                return None
            break
    return found


def _same(a: Pose, b: Pose) -> bool:
    apart = rigid.inverse(a) @ b
    turned = float(np.linalg.norm(rigid.rotation_vector(apart[:3, :3])))
    return turned < AGREE[0] and float(np.linalg.norm(apart[:3, 3])) < AGREE[1]
