"""The camera's way as the page and the viewer draw it, beside the given one where that is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.apps.reconstruct.record import Thinned
from retain.datasets.scene.trajectory import align
from retain.kernels.geometry import rigid
from retain.pipeline.results import KNOWN, Pose

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Place:
    own: Points
    given: Points | None


class Course:
    """Places of the frames whose pose is known, as it was known then; bounded.

    The given path is moved onto the first camera; for a map without depth, whose scale is its own,
    onto the whole path by a similarity.
    """

    def __init__(self, room: int = 1000) -> None:
        self._places = Thinned(room)
        self._down = np.zeros(3)
        self._first: Points | None = None
        self._moves: Points | None = None
        """4 x 4, the given world into the map's; None while no given pose is known."""
        self.keyframes = Thinned(256)
        """c2w [4, 4] of keyframes."""
        self.last: Points | None = None
        """c2w [4, 4] of the newest frame whose place is known."""
        self.scaled = False
        """The scale is the map's own: distances are no metres."""

    def add(self, pose: Pose) -> float:
        """Take a frame's pose in; how far it is from the given one now, NaN where unknown."""
        if pose.state not in KNOWN:
            return math.nan
        c2w, truth = pose.c2w, pose.truth
        self.last = c2w
        self._first = c2w if self._first is None else self._first
        self._down += c2w[:3, 1]
        if pose.keyframe:
            self.keyframes.add(c2w)
        given = None if truth is None else truth[:3, 3]
        self._places.add(_Place(c2w[:3, 3], given))
        if truth is None or given is None:
            return math.nan
        self.scaled = self.scaled or "depth" in pose.parts_ms  # depth that the tracker had to make
        self._moves = self._fit() if self.scaled else self._moves
        if self._moves is None:
            self._moves = c2w @ rigid.inverse(truth)
        return float(np.linalg.norm(rigid.transform(self._moves, given) - c2w[:3, 3]))

    def _fit(self) -> Points | None:
        """The similarity of the given path onto the estimated one; None of fewer than 3 places."""
        both = [place for place in self._places.items if place.given is not None]
        given, own = (np.array([getattr(p, side) for p in both]) for side in ("given", "own"))
        if len(both) < 3 or np.ptp(given, axis=0).max() < 1e-6:
            return self._moves
        fit = align(given, own, scale=True)
        moves = np.eye(4)
        moves[:3, :3], moves[:3, 3] = fit.scale * fit.rotation, fit.translation
        return moves

    @property
    def up(self) -> Points:
        """[3], unit length: away from the pictures' lower edges, on the whole."""
        length = float(np.linalg.norm(self._down))
        return -self._down / length if length > 1e-9 else np.array([0.0, -1.0, 0.0])

    def own(self) -> Points:
        """[N, 3]."""
        return np.array([place.own for place in self._places.items]).reshape(-1, 3)

    def given(self) -> Points:
        """[M, 3], in the map's coordinates; none before there is something to lay it on."""
        known = [place.given for place in self._places.items if place.given is not None]
        if self._moves is None or not known:
            return np.zeros((0, 3))
        return rigid.transform(self._moves, np.array(known))

    def plan(self, points: Points) -> Points:
        """[N, 2] of [N, 3], seen from above: to the right, and ahead, of the first camera."""
        if self._first is None:
            return np.zeros((0, 2))
        up = self.up
        ahead = self._first[:3, 2] - up * float(up @ self._first[:3, 2])
        if np.linalg.norm(ahead) < 1e-6:  # it looked straight down
            ahead = -self._first[:3, 1] + up * float(up @ self._first[:3, 1])
        ahead = ahead / np.linalg.norm(ahead)
        return points @ np.stack([np.cross(ahead, up), ahead], axis=1)
