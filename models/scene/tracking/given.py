"""Poses that come with the shots: checked, never believed blindly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.models.scene.tracking.base import Model, Pose, Tracked
from retain.models.scene.tracking.keyframes import FARTHEST, TURNED
from retain.pipeline.errors import StateError
from retain.pipeline.results import Tracking

LEAP = 1.0
"""Metres from one shot to the next that nobody's hand makes: the pose is taken, but said."""
LEAPS = "pose leaps"


class GivenPoses:
    """A keyframe every 15 cm or 15 degrees. A shot without a usable pose is lost.

    Poses that leap (more than ``leap`` from one shot to the next) are taken, since pictures may be
    few and far between; ``reason`` says so.
    """

    def __init__(self, farthest: float = FARTHEST, turned: float = TURNED, leap: float = LEAP):
        self._farthest, self._turned, self._leap = farthest, turned, leap
        self.reset()

    def reset(self) -> None:
        self._c2w: Pose = np.eye(4)
        self._keyframe: Pose = np.eye(4)
        self._begun = self._lost = False

    def track(self, shot: Shot, model: Model | None = None) -> Tracked:
        if shot.c2w is None or not rigid.is_rigid(shot.c2w):
            why = "no pose given" if shot.c2w is None else "the given pose is no rigid motion"
            if not self._begun:
                return Tracked("starting", why, self._c2w.copy(), 0, False)
            self._lost = True
            return Tracked("lost", why, self._c2w.copy(), 0, False)
        c2w = shot.c2w.astype(np.float64)
        leapt = self._begun and np.linalg.norm(c2w[:3, 3] - self._c2w[:3, 3]) > self._leap
        apart = rigid.inverse(self._keyframe) @ c2w
        moved = float(np.linalg.norm(apart[:3, 3]))
        turned = float(np.linalg.norm(rigid.rotation_vector(apart[:3, :3])))
        key = bool(not self._begun or moved > self._farthest or turned > self._turned)
        if key:
            self._keyframe = c2w
        recovered, self._lost, self._begun, self._c2w = self._lost, False, True, c2w
        state: Tracking = "recovered" if recovered else "tracked"
        return Tracked(state, LEAPS if leapt else "", c2w.copy(), 0, key)

    def state(self) -> dict[str, np.ndarray]:
        return {
            "c2w": self._c2w.copy(),
            "keyframe": self._keyframe.copy(),
            "flags": np.array([self._begun, self._lost]),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        c2w, keyframe, flags = (state.get(name) for name in ("c2w", "keyframe", "flags"))
        if c2w is None or keyframe is None or flags is None or flags.shape != (2,):
            raise StateError("The saved state is not that of given poses.")
        if not (rigid.is_rigid(c2w) and rigid.is_rigid(keyframe)):
            raise StateError("The saved poses are no rigid motions.")
        self._c2w, self._keyframe = c2w.copy(), keyframe.copy()
        self._begun, self._lost = bool(flags[0]), bool(flags[1])
