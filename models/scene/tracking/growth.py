# mypy: disallow-untyped-decorators=False
"""A new keyframe's share of a map without depth: new points, and a bundle adjustment around it."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking.base import Pose
from retain.models.scene.tracking.bundle import GATE, Window, adjust
from retain.models.scene.tracking.landmarks import RECENT, SIGMA, Landmarks, View
from retain.models.scene.tracking.matching import FARTHEST, match
from retain.models.scene.tracking.start import triangulate, visible

PARTNERS = 4
"""Keyframes that new points are looked for in."""
FREE, FIXED = 7, 8
"""Keyframes that an adjustment moves, and those it holds on to."""
MOST = 1200
"""Points of an adjustment."""
NARROW, SCARCE = np.deg2rad(2.0), 150
"""Angle between the two rays to a new point; half of it where a view shows fewer points than
that: poor ones are better than none."""
_REACH = 2.5
"""Standard deviations from the epipolar line."""
_BASE = 0.02
"""Distance of two views as a share of the depth, under which they give no new points."""
_AGAIN = 3.0
"""Pixels: how far from where it should be a new point is looked for in other keyframes."""
_STEPS = 6

_compiled = njit(cache=True, nogil=True)


def grow(marks: Landmarks, camera: Camera, usual: tuple[float, float, float] | None = None) -> int:
    """New points of the newest view and its neighbours; how many. ``usual``: between which depths,
    about which; else those of the points it shows."""
    view = marks.views[-1]
    low, middle, high = usual or depths(marks, view)
    narrow = NARROW if (view.point >= 0).sum() >= SCARCE else NARROW / 2
    made = 0
    partners = [
        other
        for other in marks.views[-2 : -RECENT - 1 : -1]
        if np.linalg.norm(other.c2w[:3, 3] - view.c2w[:3, 3]) > _BASE * middle
    ][:PARTNERS]
    for other in partners:
        made += _pair(marks, camera, view, other, (low / 2, high * 3), narrow)
    born = np.arange(len(marks) - made, len(marks))
    for other in marks.views[-2 : -RECENT - 1 : -1]:
        _look_again(marks, camera, other, born)
    return made


def depths(marks: Landmarks, view: View) -> tuple[float, float, float]:
    """Of the points that ``view`` shows: 5th, 50th and 95th percentile."""
    rows = view.point[view.point >= 0]
    z = rigid.transform(rigid.inverse(view.c2w), marks.xyz[rows])[:, 2]
    low, middle, high = np.percentile(z[z > 0], (5, 50, 95))
    return float(low), float(middle), float(high)


def _pair(
    marks: Landmarks, camera: Camera, view: View, other: View, depths: tuple[float, float],
    narrow: float,
) -> int:  # fmt: skip
    """New points that ``view`` and ``other`` show, between these depths in front of ``view``, under
    an angle of ``narrow`` at least."""
    rows, cols = np.flatnonzero(view.point < 0), np.flatnonzero(other.point < 0)
    if not len(rows) or not len(cols):
        return 0
    uv = view.uv[rows].astype(np.float64)
    ends = _ends(camera, view.c2w, other.c2w, uv, depths)
    pairs = along(
        view.descriptors[rows], other.descriptors[cols], ends,
        other.uv[cols], (_REACH * SIGMA * other.size[cols]).astype(np.float32),
    )  # fmt: skip
    rows, cols = rows[pairs[:, 0]], cols[pairs[:, 1]]
    view.sharpen(rows, other, cols)
    p, q = view.uv[rows].astype(np.float64), other.uv[cols].astype(np.float64)
    points, angle = triangulate(camera, view.c2w, other.c2w, p, q)
    good = angle > narrow
    reach = np.sqrt(GATE)
    good &= visible(camera, view.c2w, points, p, reach * view.sigma[rows])
    good &= visible(camera, other.c2w, points, q, reach * other.sigma[cols])
    good &= _same_size(view, other, rows, cols, points)
    made = marks.add(points[good], view.descriptors[rows[good]], view.id)
    view.point[rows[good]] = other.point[cols[good]] = made
    return len(made)


def _same_size(
    view: View, other: View, rows: NDArray[np.int64], cols: NDArray[np.int64],
    points: NDArray[np.float64],
) -> NDArray[np.bool_]:  # fmt: skip
    """Whether distances and pyramid levels tell of one thing: a nearer one looks larger."""
    a = np.linalg.norm(points - view.c2w[:3, 3], axis=1) * view.size[rows]
    b = np.linalg.norm(points - other.c2w[:3, 3], axis=1) * other.size[cols]
    with np.errstate(invalid="ignore"):
        ratio: NDArray[np.bool_] = (a < 1.8 * b) & (b < 1.8 * a)
    return ratio


def _look_again(marks: Landmarks, camera: Camera, view: View, rows: NDArray[np.int64]) -> None:
    """Find points ``rows``, which the newest view shows, among the corners of ``view`` that are
    none yet."""
    rows = np.setdiff1d(rows, view.point)
    free = np.flatnonzero(view.point < 0)
    at = camera.project(rigid.transform(rigid.inverse(view.c2w), marks.xyz[rows]))
    pairs = match(
        marks.descriptors[rows], view.descriptors[free],
        at=at.astype(np.float32), uv=view.uv[free], radius=_AGAIN, ratio=1.0,
    )  # fmt: skip
    rows, corners = rows[pairs[:, 0]], free[pairs[:, 1]]
    view.sharpen(corners, marks.views[-1], marks.views[-1].corners(rows, len(marks)))
    view.point[corners] = rows


def settle(marks: Landmarks, camera: Camera) -> float:
    """Adjust the views that share most points with the newest one, and the points they see; drop
    observations that do not agree. The cost per observation."""
    views = marks.views
    newest = views[-1].point
    shared = marks.sharing(newest[newest >= 0])
    # Old views hold still: what comes back to them is drawn to the old map, not it to the new.
    young = range(max(len(views) - 2 * FREE, 0), len(views) - 1)
    order = sorted(young, key=lambda k: -shared[k])[: FREE - 1]
    free = sorted([k for k in order if shared[k] >= 15] + [len(views) - 1])
    rows = _points(marks, free)
    held = marks.sharing(rows)
    held[free] = 0
    fixed = [k for k in np.argsort(-held, kind="stable")[:FIXED] if held[k] >= 5]
    while len(fixed) < 2 and len(free) > 1:  # or place and scale would be free
        fixed.append(free.pop(0))
    return _adjusted(marks, camera, free, fixed, rows)


def place(marks: Landmarks, camera: Camera) -> float:
    """Adjust the points of the newest views alone; where these are is known. The cost per
    observation."""
    views = list(range(max(len(marks.views) - RECENT, 0), len(marks.views)))
    return _adjusted(marks, camera, [], views, _points(marks, views))


def _points(marks: Landmarks, views: list[int]) -> NDArray[np.int64]:
    """Points that ``views`` see, and at least two views at all; the most seen ones."""
    rows = np.unique(np.concatenate([marks.views[k].point for k in views]))
    rows = rows[rows >= 0]
    seen = marks.seen_by()[rows]
    rows, seen = rows[seen >= 2], seen[seen >= 2]
    return np.sort(rows[np.argsort(-seen, kind="stable")[:MOST]])


def _adjusted(
    marks: Landmarks, camera: Camera, free: list[int], fixed: list[int], rows: NDArray[np.int64]
) -> float:
    place = np.full(len(marks) + 1, -1)
    place[rows] = np.arange(len(rows))
    chosen = [marks.views[k] for k in (*free, *fixed)]
    corners = [np.flatnonzero(place[v.point] >= 0) for v in chosen]
    window = Window(
        w2c=rigid.inverse(np.array([v.c2w for v in chosen])),
        free=np.arange(len(chosen)) < len(free),
        points=marks.xyz[rows],
        view=np.repeat(np.arange(len(chosen)), [len(c) for c in corners]),
        point=np.concatenate([place[v.point[c]] for v, c in zip(chosen, corners, strict=True)]),
        uv=np.concatenate(
            [v.uv[c] for v, c in zip(chosen, corners, strict=True)], dtype=np.float64
        ),
        sigma=np.concatenate([v.sigma[c] for v, c in zip(chosen, corners, strict=True)]),
    )
    done = adjust(window, camera, _STEPS)
    marks.xyz[rows] = done.points
    for k, view in enumerate(chosen):
        if k < len(free):
            view.c2w = rigid.inverse(done.w2c[k])
        view.point[corners[k][~done.good[window.view == k]]] = -1
    return done.cost


def _ends(
    camera: Camera, a: Pose, b: Pose, uv: NDArray[np.float64], depths: tuple[float, float]
) -> NDArray[np.float32]:
    """[N, 4]: where in the picture of ``b`` the points at two depths on the rays of pixels of ``a``
    are; NaN when behind it."""
    rays = np.ones((len(uv), 3))
    rays[:, 0], rays[:, 1] = (uv[:, 0] - camera.cx) / camera.fx, (uv[:, 1] - camera.cy) / camera.fy
    motion = rigid.inverse(b) @ a
    ends = [camera.project(rigid.transform(motion, rays * z)) for z in depths]
    return np.concatenate(ends, axis=1).astype(np.float32)


def along(
    a: NDArray[np.uint8], b: NDArray[np.uint8], ends: NDArray[np.float32],
    uv: NDArray[np.float32], reach: NDArray[np.float32],
) -> NDArray[np.int64]:  # fmt: skip
    """Pairs [M, 2] of rows of descriptors whose distance is the least both ways, among those of
    ``b`` within ``reach`` [K] pixels of the segments ``ends`` [N, 4]."""
    to, back = _search(
        np.ascontiguousarray(a).view(np.uint64), np.ascontiguousarray(b).view(np.uint64),
        ends, uv, reach,
    )  # fmt: skip
    rows = np.flatnonzero(to >= 0)
    rows = rows[back[to[rows]] == rows]
    return np.stack([rows, to[rows]], axis=1)


@_compiled
def _search(a, b, ends, uv, reach):  # type: ignore[no-untyped-def]  # pragma: no cover
    to = np.full(len(a), -1, np.int64)
    back = np.full(len(b), -1, np.int64)
    closest = np.full(len(b), 257, np.int64)
    for i in range(len(a)):
        x, y = ends[i, 0], ends[i, 1]
        dx, dy = ends[i, 2] - x, ends[i, 3] - y
        square = dx * dx + dy * dy
        if not square >= 0:
            continue
        best, second, chosen = np.int64(257), np.int64(257), -1
        for j in range(len(b)):
            px, py = uv[j, 0] - x, uv[j, 1] - y
            t = min(max((px * dx + py * dy) / max(square, np.float32(1e-6)), 0.0), 1.0)
            px -= t * dx
            py -= t * dy
            if px * px + py * py > reach[j] * reach[j]:
                continue
            d = np.int64(0)
            for k in range(4):
                v = a[i, k] ^ b[j, k]
                v = v - ((v >> np.uint64(1)) & np.uint64(0x5555555555555555))
                v = (v & np.uint64(0x3333333333333333)) + (
                    (v >> np.uint64(2)) & np.uint64(0x3333333333333333)
                )
                v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                d = d + np.int64((v * np.uint64(0x0101010101010101)) >> np.uint64(56))
            if d < best:
                best, second, chosen = d, best, j
            elif d < second:
                second = d
            if d < closest[j]:
                closest[j], back[j] = d, i
        if chosen >= 0 and best <= FARTHEST and best <= 0.85 * second:
            to[i] = chosen
    return to, back
