"""The camera's path from pictures alone: points triangulated between keyframes, found again (PnP).

Lengths are in no unit: the first points lie at a median depth of ``start.UNIT``. What the camera
saw is a map of points and keyframes within hard limits (``landmarks``), adjusted around each new
keyframe (``growth``).
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking import closure, growth
from retain.models.scene.tracking.base import Model, Pose, Tracked
from retain.models.scene.tracking.dense import HELD, Dense, Densifier, Known
from retain.models.scene.tracking.features import extract
from retain.models.scene.tracking.landmarks import (
    CORNER_BYTES,
    POINT_BYTES,
    POINTS,
    RECENT,
    VIEWS,
    Landmarks,
    Rows,
    View,
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
OLD_VIEWS, OLD_POINTS = 4, 500
"""And those of long ago, should the camera be back."""
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

    unit = 1.0

    def __init__(self, corners: int = 1000) -> None:
        self._corners = corners
        self._marks = Landmarks()
        """While starting it has one view, that others are paired with."""
        self._densifier = Densifier()
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
        grey = cv2.cvtColor(shot.image, cv2.COLOR_RGB2GRAY)
        view = view_of(self._next, self._c2w, features, grey)
        if not self._next:
            return self._start(shot, view)
        found = self._locate(shot, view)
        if isinstance(found, str):
            self._lost, self._velocity = True, np.zeros(6)
            return Tracked("lost", found, self._c2w.copy(), 0, False)
        self._step(shot, found.c2w)
        recovered, self._lost = self._lost, False
        self._rows = view.point[view.point >= 0]
        inliers = len(self._rows)
        due = self._due(inliers)
        if due:
            self._keep(shot, view)
        return Tracked("recovered" if recovered else "tracked", "", self._c2w.copy(), inliers, due)

    def skip(self) -> None:
        """No depth is made of the newest keyframe."""
        self._densifier.skip()

    def dense(self, *, last: bool = False) -> list[Dense]:
        """Keyframes whose depth has become known since the last call; to be asked after each shot.
        A keyframe whose neighbours show too little of the same from elsewhere gets none."""
        marks = self._marks
        known = {
            v.id: Known(v.c2w, marks.xyz[v.point[v.point >= 0]]) for v in marks.views[-RECENT:]
        }
        return self._densifier.ready(known, last=last)

    def reset(self) -> None:
        self.__init__(self._corners)  # type: ignore[misc]

    def _start(self, shot: Shot, view: View) -> Tracked:
        why = f"{len(view.uv)} corners: lens covered, or no texture"
        if len(view.uv) >= 2 * LEAST:
            begun = self._begin(shot, view)
            if begun is None:
                return Tracked("tracked", "", self._c2w.copy(), len(self._marks), True)
            why = begun
        return Tracked("starting", why, self._c2w.copy(), 0, False)

    def _begin(self, shot: Shot, view: View) -> str | None:
        """Make the map of the first view and this one; or why there is none yet."""
        if not self._marks.views:
            view.id, self._marks.views = -1, [view]
            return "first view"
        first = self._marks.views[0]
        pairs = match(first.descriptors, view.descriptors)
        if len(pairs) < 2 * LEAST:
            view.id, self._marks.views = -1, [view]
            return f"{len(pairs)} corners in common with the first view: begun anew"
        a, b = pairs.T
        view.sharpen(b, first, a)
        begun = begin(
            shot.camera, first.uv[a].astype(np.float64), view.uv[b].astype(np.float64),
            view.sigma[b],
        )  # fmt: skip
        if isinstance(begun, str):
            return begun
        view.c2w = begun.c2w
        a, b = a[begun.rows], b[begun.rows]
        first.point[a] = view.point[b] = self._marks.add(begun.points, view.descriptors[b], 0)
        self._marks.views.append(view)
        growth.grow(self._marks, shot.camera)
        self._keep_going(shot, view)
        self._seconds = shot.seconds
        return None

    def _locate(self, shot: Shot, view: View) -> Fit | str:
        """The pose of ``shot``, and in ``view`` the points found; or why there is none."""
        if len(view.uv) < FEW:
            return f"{len(view.uv)} corners: lens covered, or no texture"
        if not self._lost:
            guess = self._predicted(shot.seconds)
            near = self._near(guess)
            for reach in (WIDE, 3 * WIDE):
                fit = self._fit(shot.camera, view, near, guess, reach * shot.camera.width)
                if fit is not None:
                    return self._again(shot.camera, view, near, fit)
        fit = self._anywhere(shot.camera, view)
        if fit is None:
            return "no keyframe is recognised"
        return self._again(shot.camera, view, self._near(fit.c2w), fit)

    def _near(self, c2w: Pose) -> Rows:
        """The points that a camera at ``c2w`` may see."""
        marks = self._marks
        fresh = marks.around(self._rows, NEAR_VIEWS)[-NEAR_POINTS:]
        old = marks.revisited(c2w, self._depth, OLD_VIEWS)
        old = np.setdiff1d(old[old >= 0], fresh)[:OLD_POINTS]
        return np.union1d(fresh, old)

    def _fit(self, camera: Camera, view: View, rows: Rows, guess: Pose, reach: float) -> Fit | None:
        pairs = self._pairs(camera, view, rows, guess, reach, 0.8)
        fit = solve(self._seen(view, rows[pairs[:, 0]], pairs[:, 1]), camera, FEWEST)
        return fit if fit is not None and self._believed(fit) else None

    def _again(self, camera: Camera, view: View, rows: Rows, fit: Fit) -> Fit | str:
        """With a pose at hand points are found that alone would be doubtful, and sharply."""
        pairs = self._pairs(camera, view, rows, fit.c2w, NARROW * camera.width, 0.95)
        found, corners = rows[pairs[:, 0]], pairs[:, 1]
        newest = self._marks.views[-1]
        theirs = newest.corners(found, len(self._marks))
        view.sharpen(corners[theirs >= 0], newest, theirs[theirs >= 0])
        better = refine(self._seen(view, found, corners), camera, fit.c2w, FEWEST)
        if better is None or not self._believed(better):
            return "few points are where they should be"
        self._count(camera, rows, found[better.inliers], better.c2w)
        view.point[corners[better.inliers]] = found[better.inliers]
        return better

    def _pairs(
        self, camera: Camera, view: View, rows: Rows, c2w: Pose, reach: float, ratio: float
    ) -> Rows:
        at = camera.project(rigid.transform(rigid.inverse(c2w), self._marks.xyz[rows]))
        return match(
            self._marks.descriptors[rows], view.descriptors,
            at=at.astype(np.float32), uv=view.uv, radius=reach, ratio=ratio,
        )  # fmt: skip

    def _seen(self, view: View, rows: Rows, corners: Rows) -> Seen:
        return Seen(
            self._marks.xyz[rows], view.uv[corners].astype(np.float64),
            np.full(len(rows), np.nan), view.sigma[corners],
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

    def _anywhere(self, camera: Camera, shown: View) -> Fit | None:
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
            pairs = match(view.descriptors[rows], shown.descriptors)
            seen = self._seen(shown, view.point[rows[pairs[:, 0]]], pairs[:, 1])
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

    def _keep(self, shot: Shot, view: View) -> int | None:
        """A keyframe of this shot: new points, and everything around it adjusted. The id of the
        old keyframe with which it closed a loop."""
        marks = self._marks
        view.c2w = self._c2w.copy()
        corners = np.flatnonzero(view.point >= 0)
        marks.descriptors[view.point[corners]] = view.descriptors[corners]
        marks.views.append(view)
        growth.grow(marks, shot.camera)
        growth.settle(marks, shot.camera)
        marks.cull(self._next)
        marks.trim()
        loop = closure.find(marks, shot.camera)
        if loop is not None:
            self._velocity[3:] *= closure.close(marks, loop, self._depth)
        self._keep_going(shot, view)
        return None if loop is None else loop.old

    def _keep_going(self, shot: Shot, view: View) -> None:
        """From the keyframe ``view``."""
        self._next += 1
        self._c2w = view.c2w.copy()
        self._rows = view.point[view.point >= 0]
        self._depth = growth.depths(self._marks, view)[1]
        self._densifier.keep(view.id, shot)

    @property
    def max_bytes(self) -> int:
        """That ``state`` never exceeds, for pictures of up to 640 x 480."""
        corners = (VIEWS + 2) * self._corners * CORNER_BYTES
        return corners + POINTS * POINT_BYTES + VIEWS * 256 + (HELD * 4 + RECENT) * 640 * 480 + 4096

    def state(self) -> dict[str, np.ndarray]:
        numbers = (self._seconds, self._depth, self._next, self._turn, self._lost)
        return {
            "c2w": self._c2w.copy(),
            "velocity": self._velocity.copy(),
            "rows": self._rows.copy(),
            "numbers": np.array(numbers, np.float64),
            **self._marks.state(),
            **self._densifier.state(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        marks, densifier = Landmarks(), Densifier()
        try:
            marks.restore(state)
            densifier.restore(state)
            numbers, c2w = state["numbers"], state["c2w"]
            velocity, rows = state["velocity"].copy(), state["rows"].copy()
        except KeyError as error:
            raise StateError(f"The tracker's state has no array {error}.") from None
        if not rigid.is_rigid(c2w) or velocity.shape != (6,) or numbers.shape != (5,):
            raise StateError("The tracker's state is not of a monocular tracker.")
        self._marks, self._densifier = marks, densifier
        self._c2w, self._velocity, self._rows = c2w.copy(), velocity, rows
        self._seconds, self._depth = float(numbers[0]), float(numbers[1])
        self._next, self._turn, self._lost = int(numbers[2]), int(numbers[3]), bool(numbers[4])
