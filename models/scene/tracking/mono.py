"""The camera's path from pictures alone: points triangulated between keyframes, found again (PnP).

Lengths are in no unit: the first points lie at a median depth of ``start.UNIT``. What the camera
saw is a map of points and keyframes within hard limits (``landmarks``), adjusted around each new
keyframe (``growth``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking import growth
from retain.models.scene.tracking.base import Model, Pose, Tracked
from retain.models.scene.tracking.dense import HELD, Dense, Densifier, Known
from retain.models.scene.tracking.features import Features, extract
from retain.models.scene.tracking.landmarks import (
    CORNER_BYTES,
    POINT_BYTES,
    POINTS,
    RECENT,
    VIEWS,
    Landmarks,
    Rows,
    View,
    sigma,
    view_of,
)
from retain.models.scene.tracking.matching import match
from retain.models.scene.tracking.pnp import Fit, Seen, refine, solve
from retain.models.scene.tracking.start import LEAST, begin
from retain.pipeline.errors import StateError

FEWEST = 20
"""Inliers of a pose that is believed."""
FEW = 50
"""Corners of a picture that shows something."""
UNSURE = np.deg2rad(2.0), 0.05
"""Standard deviations (radians; share of the depth) of a pose that is not believed."""
WIDE, NARROW = 1 / 14, 1 / 60
"""Of the picture's width: how far from where it should be a point is looked for, at first and
with a pose at hand."""
NEAR_VIEWS, NEAR_POINTS = 12, 1500
"""Keyframes and points that a shot is compared with."""
TRIED = 8
"""Keyframes a lost shot is compared with; older ones take turns."""
SHIFT, TURN = 0.08, np.deg2rad(12.0)
"""Of the depth, and radians: farther from the newest keyframe a shot becomes one."""
SCARCE = 200
"""With fewer points found, a third of that is enough."""
KEPT = 0.4
"""Share of the newest keyframe's points that must be found, or a new one is due."""


class MonoTracker:
    """The world is the first view of the pair that the map began with. That view was over before
    the map was there, so it is no keyframe; the second is keyframe 0."""

    def __init__(self, corners: int = 1000) -> None:
        self._corners = corners
        self._marks = Landmarks()
        self._densifier = Densifier()
        self._first: Features | None = None
        """While starting: the view that others are paired with."""
        self._c2w: Pose = np.eye(4)
        self._velocity = np.zeros(6)
        """Twist per second."""
        self._seconds = 0.0
        self._next = self._turn = 0
        """Id of the keyframe to come; whose turn it is to be compared with a lost shot."""
        self._lost = False
        self._depth = 0.0
        """Median depth of the points before the newest keyframe."""
        self._rows: Rows = np.zeros(0, np.int64)
        """Points found in the last shot that was tracked."""

    def track(self, shot: Shot, model: Model | None = None) -> Tracked:
        features = extract(shot.image, shot.camera, None, self._corners)
        if not self._next:
            return self._start(shot, features)
        found = self._locate(shot, features)
        if isinstance(found, str):
            self._lost, self._velocity = True, np.zeros(6)
            return Tracked("lost", found, self._c2w.copy(), 0, False)
        fit, rows, corners = found
        self._step(shot, fit.c2w)
        recovered, self._lost = self._lost, False
        self._rows = rows
        due = self._due(len(rows))
        if due:
            self._keep(shot.camera, features, rows, corners)
            self._densifier.keep(self._next - 1, shot)
        return Tracked(
            "recovered" if recovered else "tracked", "", self._c2w.copy(), len(rows), due
        )

    def dense(self) -> list[Dense]:
        """Keyframes whose depth has become known since the last call; to be asked after each shot.
        A keyframe whose neighbours show too little of the same from elsewhere gets none."""
        marks = self._marks
        known = {
            v.id: Known(v.c2w, marks.xyz[v.point[v.point >= 0]]) for v in marks.views[-RECENT:]
        }
        return self._densifier.ready(known)

    def reset(self) -> None:
        self.__init__(self._corners)  # type: ignore[misc]

    def _start(self, shot: Shot, features: Features) -> Tracked:
        why = f"{len(features)} corners: lens covered, or no texture"
        if len(features) >= 2 * LEAST:
            begun = self._begin(shot, features)
            if begun is None:
                return Tracked("tracked", "", self._c2w.copy(), len(self._marks), True)
            why = begun
        return Tracked("starting", why, self._c2w.copy(), 0, False)

    def _begin(self, shot: Shot, features: Features) -> str | None:
        """Make the map of the first view and this one; or why there is none yet."""
        if self._first is None:
            self._first = features
            return "first view"
        first = self._first
        pairs = match(first.descriptors, features.descriptors)
        if len(pairs) < 2 * LEAST:
            self._first = features
            return f"{len(pairs)} corners in common with the first view: begun anew"
        a, b = pairs.T
        view, other = view_of(-1, np.eye(4), first), view_of(0, np.eye(4), features)
        begun = begin(
            shot.camera, view.uv[a].astype(np.float64), other.uv[b].astype(np.float64),
            view.sigma[a],
        )  # fmt: skip
        if isinstance(begun, str):
            return begun
        other.c2w = begun.c2w
        a, b = a[begun.rows], b[begun.rows]
        rows = self._marks.add(begun.points, features.descriptors[b], 0)
        view.point[a] = other.point[b] = rows
        self._marks.views = [view, other]
        growth.grow(self._marks, shot.camera)
        self._densifier.keep(0, shot)
        self._first, self._next = None, 1
        self._c2w, self._seconds = other.c2w.copy(), shot.seconds
        self._rows = other.point[other.point >= 0]
        self._depth = growth.depths(self._marks, other)[1]
        return None

    def _locate(self, shot: Shot, features: Features) -> tuple[Fit, Rows, Rows] | str:
        """The pose of ``shot``, the points found and the corners that show them; or why not."""
        if len(features) < FEW:
            return f"{len(features)} corners: lens covered, or no texture"
        near = self._marks.around(self._rows, NEAR_VIEWS)[:NEAR_POINTS]
        if not self._lost:
            guess = self._predicted(shot.seconds)
            for reach in (WIDE, 3 * WIDE):
                fit = self._fit(shot.camera, features, near, guess, reach * shot.camera.width)
                if fit is not None:
                    return self._again(shot.camera, features, near, fit)
        fit = self._anywhere(shot.camera, features)
        if fit is None:
            return "no keyframe is recognised"
        near = self._marks.around(self._rows, NEAR_VIEWS)[:NEAR_POINTS]
        return self._again(shot.camera, features, near, fit)

    def _fit(
        self, camera: Camera, features: Features, rows: Rows, guess: Pose, reach: float
    ) -> Fit | None:
        pairs = self._pairs(camera, features, rows, guess, reach, 0.8)
        fit = solve(self._seen(features, rows[pairs[:, 0]], pairs[:, 1]), camera, FEWEST)
        return fit if fit is not None and self._believed(fit) else None

    def _again(
        self, camera: Camera, features: Features, rows: Rows, fit: Fit
    ) -> tuple[Fit, Rows, Rows] | str:
        """With a pose at hand points are found that alone would be doubtful."""
        pairs = self._pairs(camera, features, rows, fit.c2w, NARROW * camera.width, 0.95)
        found, corners = rows[pairs[:, 0]], pairs[:, 1]
        better = refine(self._seen(features, found, corners), camera, fit.c2w, FEWEST)
        if better is None or not self._believed(better):
            return "few points are where they should be"
        self._count(camera, rows, found[better.inliers], better.c2w)
        return better, found[better.inliers], corners[better.inliers]

    def _pairs(
        self, camera: Camera, features: Features, rows: Rows, c2w: Pose, reach: float, ratio: float
    ) -> Rows:
        at = camera.project(rigid.transform(rigid.inverse(c2w), self._marks.xyz[rows]))
        return match(
            self._marks.descriptors[rows], features.descriptors,
            at=at.astype(np.float32), uv=features.uv, radius=reach, ratio=ratio,
        )  # fmt: skip

    def _seen(self, features: Features, rows: Rows, corners: Rows) -> Seen:
        return Seen(
            self._marks.xyz[rows], features.uv[corners].astype(np.float64),
            np.full(len(rows), np.nan), sigma(features.octave[corners]),
        )  # fmt: skip

    def _believed(self, fit: Fit) -> bool:
        turn, shift = fit.spread
        return turn < UNSURE[0] and shift < UNSURE[1] * self._depth

    def _count(self, camera: Camera, rows: Rows, found: Rows, c2w: Pose) -> None:
        """Note which points should have been seen, and which were."""
        at = camera.project(rigid.transform(rigid.inverse(c2w), self._marks.xyz[rows]))
        with np.errstate(invalid="ignore"):
            inside = ((at >= 0) & (at < (camera.width, camera.height))).all(axis=1)
        self._marks.shown[rows[inside]] += 1
        self._marks.found[found] += 1

    def _anywhere(self, camera: Camera, features: Features) -> Fit | None:
        """Relocalisation: the keyframe with most matches; half of those tried are the newest, the
        others take turns from shot to shot."""
        views = self._marks.views
        newest = views[-1 : -TRIED // 2 - 1 : -1]
        older = views[: -TRIED // 2] if len(views) > TRIED // 2 else []
        turns = [older[(self._turn + k) % len(older)] for k in range(min(len(older), TRIED // 2))]
        self._turn = (self._turn + len(turns)) % max(len(older), 1)
        best: tuple[Fit, View] | None = None
        for view in newest + turns:
            rows = np.flatnonzero(view.point >= 0)
            pairs = match(view.descriptors[rows], features.descriptors)
            seen = self._seen(features, view.point[rows[pairs[:, 0]]], pairs[:, 1])
            fit = solve(seen, camera, FEWEST)
            if fit is None or not self._believed(fit):
                continue
            if best is None or fit.inliers.sum() > best[0].inliers.sum():
                best = fit, view
        if best is None:
            return None
        self._rows = best[1].point[best[1].point >= 0]
        return best[0]

    def _predicted(self, seconds: float) -> Pose:
        return self._c2w @ rigid.exp(self._velocity * min(seconds - self._seconds, 0.2))

    def _step(self, shot: Shot, c2w: Pose) -> None:
        dt = shot.seconds - self._seconds
        moved = rigid.log(rigid.inverse(self._c2w) @ c2w)
        self._velocity = moved / dt if 0 < dt < 0.5 and not self._lost else np.zeros(6)
        self._c2w, self._seconds = c2w, shot.seconds

    def _due(self, inliers: int) -> bool:
        newest = self._marks.views[-1]
        apart = rigid.inverse(newest.c2w) @ self._c2w
        shift = float(np.linalg.norm(apart[:3, 3]))
        turn = float(np.linalg.norm(rigid.rotation_vector(apart[:3, :3])))
        known = int((newest.point >= 0).sum())
        scarce = inliers < SCARCE and (shift > SHIFT / 3 * self._depth or turn > TURN / 3)
        return scarce or inliers < KEPT * known or shift > SHIFT * self._depth or turn > TURN

    def _keep(self, camera: Camera, features: Features, rows: Rows, corners: Rows) -> None:
        """A keyframe of this shot: new points, and everything around it adjusted."""
        marks, view = self._marks, view_of(self._next, self._c2w, features)
        view.point[corners] = rows
        marks.descriptors[rows] = features.descriptors[corners]
        marks.views.append(view)
        growth.grow(marks, camera)
        growth.settle(marks, camera)
        marks.cull(self._next)
        marks.trim()
        self._next += 1
        self._c2w = view.c2w.copy()
        self._rows = view.point[view.point >= 0]
        self._depth = growth.depths(marks, view)[1]

    @property
    def max_bytes(self) -> int:
        """That ``state`` never exceeds, for pictures of up to 640 x 480."""
        corners = (VIEWS + 2) * self._corners * CORNER_BYTES
        return corners + POINTS * POINT_BYTES + VIEWS * 256 + HELD * 640 * 480 * 4 + 4096

    def state(self) -> dict[str, np.ndarray]:
        first = self._first
        none = view_of(-1, np.eye(4), first) if first is not None else None
        return {
            "c2w": self._c2w.copy(),
            "velocity": self._velocity.copy(),
            "rows": self._rows.copy(),
            "numbers": np.array(
                [self._seconds, self._depth, self._next, self._turn, self._lost], np.float64
            ),
            "first_uv": np.zeros((0, 2), np.float32) if none is None else none.uv.copy(),
            "first_octave": np.zeros(0, np.uint8) if none is None else none.octave.copy(),
            "first_descriptors": (
                np.zeros((0, 32), np.uint8) if none is None else none.descriptors.copy()
            ),
            **self._marks.state(),
            **self._densifier.state(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        try:
            marks = Landmarks()
            marks.restore(state)
            densifier = Densifier()
            densifier.restore(state)
            uv, numbers, c2w = state["first_uv"], state["numbers"], state["c2w"]
            first = Features(
                uv.copy(), state["first_octave"].copy(), state["first_descriptors"].copy(),
                np.full((len(uv), 3), np.nan, np.float32),
            )  # fmt: skip
            velocity, rows = state["velocity"].copy(), state["rows"].copy()
        except KeyError as error:
            raise StateError(f"The tracker's state has no array {error}.") from None
        if not rigid.is_rigid(c2w) or velocity.shape != (6,) or numbers.shape != (5,):
            raise StateError("The tracker's state is not of a monocular tracker.")
        self._marks, self._densifier = marks, densifier
        self._first = first if len(uv) else None
        self._c2w, self._velocity, self._rows = c2w.copy(), velocity, rows
        self._seconds, self._depth = float(numbers[0]), float(numbers[1])
        self._next, self._turn, self._lost = int(numbers[2]), int(numbers[3]), bool(numbers[4])
