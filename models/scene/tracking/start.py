"""How a map without depth begins: two views with parallax, their motion, the points they share.

The scale of such a map is free. It is fixed by ``UNIT``: the points of the first pair lie at a
median depth of so many units in front of the first camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking.base import Pose
from retain.models.scene.tracking.bundle import Window, adjust

Floats = NDArray[np.float64]

UNIT = 2.0
"""Median depth of the first points: so that lengths are about metres in a room."""
LEAST = 50
"""Points that a map begins with."""
PARALLAX = np.deg2rad(2.0)
"""Median angle between the two rays to a point, from which depths can be believed."""
NARROW = np.deg2rad(1.0)
"""A point seen under less is not used."""
_REACH = 1.0
"""Pixels from the epipolar line (RANSAC)."""
_FLAT = 0.9
"""Share of the pairs that one homography explains, from which the scene may be one plane: then
two motions fit."""
_SURE = 0.7
"""The second best of the four motions must have fewer points in front than this share of the
best's (Mur-Artal et al., 2015)."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The first camera is the world."""

    c2w: Pose
    """Of the second camera."""
    points: Floats
    """[N, 3]."""
    rows: NDArray[np.int64]
    """[N]: the pairs that they are made of."""


def begin(camera: Camera, p: Floats, q: Floats, sigma: Floats) -> Begun | str:
    """The map of pairs of pixels ``p`` and ``q`` [M, 2] of two views, ``sigma`` [M] pixels; or
    in a few words why there is none yet."""
    if len(p) < 2 * LEAST:
        return f"{len(p)} corners in common with the first view"
    if np.median(np.linalg.norm(q - p, axis=1)) < 0.01 * camera.width:
        return "waiting for the camera to move"
    essential, inliers = cv2.findEssentialMat(
        p, q, camera.K, method=cv2.USAC_MAGSAC, prob=0.999, threshold=_REACH
    )
    if essential is None or essential.shape != (3, 3):
        return "no motion explains what is seen"
    rows = np.flatnonzero(inliers.ravel())
    if len(rows) < 2 * LEAST:
        return f"{len(rows)} corners move as one scene would"
    p, q, sigma = p[rows], q[rows], sigma[rows]
    if _turned(camera, p, q):
        return "the camera only turned: move it sideways"
    if _flat(p, q):
        return "one plane in view: show something with depth"
    found = _motion(camera, essential, p, q)
    if isinstance(found, str):
        return found
    c2w, points, chosen = found
    return _polished(camera, c2w, points, p[chosen], q[chosen], sigma[chosen], rows[chosen])


def _turned(camera: Camera, p: Floats, q: Floats) -> bool:
    """Whether one rotation explains the pairs: the best between their rays leaves little."""
    a, b = _unit(camera, p), _unit(camera, q)
    u, _, vt = np.linalg.svd(b.T @ a)
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    off = np.linalg.norm(b - a @ rotation.T, axis=1)
    return bool(np.median(off) < np.deg2rad(0.5))


def _flat(p: Floats, q: Floats) -> bool:
    found, inliers = cv2.findHomography(p, q, cv2.USAC_MAGSAC, _REACH, maxIters=500)
    return found is not None and float(inliers.mean()) > _FLAT


def _motion(
    camera: Camera, essential: Floats, p: Floats, q: Floats
) -> tuple[Pose, Floats, NDArray[np.int64]] | str:
    """The motion of the four that puts most points in front of both cameras."""
    one, two, t = cv2.decomposeEssentialMat(essential)
    best: list[tuple[int, int, Pose, Floats, Floats, NDArray[np.bool_]]] = []
    for k, (rotation, shift) in enumerate(((one, t), (one, -t), (two, t), (two, -t))):
        w2c = np.eye(4)
        w2c[:3, :3], w2c[:3, 3] = rotation, shift[:, 0]
        c2w = rigid.inverse(w2c)
        points, angle = triangulate(camera, np.eye(4), c2w, p, q)
        good = visible(camera, np.eye(4), points, p, 2.0) & visible(camera, c2w, points, q, 2.0)
        best.append((int(good.sum()), -k, c2w, points, angle, good))
    best.sort(key=lambda entry: entry[:2], reverse=True)
    count, _, c2w, points, angle, good = best[0]
    if best[1][0] > _SURE * count:
        return "two motions explain what is seen"
    if count < LEAST or np.median(angle[good]) < PARALLAX:
        return "too little parallax yet: move sideways"
    chosen = np.flatnonzero(good & (angle > NARROW))
    if len(chosen) < LEAST:
        return f"{len(chosen)} corners with parallax"
    return c2w, points[chosen], chosen


def _polished(
    camera: Camera, c2w: Pose, points: Floats, p: Floats, q: Floats, sigma: Floats,
    rows: NDArray[np.int64],
) -> Begun | str:  # fmt: skip
    """After adjustment of the second view and the points, at the unit scale."""
    n = len(points)
    window = Window(
        np.stack([np.eye(4), rigid.inverse(c2w)]), np.array([False, True]), points,
        np.repeat([0, 1], n), np.tile(np.arange(n), 2), np.concatenate([p, q]), np.tile(sigma, 2),
    )  # fmt: skip
    done = adjust(window, camera, steps=15)
    good = done.good[:n] & done.good[n:]
    if good.sum() < LEAST:
        return f"{int(good.sum())} corners agree with one motion"
    scale = UNIT / float(np.median(done.points[good, 2]))
    c2w = rigid.inverse(done.w2c[1])
    c2w[:3, 3] *= scale
    return Begun(c2w, done.points[good] * scale, rows[good])


def triangulate(camera: Camera, a: Pose, b: Pose, p: Floats, q: Floats) -> tuple[Floats, Floats]:
    """Points [N, 3] nearest to the two rays through pixels ``p`` and ``q`` [N, 2] of cameras at
    ``a`` and ``b`` (midpoints), and the angles [N] between the rays. Rays that are parallel, or
    meet behind a camera, give NaN."""
    d = _unit(camera, p) @ a[:3, :3].T
    e = _unit(camera, q) @ b[:3, :3].T
    base = b[:3, 3] - a[:3, 3]
    cosine = np.einsum("ni,ni->n", d, e)
    apart = 1 - cosine * cosine
    u, v = d @ base, e @ base
    with np.errstate(divide="ignore", invalid="ignore"):
        s, t = (u - cosine * v) / apart, (cosine * u - v) / apart
    points = (a[:3, 3] + s[:, None] * d + b[:3, 3] + t[:, None] * e) / 2
    points[~((apart > 1e-10) & (s > 0) & (t > 0))] = np.nan
    angle = np.arctan2(np.linalg.norm(np.cross(d, e), axis=1), cosine)
    return points, angle


def visible(
    camera: Camera, c2w: Pose, points: Floats, uv: Floats, reach: float | Floats
) -> NDArray[np.bool_]:
    """[N], which ``points`` project within ``reach`` pixels of ``uv``, in front of the camera."""
    at = camera.project(rigid.transform(rigid.inverse(c2w), points))
    off: Floats = np.linalg.norm(at - uv, axis=1)
    with np.errstate(invalid="ignore"):
        near: NDArray[np.bool_] = off < reach
    return near


def _unit(camera: Camera, uv: Floats) -> Floats:
    """Rays [N, 3] of unit length through pixels."""
    rays = np.ones((len(uv), 3))
    rays[:, 0], rays[:, 1] = (uv[:, 0] - camera.cx) / camera.fx, (uv[:, 1] - camera.cy) / camera.fy
    unit: Floats = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    return unit
