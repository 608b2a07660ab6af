"""Loops of a map without depth: a new keyframe that shows a place of long ago, at another scale.

What has drifted since is bent into shape as similarities (Strasdat et al., RSS 2010): keyframes by
a graph of their poses, points with the keyframe that made them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking.base import Pose
from retain.models.scene.tracking.graph import Edge, PoseGraph
from retain.models.scene.tracking.landmarks import RECENT, Landmarks, View
from retain.models.scene.tracking.matching import match
from retain.models.scene.tracking.pnp import Seen, solve

LEAST = 40
"""Points of the old place that the new keyframe shows."""
BOTH = 15
"""Of those, that the new map has too: they tell the scale."""
SPREAD = 0.1
"""Median deviation of the scale, as a share of it, from which it is not believed."""
LONG_AGO = 2 * RECENT
"""Keyframes."""
SAMPLE, HINTS, TRIED = 60, 8, 3
"""Points by which an old keyframe is looked up, how many must be found, and how many keyframes are
then looked at closely."""
JOINED = 30
"""Points in common of two keyframes of different times that hold on to each other."""
_ODOMETRY, _LOOP = (0.01, 0.02), (0.005, 0.01)
"""Standard deviations: radians, share of the depth."""


@dataclass(frozen=True, slots=True)
class Loop:
    old: int
    new: int
    """Ids of keyframes."""
    motion: Pose
    """Coordinates of the new camera to those of the old one, in the old map's unit."""
    scale: float
    """What lengths of the new map are in the old one's unit."""


def find(marks: Landmarks, camera: Camera) -> Loop | None:
    """The loop that the newest view closes, unless it still sees the old points as such."""
    view = marks.views[-1]
    shared = marks.sharing(view.point[view.point >= 0])
    old = [
        v for v, n in zip(marks.views[:-LONG_AGO], shared, strict=False) if v.id >= 0 and n < BOTH
    ]
    alike = np.array([_alike(other, view) for other in old])
    for k in np.argsort(-alike, kind="stable")[:TRIED]:
        if alike[k] < HINTS:
            break
        loop = _between(marks, camera, old[k], view)
        if loop is not None:
            return loop
    return None


def _alike(old: View, view: View) -> int:
    """How many of a sample of the old points the new view shows, by descriptors alone."""
    rows = np.flatnonzero(old.point >= 0)
    rows = rows[:: max(len(rows) // SAMPLE, 1)][:SAMPLE]
    return len(match(old.descriptors[rows], view.descriptors))


def _between(marks: Landmarks, camera: Camera, old: View, view: View) -> Loop | None:
    rows = np.flatnonzero(old.point >= 0)
    pairs = match(old.descriptors[rows], view.descriptors)
    points, corners = old.point[rows[pairs[:, 0]]], pairs[:, 1]
    blind = np.full(len(points), np.nan)
    seen = Seen(marks.xyz[points], view.uv[corners].astype(float), blind, view.sigma[corners])
    fit = solve(seen, camera, LEAST)
    if fit is None:
        return None
    points, corners = points[fit.inliers], corners[fit.inliers]
    mine = view.point[corners]
    both = mine >= 0
    if both.sum() < BOTH:
        return None
    there = rigid.transform(rigid.inverse(fit.c2w), marks.xyz[points[both]])[:, 2]
    here = rigid.transform(rigid.inverse(view.c2w), marks.xyz[mine[both]])[:, 2]
    ratio = there / here
    scale = float(np.median(ratio))
    if scale <= 0 or np.median(np.abs(ratio / scale - 1)) > SPREAD:
        return None
    return Loop(old.id, view.id, rigid.inverse(old.c2w) @ fit.c2w, scale)


def close(marks: Landmarks, loop: Loop, depth: float) -> float:
    """Bend the map so that ``loop`` closes; by how much the newest view's part has grown.
    ``depth``: what is usual. Each view holds on to the one before, and to those of long ago that it
    sees the same with: more edges between neighbours would only make the chain stiff."""
    views = marks.views
    graph = PoseGraph()
    turn, share = _ODOMETRY
    for k, view in enumerate(views):
        shared = marks.sharing(view.point[view.point >= 0])
        for other, count in zip(views[:k], shared, strict=False):
            returned = count >= JOINED and view.id - other.id > LONG_AGO
            if returned or other is views[k - 1]:
                motion = rigid.inverse(other.c2w) @ view.c2w
                graph.add(Edge(other.id, view.id, motion, (turn, share * depth)))
    turn, share = _LOOP
    sigma = turn, share * depth
    graph.add(Edge(loop.old, loop.new, loop.motion, sigma, scale=loop.scale))
    poses, scales = graph.optimised({v.id: v.c2w for v in views}, {v.id: 1.0 for v in views})
    _carry(marks, poses, scales)
    return scales[views[-1].id]


def _carry(marks: Landmarks, poses: dict[int, Pose], scales: dict[int, float]) -> None:
    """Move views, and points with the view that made them or, is it gone, the one after it."""
    ids = np.array([v.id for v in marks.views])
    owner = np.minimum(np.searchsorted(ids, marks.born), len(ids) - 1)
    moved: NDArray[np.float64] = marks.xyz.copy()
    for k, view in enumerate(marks.views):
        rows = owner == k
        local = rigid.transform(rigid.inverse(view.c2w), marks.xyz[rows]) * scales[view.id]
        moved[rows] = rigid.transform(poses[view.id], local)
        view.c2w = poses[view.id]
    marks.xyz = moved
