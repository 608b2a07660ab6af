"""Poses that come with pictures, but no depth: the path is taken as given, the depth of keyframes
is worked out from their neighbours.

What both pictures of a pair show is triangulated with the poses as they are. These points say how
far things are, in the poses' own unit, and whether poses and pictures belong together at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking import growth
from retain.models.scene.tracking.base import Model, Pose, Tracked
from retain.models.scene.tracking.bundle import GATE
from retain.models.scene.tracking.dense import HELD, Dense, Densifier, Known
from retain.models.scene.tracking.features import extract
from retain.models.scene.tracking.landmarks import (
    CORNER_BYTES,
    POINT_BYTES,
    POINTS,
    RECENT,
    Landmarks,
    View,
    view_of,
)
from retain.models.scene.tracking.matching import match
from retain.models.scene.tracking.start import LEAST, NARROW, PARALLAX, UNIT, triangulate, visible
from retain.pipeline.errors import StateError
from retain.pipeline.results import Tracking

FIT = 0.3
"""Share of the matched corners that given poses must explain."""
MOVED = 0.01
"""Of the picture's width: so far corners must have moved before poses are judged by them."""
SHIFT, TURN = 0.08, np.deg2rad(12.0)
"""Of the depth, and radians: farther from the newest keyframe a shot becomes one."""
FEW = 20
"""Points found again, under which a keyframe's pose is doubted."""
REACH = 4.0
"""Pixels from where the pose puts it that a point is looked for."""
VIEWS = 2 * RECENT
"""Keyframes that are held."""
_REACH = np.sqrt(GATE)


class PosedTracker:
    """Keyframe 0 is the second view of the pair that the map began with; see the module's text.

    A shot without a usable pose is lost. Poses that the pictures contradict begin no map; later
    ones are taken, but said, and give no depth.
    """

    def __init__(self, corners: int = 1000) -> None:
        self._corners = corners
        self._marks = Landmarks()
        """While starting it has one view, that others are paired with."""
        self._densifier = Densifier()
        self._c2w: Pose = np.eye(4)
        self._next = 0
        """Id of the keyframe to come."""
        self._lost = self._spared = False
        self._depths = (0.0, 0.0, 0.0)
        """Of the points before the newest keyframe: 5th, 50th and 95th percentile."""
        self.unit = 1.0
        """Length, in that of the poses, that counts as a metre: the first points lie at a median
        depth of ``start.UNIT`` of them."""

    def spare(self) -> None:
        """The next shot is not to become a keyframe."""
        self._spared = True

    def track(self, shot: Shot, model: Model | None = None) -> Tracked:
        spared, self._spared = self._spared, False
        if shot.c2w is None or not rigid.is_rigid(shot.c2w):
            why = "no pose given" if shot.c2w is None else "the given pose is no rigid motion"
            self._lost = bool(self._next)
            return Tracked("lost" if self._next else "starting", why, self._c2w.copy(), 0, False)
        self._c2w = shot.c2w.astype(np.float64)
        if not self._next:
            why = self._begin(shot)
            state: Tracking = "starting" if why else "tracked"
            return Tracked(state, why, self._c2w.copy(), len(self._marks), not why)
        state, self._lost = "recovered" if self._lost else "tracked", False
        if spared or not self._due():
            return Tracked(state, "", self._c2w.copy(), 0, False)
        found = self._keep(shot)
        why = "" if found >= FEW else f"{found} points are where the given pose puts them"
        return Tracked(state, why, self._c2w.copy(), found, True)

    def dense(self, *, last: bool = False) -> list[Dense]:
        """Keyframes whose depth has become known since the last call; to be asked after each
        shot."""
        marks = self._marks
        known = {
            v.id: Known(v.c2w, marks.xyz[v.point[v.point >= 0]]) for v in marks.views[-RECENT:]
        }
        return self._densifier.ready(known, last=last)

    def reset(self) -> None:
        self.__init__(self._corners)  # type: ignore[misc]

    def _begin(self, shot: Shot) -> str:
        """Make the points of the first view and this one; or why there are none yet."""
        view = self._view(shot)
        if len(view.uv) < 2 * LEAST:
            return f"{len(view.uv)} corners: lens covered, or no texture"
        if not self._marks.views:
            self._first(view)
            return "first view"
        first, camera = self._marks.views[0], shot.camera
        pairs = match(first.descriptors, view.descriptors)
        if len(pairs) < 2 * LEAST:
            self._first(view)
            return f"{len(pairs)} corners in common with the first view: begun anew"
        a, b = pairs.T
        view.sharpen(b, first, a)
        p, q = first.uv[a].astype(np.float64), view.uv[b].astype(np.float64)
        if np.median(np.linalg.norm(q - p, axis=1)) < MOVED * camera.width:
            return "waiting for the camera to move"
        if not np.linalg.norm(first.c2w[:3, 3] - view.c2w[:3, 3]) > 0:
            return "the given poses stay in one place"
        points, angle = triangulate(camera, first.c2w, view.c2w, p, q)
        good = visible(camera, first.c2w, points, p, _REACH * first.sigma[a])
        good &= visible(camera, view.c2w, points, q, _REACH * view.sigma[b])
        if good.mean() < FIT:
            self._first(view)
            return f"the given poses explain {good.sum()} of {len(good)} corners: begun anew"
        if good.sum() < LEAST or np.median(angle[good]) < PARALLAX:
            return "too little parallax yet: move sideways"
        rows = np.flatnonzero(good & (angle > NARROW))
        if len(rows) < LEAST:
            return f"{len(rows)} corners with parallax"
        made = self._marks.add(points[rows], view.descriptors[b[rows]], 0)
        first.point[a[rows]] = view.point[b[rows]] = made
        self._depths = growth.depths(self._marks, view)
        self.unit = self._depths[1] / UNIT
        self._grow(shot, view)
        return ""

    def _first(self, view: View) -> None:
        view.id, self._marks.views = -1, [view]

    def _view(self, shot: Shot) -> View:
        features = extract(shot.image, shot.camera, None, self._corners)
        grey = cv2.cvtColor(shot.image, cv2.COLOR_RGB2GRAY)
        return view_of(self._next, self._c2w, features, grey)

    def _due(self) -> bool:
        apart = rigid.inverse(self._marks.views[-1].c2w) @ self._c2w
        turn = float(np.linalg.norm(rigid.rotation_vector(apart[:3, :3])))
        return turn > TURN or float(np.linalg.norm(apart[:3, 3])) > SHIFT * self._depths[1]

    def _keep(self, shot: Shot) -> int:
        """A keyframe of this shot; how many points were found again in it."""
        view = self._view(shot)
        found = self._find(view, shot.camera)
        if found >= FEW:
            self._depths = growth.depths(self._marks, view)
        self._grow(shot, view)
        return found

    def _find(self, view: View, camera: Camera) -> int:
        """The newest views' points among the corners of ``view``, where its pose puts them."""
        marks, newest = self._marks, self._marks.views[-1]
        rows = np.unique(np.concatenate([v.point for v in marks.views[-RECENT:]]))
        rows = rows[rows >= 0]
        at = camera.project(rigid.transform(rigid.inverse(view.c2w), marks.xyz[rows]))
        pairs = match(
            marks.descriptors[rows], view.descriptors,
            at=at.astype(np.float32), uv=view.uv, radius=REACH, ratio=0.95,
        )  # fmt: skip
        rows, corners = rows[pairs[:, 0]], pairs[:, 1]
        theirs = newest.corners(rows, len(marks))
        view.sharpen(corners[theirs >= 0], newest, theirs[theirs >= 0])
        uv, reach = view.uv[corners].astype(np.float64), _REACH * view.sigma[corners]
        good = visible(camera, view.c2w, marks.xyz[rows], uv, reach)
        view.point[corners[good]] = rows[good]
        marks.descriptors[rows[good]] = view.descriptors[corners[good]]
        return int(good.sum())

    def _grow(self, shot: Shot, view: View) -> None:
        """The keyframe ``view`` and the points that it adds."""
        marks = self._marks
        marks.views.append(view)
        growth.grow(marks, shot.camera, self._depths)
        del marks.views[:-VIEWS]
        marks.trim()
        growth.place(marks, shot.camera)
        self._next += 1
        self._densifier.keep(view.id, shot)

    @property
    def max_bytes(self) -> int:
        """That ``state`` never exceeds, for pictures of up to 640 x 480."""
        corners = (VIEWS + 1) * self._corners * CORNER_BYTES
        return corners + POINTS * POINT_BYTES + VIEWS * 256 + (HELD * 4 + RECENT) * 640 * 480 + 4096

    def state(self) -> dict[str, np.ndarray]:
        return {
            "c2w": self._c2w.copy(),
            "numbers": np.array([*self._depths, self.unit, self._next, self._lost], np.float64),
            **self._marks.state(),
            **self._densifier.state(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        marks, densifier = Landmarks(), Densifier()
        try:
            marks.restore(state)
            densifier.restore(state)
            numbers, c2w = state["numbers"], state["c2w"]
        except KeyError as error:
            raise StateError(f"The tracker's state has no array {error}.") from None
        if not rigid.is_rigid(c2w) or numbers.shape != (6,) or not np.isfinite(numbers).all():
            raise StateError("The tracker's state is not of given poses without depth.")
        self._marks, self._densifier, self._c2w = marks, densifier, c2w.copy()
        low, middle, high, self.unit = map(float, numbers[:4])
        self._depths, self._next = (low, middle, high), int(numbers[4])
        self._lost = bool(numbers[5])
