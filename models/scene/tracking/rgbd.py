"""The camera's path from pictures with depth: corners found again in keyframes (PnP), loops closed.

A shot is compared with the keyframe it is most like and those joined with that one, so that a place
of long ago, which drift has moved, never pulls at single shots: it is met as a loop, once, by a new
keyframe, and then all keyframes move.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.memory.keyframes import KeyframeConfig, KeyframeMemory, Place
from retain.models.scene.tracking import keyframes, locate, loops
from retain.models.scene.tracking.base import Fit, Model, Pose, Tracked
from retain.models.scene.tracking.features import Features, Kind, extract
from retain.models.scene.tracking.graph import Edge, PoseGraph
from retain.models.scene.tracking.locate import Found
from retain.models.scene.tracking.polish import Front, Polish, polish
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.results import Tracking

FEW = 50
"""Corners of a picture that shows something."""
COMPARED = 3
"""Keyframes a shot is compared with."""
SHIFT = (np.deg2rad(0.5), 0.01)
"""Radians, metres: a loop that moves no keyframe by so much corrects nothing yet."""
EXACT = (np.deg2rad(0.05), 0.002)
"""Standard deviations (radians, metres) of a polished motion."""
WARY, _LESS = 15, 0.95
"""Shots after one whose corners were not believed in which the way the camera went before is
preferred to what corners say, if it costs no more than this share."""
_SLOW = 0.5
"""Seconds between shots beyond which no velocity is known."""
REST = 5
"""Keyframes after a closed loop in which none is looked for: while a place is seen again every one
of them would find one, and say the same."""


class RgbdTracker:
    """The world is the first keyframe's camera. Keyframes live in ``memory`` under ``stream``.

    Every pose is fitted to the newest keyframe as its sensor saw it. With ``fit`` "map" those of
    keyframes are fitted to the stable map after that (frame to model, KinectFusion 2011): less
    drift where depth is noisy (kitchen clip: ATE 2.3 for 2.9 cm), more where it is good (rooms: 1.4
    for 0.7 cm), since the map's surface is only as sharp as its cells.

    ``features``: the corners that are matched. Raises UsageError when ``memory`` is for others.
    """

    def __init__(
        self,
        memory: KeyframeMemory | None = None,
        stream: str = "",
        corners: int = 1500,
        fit: Fit = "keyframe",
        features: Kind = "orb",
    ) -> None:
        self._memory = memory or KeyframeMemory(KeyframeConfig(features=features))
        if self._memory.config["features"] != features:
            kept = self._memory.config["features"]
            raise UsageError(f"Keyframes that hold {kept} features cannot be told by {features}.")
        self._stream, self._corners = stream, corners
        self._fit, self._features = fit, features
        self._graph = PoseGraph()
        self._c2w: Pose = np.eye(4)
        self._velocity = np.zeros(6)
        """Twist per second, in the camera."""
        self._seconds = 0.0
        self._next = self._reference = self._closed = 0
        """Ids: of the keyframe to come, of the one most like the last shot, and of the last one
        that closed a loop."""
        self._lost = False
        self._wary = 0
        """Shots for which something may still be moving."""
        self._front: Front | None = None
        """The newest keyframe, for polishing."""

    def track(self, shot: Shot, model: Model | None = None) -> Tracked:
        features = extract(shot.image, shot.camera, shot.depth, self._corners, self._features)
        if not self._next:
            return self._start(shot, features)
        places = self._memory.read(self._stream)
        found, why = self._locate(shot, features, places)
        if found is None and (goes_on := self._without_corners(shot, features)):
            return goes_on
        if found is None:
            self._lost, self._velocity = True, np.zeros(6)
            return Tracked("lost", why, self._c2w.copy(), 0, False)
        assert self._front is not None
        dense = Polish(self._front, shot)
        polished, doubt = self._polished(shot, found, dense)
        if polished is not None and doubt:
            found = found.at(polished, shot.camera)
        self._step(shot, found.fit.c2w if polished is None else polished)
        state: Tracking = "recovered" if self._lost else "tracked"
        self._lost = False
        if not self._due(shot.camera, features, found, places):
            return Tracked(state, "", self._c2w.copy(), found.inliers, False)
        if self._fit == "map" and model is not None:
            self._fit_to_map(shot, model)
        features = features.without(~dense.trusted(self._c2w, features.uv))
        correction, loop = self._keep(shot, features, found, exact=polished is not None)
        return Tracked(state, "", self._c2w.copy(), found.inliers, True, correction, loop)

    def reset(self) -> None:
        self._memory.reset(self._stream)
        self._graph = PoseGraph()
        self._c2w, self._velocity, self._seconds = np.eye(4), np.zeros(6), 0.0
        self._next = self._reference = self._closed = 0
        self._lost, self._wary, self._front = False, 0, None

    def state(self) -> dict[str, np.ndarray]:
        return {
            "c2w": self._c2w.copy(),
            "velocity": self._velocity.copy(),
            "seconds": np.array([self._seconds]),
            "numbers": np.array(
                [self._next, self._reference, self._closed, self._lost, self._wary], np.int64
            ),
            **self._graph.arrays(),
            **(self._front.arrays() if self._front is not None else {}),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        wanted = {"c2w": (4, 4), "velocity": (6,), "seconds": (1,), "numbers": (5,)}
        for name, shape in wanted.items():
            array = state.get(name)
            if array is None or array.shape != shape or not np.isfinite(array).all():
                raise StateError(f"The saved state of the tracker has no usable array {name!r}.")
        begun = int(state["numbers"][0]) > 0
        graph, front = PoseGraph.of(state), Front.of(state) if begun else None
        self._graph, self._front = graph, front
        self._c2w, self._velocity = state["c2w"].copy(), state["velocity"].copy()
        self._seconds = float(state["seconds"][0])
        numbers = state["numbers"]
        self._next, self._reference, self._closed = map(int, numbers[:3])
        self._lost, self._wary = bool(numbers[3]), int(numbers[4])

    def _without_corners(self, shot: Shot, features: Features) -> Tracked | None:
        """While something may be moving, which hides corners or takes them along: the pose by the
        picture alone, if that fits. It becomes a keyframe: corners of the last one are gone."""
        if not self._wary or self._lost or self._front is None or features.solid.sum() < FEW:
            return None
        dense, guess = Polish(self._front, shot), self._guess(shot)
        c2w = dense.instead(guess, [guess], 1.0)
        if c2w is None:
            return None
        self._wary -= 1
        self._step(shot, c2w)
        features = features.without(~dense.trusted(c2w, features.uv))
        correction, loop = self._keep(shot, features, None, exact=True)
        return Tracked("tracked", "", self._c2w.copy(), 0, True, correction, loop)

    def _polished(self, shot: Shot, found: Found, dense: Polish) -> tuple[Pose | None, bool]:
        """The pose of corners made exact, and whether another was put in its place: one that
        the picture fits far better, from where the camera should be or as a part of the picture
        sees it."""
        polished, guess = dense.polished(found.fit.c2w), self._guess(shot)
        self._wary = max(self._wary - 1, 0)
        if polished is not None and dense.cost(guess) >= dense.cost(polished):
            better = dense.instead(polished, [guess], _LESS) if self._wary else None
            return (polished, False) if better is None else (better, True)
        doubted = found.fit.c2w if polished is None else polished
        others = [guess, found.fit.c2w, *found.others(shot.camera)]
        instead = dense.instead(doubted, others)
        if instead is None:
            return polished, False
        self._wary = WARY
        return instead, True

    def _guess(self, shot: Shot) -> Pose:
        """Where the camera is if it goes on moving as it did."""
        ahead: Pose = self._c2w @ rigid.exp(self._velocity * (shot.seconds - self._seconds))
        return ahead

    def _fit_to_map(self, shot: Shot, model: Model) -> None:
        """Polish a keyframe's pose against the stable map as it would be seen from there."""
        seen = Front.of_map(shot.camera, self._c2w, model(shot.camera, self._c2w))
        fitted = polish(seen, shot, self._c2w)
        if fitted is not None:
            self._c2w = fitted

    def _start(self, shot: Shot, features: Features) -> Tracked:
        solid = int(features.solid.sum())
        if solid < FEW:
            why = f"only {solid} corners with depth" if len(features) >= FEW else _blank(features)
            return Tracked("starting", why, self._c2w.copy(), 0, False)
        self._seconds = shot.seconds
        self._keep(shot, features, None)
        return Tracked("tracked", "", self._c2w.copy(), solid, True)

    def _locate(
        self, shot: Shot, features: Features, places: list[Place]
    ) -> tuple[Found | None, str]:
        """The pose of ``shot``, or why there is none."""
        if len(features) < FEW:
            return None, _blank(features)
        guess = self._guess(shot)
        around = {self._reference} | self._graph.neighbours(self._reference)
        local = keyframes.nearest(
            [p for p in places if p.id in around], shot.camera, guess, self._reference, COMPARED
        )
        found = locate.near(local, features, shot.camera, guess)
        if found is None:
            found = locate.anywhere(places, features, shot.camera)
            if found is not None:
                around = {found.places[0].id} | self._graph.neighbours(found.places[0].id)
                local = [p for p in places if p.id in around]
                close = locate.CLOSE
                found = locate.near(local, features, shot.camera, found.fit.c2w, close) or found
        return found, "" if found is not None else "no keyframe is recognised"

    def _step(self, shot: Shot, c2w: Pose) -> None:
        dt = shot.seconds - self._seconds
        moved = rigid.log(rigid.inverse(self._c2w) @ c2w)
        self._velocity = moved / dt if 0 < dt < _SLOW and not self._lost else np.zeros(6)
        self._c2w, self._seconds = c2w, shot.seconds

    def _due(self, camera: Camera, features: Features, found: Found, places: list[Place]) -> bool:
        """Whether to keep the shot; also chooses the reference."""
        around = {p.id for p in found.places}
        around |= {key for known in around for key in self._graph.neighbours(known)}
        shares = {
            p.id: keyframes.overlapping(p, camera, self._c2w) for p in places if p.id in around
        }
        self._reference = max(shares, key=lambda key: shares[key])
        (reference,) = (p for p in places if p.id == self._reference)
        if features.solid.sum() < FEW:
            return False
        apart = rigid.inverse(reference.c2w) @ self._c2w
        points = int(np.isfinite(reference.points[:, 2]).sum())
        return keyframes.due(found.inliers, points, apart, shares[self._reference])

    def _keep(
        self, shot: Shot, features: Features, found: Found | None, *, exact: bool = False
    ) -> tuple[dict[int, Pose] | None, int | None]:
        """Make a keyframe; the correction and the loop, if it closes one. ``exact``: its pose is
        polished against the keyframe before."""
        key, self._reference, self._next = self._next, self._next, self._next + 1
        made = keyframes.place(key, shot.seq, self._c2w.copy(), shot.camera, features)
        gone = self._memory.write(self._stream, made)
        for edge in found.edges(key, shot.camera) if found is not None else []:
            self._graph.add(edge)
        if exact and self._front is not None:
            motion = rigid.inverse(self._front.c2w) @ self._c2w
            self._graph.add(Edge(key - 1, key, motion, EXACT))
        for dropped in gone:
            self._graph.drop(dropped)
        places = self._memory.read(self._stream)
        loop = None
        if key - self._closed >= REST:
            loop = loops.closed(key, places, self._graph, features, shot.camera)
        correction = None
        if loop is not None:
            self._closed = key
            for edge in loop.edges(key, shot.camera, loop=True):
                self._graph.add(edge)
            correction = self._corrected(places)
        self._front = Front.of_shot(shot, self._c2w)
        return correction, loop.places[0].id if loop is not None else None

    def _corrected(self, places: list[Place]) -> dict[int, Pose] | None:
        """Bend the path into what the edges say. None when that changes next to nothing."""
        before = {place.id: place.c2w for place in places}
        after, _ = self._graph.optimised(before)
        moves = [rigid.inverse(before[key]) @ after[key] for key in before]
        turned = max(float(np.linalg.norm(rigid.rotation_vector(m[:3, :3]))) for m in moves)
        shifted = max(float(np.linalg.norm(m[:3, 3])) for m in moves)
        if turned < SHIFT[0] and shifted < SHIFT[1]:
            return None
        self._memory.move(self._stream, after)
        self._c2w = after[self._next - 1]
        return after


def _blank(features: Features) -> str:
    return f"only {len(features)} corners: the lens is covered, or nothing has texture"
