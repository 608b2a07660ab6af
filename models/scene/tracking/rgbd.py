"""The camera's path from pictures with depth: corners found again in keyframes (PnP)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.memory.keyframes import KeyframeMemory, Place
from retain.models.scene.tracking import keyframes
from retain.models.scene.tracking.base import Model, Pose, Tracked
from retain.models.scene.tracking.features import Features, extract
from retain.models.scene.tracking.matching import match
from retain.models.scene.tracking.pnp import Fit, Seen, solve
from retain.pipeline.errors import StateError

LEAST = 20
"""Inliers of a pose that is believed."""
FEW = 50
"""Corners of a picture that shows something."""
UNSURE = (np.deg2rad(2.0), 0.05)
"""Standard deviations (radians, metres) of a pose that is not believed."""
AROUND = 1 / 12
"""Of the picture's width: how far from where it should be a corner is looked for."""
COMPARED = 4
"""Keyframes a shot is compared with."""
TRIED = 8
"""Keyframes a lost shot is compared with."""


class RgbdTracker:
    """The world is the first keyframe's camera. Keyframes live in ``memory`` under ``stream``."""

    def __init__(
        self, memory: KeyframeMemory | None = None, stream: str = "", corners: int = 1500
    ) -> None:
        self._memory, self._stream, self._corners = memory or KeyframeMemory(), stream, corners
        self._c2w: Pose = np.eye(4)
        self._velocity = np.zeros(6)
        """Twist per second."""
        self._seconds = 0.0
        self._next = self._reference = 0
        """Ids: of the keyframe to come, and of the one most like the last shot."""
        self._lost = False

    def track(self, shot: Shot, model: Model | None = None) -> Tracked:
        features = extract(shot.image, shot.camera, shot.depth, self._corners)
        if not self._next:
            return self._start(shot, features)
        fit, why = self._locate(shot, features)
        if fit is None:
            self._lost, self._velocity = True, np.zeros(6)
            return Tracked("lost", why, self._c2w.copy(), 0, False)
        self._step(shot, fit.c2w)
        recovered, self._lost = self._lost, False
        key = self._due(shot, features, fit)
        if key:
            self._keep(shot, features)
        return Tracked(
            "recovered" if recovered else "tracked", "", self._c2w.copy(),
            int(fit.inliers.sum()), key,
        )  # fmt: skip

    def reset(self) -> None:
        self._memory.reset(self._stream)
        self.__init__(self._memory, self._stream, self._corners)  # type: ignore[misc]

    def state(self) -> dict[str, np.ndarray]:
        return {
            "c2w": self._c2w.copy(),
            "velocity": self._velocity.copy(),
            "numbers": np.array([self._seconds, self._next, self._reference, self._lost], float),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        try:
            c2w, velocity, numbers = state["c2w"], state["velocity"], state["numbers"]
        except KeyError as error:
            raise StateError(f"The tracker's state has no array {error}.") from None
        if not rigid.is_rigid(c2w) or velocity.shape != (6,) or numbers.shape != (4,):
            raise StateError("The tracker's state is not of an RGB-D tracker.")
        self._c2w, self._velocity = c2w.copy(), velocity.copy()
        self._seconds = float(numbers[0])
        self._next, self._reference, self._lost = int(numbers[1]), int(numbers[2]), bool(numbers[3])

    def _start(self, shot: Shot, features: Features) -> Tracked:
        solid = int(features.solid.sum())
        if solid < FEW:
            why = "no depth yet" if len(features) >= FEW else f"{len(features)} corners: no texture"
            return Tracked("starting", why, self._c2w.copy(), 0, False)
        self._seconds = shot.seconds
        self._keep(shot, features)
        return Tracked("tracked", "", self._c2w.copy(), solid, True)

    def _locate(self, shot: Shot, features: Features) -> tuple[Fit | None, str]:
        """The pose of ``shot``, or why there is none."""
        if len(features) < FEW:
            return None, f"{len(features)} corners: lens covered, or no texture"
        places = self._memory.read(self._stream)
        guess = self._predicted(shot.seconds)
        if not self._lost:
            near = keyframes.nearest(places, shot.camera, guess, self._reference, COMPARED)
            fit = _agreed(near, features, shot.camera, guess)
            if fit is not None:
                return fit, ""
        return _anywhere(places, features, shot.camera, guess)

    def _predicted(self, seconds: float) -> Pose:
        return self._c2w @ rigid.exp(self._velocity * min(seconds - self._seconds, 0.2))

    def _step(self, shot: Shot, c2w: Pose) -> None:
        dt = shot.seconds - self._seconds
        moved = rigid.log(rigid.inverse(self._c2w) @ c2w)
        self._velocity = moved / dt if 0 < dt < 0.5 and not self._lost else np.zeros(6)
        self._c2w, self._seconds = c2w, shot.seconds

    def _due(self, shot: Shot, features: Features, fit: Fit) -> bool:
        if features.solid.sum() < FEW:
            return False
        places = self._memory.read(self._stream)
        overlaps = [keyframes.overlapping(p, shot.camera, self._c2w) for p in places]
        reference = places[int(np.argmax(overlaps))]
        self._reference = reference.id
        apart = rigid.inverse(reference.c2w) @ self._c2w
        return keyframes.due(int(fit.inliers.sum()), apart, max(overlaps))

    def _keep(self, shot: Shot, features: Features) -> None:
        made = keyframes.place(self._next, shot.seq, self._c2w.copy(), shot.camera, features)
        self._memory.write(self._stream, made)
        self._reference, self._next = self._next, self._next + 1


def _agreed(
    places: list[Place], features: Features, camera: Camera, guess: Pose | None
) -> Fit | None:
    """The pose that the points of all ``places`` agree on, if it can be believed."""
    parts, radius = [], AROUND * camera.width
    for place in places:
        at = None
        if guess is not None:
            at = camera.project(
                rigid.transform(rigid.inverse(guess), keyframes.world(place))
            ).astype(np.float32)
        pairs = match(place.descriptors, features.descriptors, at=at, uv=features.uv, radius=radius)
        pairs = pairs[np.isfinite(place.points[pairs[:, 0], 2])]
        parts.append(keyframes.seen(place, features, pairs))
    seen = Seen(*(np.concatenate([getattr(p, n) for p in parts]) for n in Seen.__slots__))
    fit = solve(seen, camera, LEAST)
    return fit if fit is not None and _believed(fit) else None


def _believed(fit: Fit) -> bool:
    turn, shift = fit.spread
    return turn < UNSURE[0] and shift < UNSURE[1]


def _anywhere(
    places: list[Place], features: Features, camera: Camera, guess: Pose
) -> tuple[Fit | None, str]:
    """Relocalisation: the keyframe with most matches, newest first."""
    best = None
    for place in places[::-1][:TRIED]:
        fit = _agreed([place], features, camera, None)
        if fit is not None and (best is None or fit.inliers.sum() > best.inliers.sum()):
            best = fit
    return best, "" if best is not None else "no keyframe is recognised"
