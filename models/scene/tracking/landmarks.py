"""The map of a tracker without depth: points in the world, and the keyframes that see them.

Both have a hard limit. A keyframe that is old keeps only those corners that are points. Where
there are too many keyframes, the one goes whose points the others see best; where there are too
many points, those seen least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.models.scene.tracking.base import Pose
from retain.models.scene.tracking.features import Features
from retain.models.scene.tracking.sharpen import sharpened
from retain.pipeline.errors import StateError

VIEWS, POINTS = 96, 8000
"""Limits."""
CORNER_BYTES, POINT_BYTES = 8 + 1 + 8 + 32 + 8, 24 + 32 + 24 + 8
"""In a state."""
RECENT = 7
"""Newest keyframes that are never dropped, and keep all their corners."""
LEVEL, SIGMA, SHARP = 1.2, 0.7, 0.35
"""How much coarser each next level of the pyramid is; standard deviations in pixels of a corner of
the finest level, and of one that was sharpened."""
_PROBATION = 3
"""Keyframes in which a new point has to be found again."""
_ALIKE = 3
"""Views that see a point well enough for one of them to be dropped."""

_CORNERS = ("uv", "octave", "sigma", "descriptors", "point")

Rows = NDArray[np.int64]


@dataclass(slots=True)
class View:
    """A keyframe, or a shot that may become one. ``sigma`` float64 [N], pixels: the corners'
    standard deviation. ``point`` int64 [N]: the row of the point that each corner shows, -1 for
    none. ``grey`` uint8 [H, W], of recent ones only, else empty.
    ``id`` counts keyframes; the first view of a map, which was never announced as one, has -1."""

    id: int
    c2w: Pose
    uv: NDArray[np.float32]
    octave: NDArray[np.uint8]
    sigma: NDArray[np.float64]
    descriptors: NDArray[np.uint8]
    point: Rows
    grey: NDArray[np.uint8]

    @property
    def size(self) -> NDArray[np.float64]:
        """Pixels of the picture per pixel of the level that each corner was found on."""
        return np.asarray(LEVEL ** self.octave.astype(np.float64))

    def sharpen(self, corners: Rows, other: View, theirs: Rows) -> None:
        """Move ``corners`` to what ``theirs`` of the view ``other`` show."""
        uv, good = sharpened(
            other.grey, self.grey, other.uv[theirs], self.uv[corners], self.size[corners]
        )
        self.uv[corners] = uv
        self.sigma[corners[good]] = SHARP

    def corners(self, rows: Rows, points: int) -> Rows:
        """The corner that shows each of the points ``rows``, -1 for none; of ``points`` in all."""
        found = np.full(points + 1, -1)
        found[self.point] = np.arange(len(self.point))
        found[-1] = -1
        return found[rows]

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop all corners but those of ``mask``."""
        self.uv, self.octave, self.sigma = self.uv[mask], self.octave[mask], self.sigma[mask]
        self.descriptors, self.point = self.descriptors[mask], self.point[mask]


def view_of(key: int, c2w: Pose, features: Features, grey: NDArray[np.uint8]) -> View:
    """A view none of whose corners are points yet."""
    octave = features.octave
    return View(
        key, c2w.copy(), features.uv.copy(), octave,
        SIGMA * LEVEL ** octave.astype(np.float64), np.asarray(features.descriptors, np.uint8),
        np.full(len(features), -1, np.int64), grey,
    )  # fmt: skip


class Landmarks:
    """Points are rows of ``xyz`` float64 [P, 3] and of ``descriptors`` uint8 [P, 32], that of the
    newest view. ``shown`` and ``found`` count shots in which a point should have been and was seen;
    ``born`` is the view that made it."""

    def __init__(self) -> None:
        self.views: list[View] = []
        self.xyz = np.zeros((0, 3))
        self.descriptors = np.zeros((0, 32), np.uint8)
        self.born, self.shown, self.found = (np.zeros(0, np.int64) for _ in range(3))

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.state().values())

    def add(self, xyz: NDArray[np.float64], descriptors: NDArray[np.uint8], born: int) -> Rows:
        """The rows of new points."""
        rows = np.arange(len(self.xyz), len(self.xyz) + len(xyz))
        self.xyz = np.concatenate([self.xyz, xyz])
        self.descriptors = np.concatenate([self.descriptors, descriptors])
        self.born = np.concatenate([self.born, np.full(len(xyz), born)])
        ones = np.ones(len(xyz), np.int64)
        self.shown = np.concatenate([self.shown, ones])
        self.found = np.concatenate([self.found, ones])
        return rows

    def seen_by(self) -> Rows:
        """[P]: how many views see each point."""
        seen = np.concatenate([v.point[v.point >= 0] for v in self.views] or [self.born[:0]])
        return np.bincount(seen, minlength=len(self)).astype(np.int64)

    def sharing(self, rows: Rows) -> Rows:
        """For each view, how many of the points ``rows`` it sees."""
        wanted = np.zeros(len(self) + 1, bool)
        wanted[rows] = True
        return np.array([int(wanted[v.point].sum()) for v in self.views], np.int64)

    def around(self, rows: Rows, views: int) -> Rows:
        """The points seen by those ``views`` views that share most with ``rows``, and ``rows``."""
        shared = self.sharing(rows)
        order = np.argsort(-shared, kind="stable")[:views]
        near = [self.views[k].point for k in order if shared[k]]
        found = np.unique(np.concatenate([rows, *near]))
        return found[found >= 0]

    def revisited(self, c2w: Pose, depth: float, views: int) -> Rows:
        """The points of up to ``views`` old views taken from near ``c2w``: within half of
        ``depth``, a radian of turning counting as much as all of it."""
        old = self.views[:-RECENT]
        if not old:
            return self.born[:0]
        poses = np.array([v.c2w for v in old])
        away = np.linalg.norm(poses[:, :3, 3] - c2w[:3, 3], axis=1) / depth
        away += np.arccos(np.clip(poses[:, :3, 2] @ c2w[:3, 2], -1, 1))
        chosen = [old[k].point for k in np.argsort(away, kind="stable")[:views] if away[k] < 0.5]
        return np.unique(np.concatenate([self.born[:0], *chosen]))

    def cull(self, newest: int) -> None:
        """Drop points that failed their probation, or that fewer than two views see."""
        seen, age = self.seen_by(), newest - self.born
        rare = self.found < 0.25 * self.shown
        young = age <= _PROBATION
        self.drop((seen < 2) | (young & rare) | ((age >= 2) & young & (seen < 3)))

    def trim(self) -> None:
        """Back to the limits."""
        while len(self.views) > VIEWS:
            seen = self.seen_by()
            shares = [
                float((seen[v.point] > _ALIKE).mean()) if len(v.point) else 2.0
                for v in self.views[1:-RECENT]
            ]
            self.views.pop(1 + int(np.argmax(shares)))
        self.drop(self.seen_by() < 2)
        if len(self) > POINTS:
            order = np.lexsort((self.born, self.seen_by()))
            gone = np.zeros(len(self), bool)
            gone[order[: len(self) - POINTS]] = True
            self.drop(gone)
        for view in self.views[:-RECENT]:
            view.keep(view.point >= 0)
            view.grey = view.grey[:0]  # keeps its width

    def drop(self, gone: NDArray[np.bool_]) -> Rows:
        """Take out points; the new row of each old one, -1 for those gone, and -1 at the end (so
        that -1 stays -1)."""
        moved = np.full(len(self) + 1, -1)
        moved[:-1][~gone] = np.arange(int((~gone).sum()))
        if gone.any():
            for name in ("xyz", "descriptors", "born", "shown", "found"):
                setattr(self, name, getattr(self, name)[~gone])
            for view in self.views:
                view.point = moved[view.point]
        return moved

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        views = self.views
        return {
            "xyz": self.xyz.copy(),
            "point_descriptors": self.descriptors.copy(),
            "counts": np.stack([self.born, self.shown, self.found], axis=1),
            "view_ids": np.array([v.id for v in views], np.int64),
            "view_sizes": np.array([len(v.uv) for v in views], np.int64),
            "view_poses": np.array([v.c2w for v in views]).reshape(-1, 4, 4),
            "uv": _joined([v.uv for v in views], (0, 2), np.float32),
            "sigma": _joined([v.sigma for v in views], (0,), np.float64),
            "octave": _joined([v.octave for v in views], (0,), np.uint8),
            "descriptors": _joined([v.descriptors for v in views], (0, 32), np.uint8),
            "point": _joined([v.point for v in views], (0,), np.int64),
            "greys": _joined([v.grey for v in views], (0, 1), np.uint8),
            "heights": np.array([len(v.grey) for v in views], np.int64),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises StateError for arrays that do not fit together."""
        sizes, counts = state["view_sizes"], state["counts"]
        self.xyz = state["xyz"].copy()
        self.descriptors = state["point_descriptors"].copy()
        self.born, self.shown, self.found = (np.ascontiguousarray(c) for c in counts.T)
        ends = np.cumsum(sizes)
        total, points = int(sizes.sum()), state["point"]
        lengths = {len(state[k]) for k in _CORNERS}
        fits = lengths == {total} and len(self.xyz) == len(self.descriptors) == len(counts)
        if not fits or (len(points) and points.max() >= len(self.xyz)):
            raise StateError("The tracker's state holds corners and points that do not fit.")
        self.views = []
        for k, (end, size) in enumerate(zip(ends, sizes, strict=True)):
            part = slice(int(end - size), int(end))
            c2w = state["view_poses"][k].copy()
            if not rigid.is_rigid(c2w):
                raise StateError("The tracker's state holds a pose that is none.")
            arrays = (state[n][part].copy() for n in _CORNERS)
            below = int(state["heights"][: k + 1].sum())
            grey = state["greys"][below - int(state["heights"][k]) : below].copy()
            uv, octave, sigma, descriptors, point = arrays
            key = int(state["view_ids"][k])
            self.views.append(View(key, c2w, uv, octave, sigma, descriptors, point, grey))


def _joined(parts: list[np.ndarray], shape: tuple[int, ...], kind: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(shape, kind)
