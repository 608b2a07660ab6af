"""How far an estimated camera path is from the true one: alignment, ATE, RPE.

Paths are ``c2w`` matrices [N, 4, 4] of the same frames in the same order, all of them finite:
frames without an estimate are left out on both sides, and should be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retain.kernels.geometry import rigid

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Similarity:
    """``x -> scale * rotation @ x + translation``."""

    rotation: Array
    """[3, 3], a proper one: determinant 1."""
    translation: Array
    scale: float = 1.0

    def __call__(self, points: ArrayLike) -> Array:
        """``points`` [..., 3] moved."""
        moved: Array = self.scale * np.asarray(points, np.float64) @ self.rotation.T
        return moved + self.translation

    def pose(self, c2w: ArrayLike) -> Array:
        """Poses [..., 4, 4] moved; they stay rigid, the scale acts on places only."""
        out = np.array(c2w, np.float64)
        out[..., :3, 3] = self(out[..., :3, 3])
        out[..., :3, :3] = self.rotation @ out[..., :3, :3]
        return out


class Errors(NamedTuple):
    """Of a set of lengths or angles."""

    rmse: float
    mean: float
    median: float
    largest: float
    n: int


class RelativeErrors(NamedTuple):
    """Of motions over a step: metres, and degrees."""

    translation: Errors
    rotation_deg: Errors


def align(estimate: ArrayLike, truth: ArrayLike, scale: bool = False) -> Similarity:
    """The similarity that brings points ``estimate`` [N, 3] closest to ``truth`` [N, 3].

    Least squares in closed form (Umeyama, PAMI 1991). Never a reflection: where the best
    orthogonal matrix is one, its least singular direction is turned. ``scale`` False keeps lengths,
    as metric input must. Points on a line leave the turn about it open: one of the best is
    returned. Raises ValueError for other shapes, values that are not finite, no points, or a scale
    asked of points that are all in one place.
    """
    e, g = _points(estimate, truth)
    e_mean, g_mean = e.mean(axis=0), g.mean(axis=0)
    e, g = e - e_mean, g - g_mean
    u, d, vt = np.linalg.svd(g.T @ e / len(e))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * sign) @ vt
    spread = float((e**2).sum() / len(e))
    if scale and not spread > 0:
        raise ValueError("a scale cannot be found: the estimated points are all in one place")
    s = float(d @ sign) / spread if scale else 1.0
    return Similarity(rotation, g_mean - s * rotation @ e_mean, s)


def absolute_errors(estimate: ArrayLike, truth: ArrayLike, scale: bool = False) -> Errors:
    """Distances in metres of the camera centres after alignment; ``rmse`` is the ATE.

    ``estimate``, ``truth`` [N, 4, 4]; ``scale`` True for monocular estimates. Raises ValueError as
    ``align``.
    """
    e, g = _places(estimate), _places(truth)
    return errors(np.linalg.norm(align(e, g, scale)(e) - g, axis=1))


def relative_errors(estimate: ArrayLike, truth: ArrayLike, step: int = 1) -> RelativeErrors:
    """RPE: of E_i = (G_i^-1 G_{i+step})^-1 (P_i^-1 P_{i+step}), P the estimate, G the truth.

    Needs no alignment; a monocular estimate must have its scale first (``Similarity.pose``).
    Raises ValueError for shapes that do not fit, and when there are no two frames ``step`` apart.
    """
    p, g = _poses(estimate), _poses(truth)
    if len(p) != len(g) or not 1 <= step < len(p):
        raise ValueError(f"paths of {len(p)} and {len(g)} poses have no error over {step} frames")
    moved = rigid.inverse(p[:-step]) @ p[step:]
    wanted = rigid.inverse(g[:-step]) @ g[step:]
    wrong = rigid.inverse(wanted) @ moved
    lengths = np.linalg.norm(wrong[:, :3, 3], axis=1)
    return RelativeErrors(errors(lengths), errors(np.degrees(_angles(wrong[:, :3, :3]))))


def errors(values: ArrayLike) -> Errors:
    """Root mean square, mean, median, largest; NaN when there are none."""
    v = np.abs(np.asarray(values, np.float64)).ravel()
    if not v.size:
        nothing = float("nan")
        return Errors(nothing, nothing, nothing, nothing, 0)
    middle = float(np.median(v))
    return Errors(float(np.sqrt((v**2).mean())), float(v.mean()), middle, float(v.max()), v.size)


def _angles(rotations: Array) -> Array:
    """[N] radians. By quaternions: a trace has no digits left for small angles."""
    q = rigid.quaternion(rotations)
    return np.asarray(2 * np.arctan2(np.linalg.norm(q[:, 1:], axis=1), np.abs(q[:, 0])))


def _poses(path: ArrayLike) -> Array:
    poses = np.asarray(path, np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not np.isfinite(poses).all():
        raise ValueError(f"a path must be finite poses [N, 4, 4], got {poses.shape}")
    return poses


def _places(path: ArrayLike) -> Array:
    places: Array = _poses(path)[:, :3, 3]
    return places


def _points(estimate: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    e, g = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    if e.shape != g.shape or e.ndim != 2 or e.shape[1] != 3 or not len(e):
        raise ValueError(f"points must be [N, 3] alike, got {e.shape} and {g.shape}")
    if not (np.isfinite(e).all() and np.isfinite(g).all()):
        raise ValueError("points must be finite; leave out frames without an estimate")
    return e, g
