"""The pose of a camera from points in the world and where it sees them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking.base import Pose

Floats = NDArray[np.float64]

REACH, REACH_SHARE = 1.5, 3 / 640
"""Pixels, and share of the picture's width: farther than both from where its point projects to, a
corner is an outlier (RANSAC)."""
PIXEL = 1.0
"""Pixels: standard deviation of a corner of the finest level."""
INVERSE_DEPTH = 0.003
"""1/m: standard deviation of the difference of two measured inverse depths. Structured light and
stereo err in proportion to the square of the depth, so by a constant in its inverse."""
_HUBER = 1.3
_GATE = 3.0
"""Standard deviations: what is farther off no longer counts in the last rounds."""
_ROUNDS = (4, 4, 4)
_STILL = 1e-5
"""Radians and metres: a step so small ends a round."""
_TRIES = 200


@dataclass(frozen=True, slots=True)
class Seen:
    """M points and where one camera sees them.

    world  float64 [M, 3], metres
    uv     float64 [M, 2], pixels
    depth  float64 [M], metres along z as measured, NaN where unknown
    sigma  float64 [M], pixels: standard deviation of ``uv``
    """

    world: Floats
    uv: Floats
    depth: Floats
    sigma: Floats

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: NDArray[np.generic]) -> Seen:
        return Seen(self.world[index], self.uv[index], self.depth[index], self.sigma[index])


@dataclass(frozen=True, slots=True)
class Fit:
    """A pose, and what supports it."""

    c2w: Pose
    inliers: NDArray[np.bool_]
    """[M]."""
    information: Floats
    """[6, 6], inverse covariance of (rotation, translation) in camera coordinates."""

    @property
    def spread(self) -> tuple[float, float]:
        """Standard deviations of the worst direction: radians, metres. Infinite if undetermined."""
        values = np.linalg.eigvalsh(self.information)
        if values[0] <= 1e-9 * values[-1]:
            return float("inf"), float("inf")
        covariance = np.linalg.inv(self.information)
        turn, shift = (np.linalg.eigvalsh(covariance[i : i + 3, i : i + 3])[-1] for i in (0, 3))
        return float(np.sqrt(turn)), float(np.sqrt(shift))


def solve(seen: Seen, camera: Camera, least: int = 15) -> Fit | None:
    """RANSAC over three points (Gao et al., PAMI 2003), then ``refine``. None when fewer than
    ``least`` points agree."""
    if len(seen) < max(least, 4):
        return None
    cv2.setRNGSeed(0)
    found, turn, shift, inliers = cv2.solvePnPRansac(
        seen.world, seen.uv, camera.K, None, flags=cv2.SOLVEPNP_P3P,
        iterationsCount=_TRIES, confidence=0.999,
        reprojectionError=max(REACH, REACH_SHARE * camera.width),
    )  # fmt: skip
    if not found or inliers is None or len(inliers) < least:
        return None
    w2c = np.eye(4)
    w2c[:3, :3], w2c[:3, 3] = cv2.Rodrigues(turn)[0], shift[:, 0]
    if not np.isfinite(w2c).all():
        return None
    return refine(seen, camera, rigid.inverse(w2c), least)


def refine(seen: Seen, camera: Camera, c2w: Pose, least: int = 15) -> Fit | None:
    """Gauss-Newton from ``c2w`` on pixels and inverse depths, with Huber's loss; each round goes
    on with what fits. None when that is fewer than ``least``."""
    w2c = rigid.inverse(c2w)
    r, _ = _residuals(seen, camera, w2c)
    # Even with Huber's loss, many points that agree with another pose would pull.
    inliers = np.abs(r).max(axis=1) < 2 * _GATE
    information = np.zeros((6, 6))
    for steps in _ROUNDS:
        for _ in range(steps):
            r, jacobian = _residuals(seen, camera, w2c)
            w = (_weights(r) * inliers[:, None]).ravel()
            pull = jacobian.T * w
            information, gradient = pull @ jacobian, pull @ r.ravel()
            damped = information + 1e-9 * np.trace(information) * np.eye(6) + 1e-12 * np.eye(6)
            step = -np.linalg.solve(damped, gradient)
            w2c = rigid.exp(step) @ w2c
            if np.abs(step).max() < _STILL:
                break
        r, _ = _residuals(seen, camera, w2c)
        inliers = np.abs(r).max(axis=1) < _GATE
        if inliers.sum() < least or not np.isfinite(w2c).all():
            return None
    return Fit(rigid.inverse(w2c), inliers, information)


def judged(seen: Seen, camera: Camera, c2w: Pose) -> Fit:
    """``c2w`` as it is, with the points that agree."""
    r, jacobian = _residuals(seen, camera, rigid.inverse(c2w))
    inliers = np.abs(r).max(axis=1) < _GATE
    pull = jacobian.T * (_weights(r) * inliers[:, None]).ravel()
    return Fit(c2w, inliers, pull @ jacobian)


def _weights(r: Floats) -> Floats:
    """Huber's, of residuals in standard deviations."""
    weights: Floats = np.minimum(1.0, _HUBER / np.maximum(np.abs(r), 1e-12))
    return weights


def _residuals(seen: Seen, camera: Camera, w2c: Pose) -> tuple[Floats, Floats]:
    """[M, 3] (u, v, inverse depth) in standard deviations and their [3 M, 6] derivatives by a
    twist applied on the left of ``w2c``. A point behind the camera is infinitely wrong but without
    pull; an unknown depth is right."""
    x, y, z = rigid.transform(w2c, seen.world).T
    behind = z < 1e-3
    i = 1.0 / np.where(behind, 1.0, z)
    x, y = x * i, y * i
    a, b = camera.fx / seen.sigma, camera.fy / seen.sigma
    c = np.where(np.isfinite(seen.depth), 1.0 / INVERSE_DEPTH, 0.0)
    measured = 1.0 / np.where(np.isfinite(seen.depth), seen.depth, 1.0)
    r = np.empty((len(seen), 3))
    r[:, 0] = a * (x + (camera.cx - seen.uv[:, 0]) / camera.fx)
    r[:, 1] = b * (y + (camera.cy - seen.uv[:, 1]) / camera.fy)
    r[:, 2] = c * (i - measured)
    jacobian = np.zeros((len(seen), 3, 6))
    by_point = ((a, (-x * y, 1 + x * x, -y, i, 0.0, -x * i)),
                (b, (-1 - y * y, x * y, x, 0.0, i, -y * i)),
                (c, (-y * i, x * i, 0.0, 0.0, 0.0, -i * i)))  # fmt: skip
    for row, (scale, columns) in enumerate(by_point):
        for column, value in enumerate(columns):
            jacobian[:, row, column] = scale * value
    r[behind] = 1e6
    jacobian[behind] = 0.0
    return r, jacobian.reshape(-1, 6)
