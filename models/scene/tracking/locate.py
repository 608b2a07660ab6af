"""The pose of a shot from places known: near where it should be, or anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.memory.keyframes import Place
from retain.models.scene.tracking import keyframes
from retain.models.scene.tracking.base import Pose
from retain.models.scene.tracking.features import Features
from retain.models.scene.tracking.graph import Edge
from retain.models.scene.tracking.matching import match
from retain.models.scene.tracking.pnp import Fit, Seen, judged, refine, solve

LEAST = 20
"""Inliers of a pose that is believed."""
UNSURE = (np.deg2rad(2.0), 0.05)
"""Standard deviations (radians, metres) of a pose that is not believed."""
AROUND = 1 / 12
"""Of the picture's width: how far from where it should be a corner is looked for."""
CLOSE = 1 / 40
"""The same once the pose is known."""
STRONGEST = 300
"""Corners by which places are told apart at first."""
TRIED = 5
"""Places most like a shot that are looked at closely."""
RIVAL = 0.25
"""Share of points that disagree with a pose from which on they may have another."""
_OWN = 30
"""Inliers of a place alone that measure the motion between it and a shot."""
_LEAST_SIGMA = (np.deg2rad(0.1), 0.003)
"""Radians, metres: what corners say of their own accuracy leaves out calibration and depth bias."""


@dataclass(frozen=True, slots=True)
class Found:
    """A pose, the points that support it, and which of ``places`` each belongs to."""

    fit: Fit
    places: Sequence[Place]
    seen: Seen
    owner: np.ndarray

    @property
    def inliers(self) -> int:
        return int(self.fit.inliers.sum())

    def of(self, place: int) -> int:
        """Inliers that belong to ``places[place]``."""
        return int((self.fit.inliers & (self.owner == place)).sum())

    def at(self, c2w: Pose, camera: Camera) -> Found:
        """The same points as the pose ``c2w`` puts them, which is known better than by them."""
        return replace(self, fit=judged(self.seen, camera, c2w))

    def others(self, camera: Camera) -> list[Pose]:
        """The poses that each half of the picture gives by itself: left, right, upper, lower. What
        moves on its own is not in all of them."""
        x, y = self.seen.uv.T
        halves = (x < camera.width / 2, y < camera.height / 2)
        parts = [np.flatnonzero(half == side) for half in halves for side in (True, False)]
        fits = (solve(self.seen[rows], camera, LEAST) for rows in parts)
        return [fit.c2w for fit in fits if fit is not None]

    def edges(self, key: int, camera: Camera, *, loop: bool = False) -> list[Edge]:
        """The motion from each place to keyframe ``key``, this shot, as that place alone sees it;
        from the best one always."""
        counts = [self.of(i) for i in range(len(self.places))]
        out = []
        for i, place in enumerate(self.places):
            fit = None
            if counts[i] >= _OWN:
                own = self.seen[self.fit.inliers & (self.owner == i)]
                fit = refine(own, camera, self.fit.c2w, LEAST)
            if fit is None and i == int(np.argmax(counts)):
                fit = self.fit
            if fit is None or not believed(fit):
                continue
            turn, shift = fit.spread
            sigma = max(2 * turn, _LEAST_SIGMA[0]), max(2 * shift, _LEAST_SIGMA[1])
            out.append(Edge(place.id, key, rigid.inverse(place.c2w) @ fit.c2w, sigma, loop))
        return out


def believed(fit: Fit) -> bool:
    turn, shift = fit.spread
    return turn < UNSURE[0] and shift < UNSURE[1]


def near(
    places: Sequence[Place], features: Features, camera: Camera, guess: Pose, radius: float = AROUND
) -> Found | None:
    """The pose near ``guess`` that the points of ``places`` agree on, if it can be believed."""
    return _found(places, features, camera, guess, radius)


def anywhere(
    places: Sequence[Place], features: Features, camera: Camera, least: int = LEAST
) -> Found | None:
    """The pose that the most similar of ``places`` gives, with ``least`` inliers."""
    best = None
    for place in alike(places, features)[:TRIED]:
        rough = _found([place], features, camera, None, 0.0)
        if rough is None:
            continue
        found = _found([place], features, camera, rough.fit.c2w, CLOSE) or rough
        if found.inliers >= least and (best is None or found.inliers > best.inliers):
            best = found
    return best


def alike(places: Sequence[Place], features: Features) -> list[Place]:
    """Those of ``places`` that show at least something of what ``features`` do, the most similar
    first. No vocabulary: the strongest corners are compared one by one."""
    strongest = features.descriptors[:STRONGEST]
    votes = [(len(match(p.descriptors[:STRONGEST], strongest)), p.id) for p in places]
    by_id = {place.id: place for place in places}
    return [by_id[key] for count, key in sorted(votes, reverse=True) if count >= LEAST // 4]


def _found(
    places: Sequence[Place], features: Features, camera: Camera, guess: Pose | None, radius: float
) -> Found | None:
    parts, owner = [], []
    for i, place in enumerate(places):
        at = None
        if guess is not None:
            inside = rigid.transform(rigid.inverse(guess), keyframes.world(place))
            at = camera.project(inside).astype(np.float32)
        pairs = match(
            place.descriptors, features.descriptors,
            at=at, uv=features.uv, radius=radius * camera.width,
        )  # fmt: skip
        pairs = pairs[np.isfinite(place.points[pairs[:, 0], 2])]
        parts.append(keyframes.seen(place, features, pairs))
        owner.append(np.full(len(pairs), i))
    if not parts:
        return None
    seen = Seen(*(np.concatenate([getattr(p, n) for p in parts]) for n in Seen.__slots__))
    fit = _widest(seen, camera)
    if fit is None or not believed(fit):
        return None
    return Found(fit, places, seen, np.concatenate(owner))


def _widest(seen: Seen, camera: Camera) -> Fit | None:
    """The pose whose inliers cover most of the picture. Most inliers alone would follow a moving
    thing with much texture: where many points disagree, they are asked for a pose of their own."""
    best = solve(seen, camera, LEAST)
    if best is None:
        return None
    rest = np.flatnonzero(~best.inliers)
    if len(rest) < RIVAL * len(seen):
        return best
    other = solve(seen[rest], camera, LEAST)
    if other is None:
        return best
    other = refine(seen, camera, other.c2w, LEAST)
    if other is None or _cells(seen, other, camera) <= _cells(seen, best, camera):
        return best
    return other


def _cells(seen: Seen, fit: Fit, camera: Camera) -> int:
    """Of 10 x 8 cells of the picture, those with inliers."""
    at = seen.uv[fit.inliers] * (10 / camera.width, 8 / camera.height)
    column, row = at.astype(np.int64).T
    return len(np.unique(column + 10 * row))
