"""Rigid motions as 4x4 float64 matrices: exponential, logarithm, inverse, quaternions.

Poses are named by what they map: ``c2w`` takes camera coordinates to the world's. Quaternions are
wxyz. A twist is (rotation, translation), in radians and metres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_SMALL = 1e-8


def skew(w: ArrayLike) -> Array:
    """[3] to the 3x3 matrix of the cross product with it."""
    x, y, z = np.asarray(w, np.float64)
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def exp(twist: ArrayLike) -> Array:
    """The motion of ``twist`` [6] (rotation, translation); [4, 4]."""
    twist = np.asarray(twist, np.float64)
    w, v = twist[:3], twist[3:]
    angle2 = float(w @ w)
    angle, k = float(np.sqrt(angle2)), skew(w)
    if angle < _SMALL:
        a, b, c = 1.0 - angle2 / 6, 0.5 - angle2 / 24, 1 / 6 - angle2 / 120
    else:
        a = np.sin(angle) / angle
        b = 2 * np.sin(angle / 2) ** 2 / angle2
        c = (1 - a) / angle2
    motion = np.eye(4)
    motion[:3, :3] = np.eye(3) + a * k + b * k @ k
    motion[:3, 3] = (np.eye(3) + b * k + c * k @ k) @ v
    return motion


def log(motion: ArrayLike) -> Array:
    """The twist [6] of ``motion`` [4, 4]; the inverse of ``exp`` for angles up to pi."""
    motion = np.asarray(motion, np.float64)
    w = rotation_vector(motion[:3, :3])
    angle2 = float(w @ w)
    angle, k = float(np.sqrt(angle2)), skew(w)
    if angle < 1e-4:
        d = 1 / 12 + angle2 / 720
    else:
        d = (1 - angle * np.sin(angle) / (4 * np.sin(angle / 2) ** 2)) / angle2
    return np.concatenate([w, (np.eye(3) - 0.5 * k + d * k @ k) @ motion[:3, 3]])


def rotation_vector(rotation: ArrayLike) -> Array:
    """Axis times angle [3] of a rotation [3, 3]."""
    q = quaternion(rotation)
    q = -q if q[0] < 0 else q
    length = float(np.linalg.norm(q[1:]))
    if length < _SMALL:
        return 2.0 * q[1:]
    return 2.0 * float(np.arctan2(length, q[0])) / length * q[1:]


def inverse(motion: ArrayLike) -> Array:
    """The inverse of rigid motions [..., 4, 4]."""
    motion = np.asarray(motion, np.float64)
    out = np.zeros_like(motion)
    turned: Array = np.swapaxes(motion[..., :3, :3], -1, -2)
    out[..., :3, :3] = turned
    out[..., :3, 3] = -(turned @ motion[..., :3, 3:])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def transform(motion: ArrayLike, points: ArrayLike) -> Array:
    """``points`` [..., 3] moved by one motion [4, 4]."""
    motion = np.asarray(motion, np.float64)
    moved: Array = np.asarray(points, np.float64) @ motion[:3, :3].T + motion[:3, 3]
    return moved


def upward(poses: ArrayLike) -> Array:
    """The way up [3] of a scene, unit length: against the cameras' y on the whole. ``poses`` c2w
    [N, 4, 4]; zero where they cancel out."""
    up = -np.asarray(poses, np.float64).reshape(-1, 4, 4)[:, :3, 1].sum(axis=0)
    length = float(np.linalg.norm(up))
    return up / length if length > 1e-9 else np.zeros(3)


def matrix(quat: ArrayLike) -> Array:
    """Rotations [..., 3, 3] of quaternions [..., 4] wxyz of any length but 0."""
    q = np.asarray(quat, np.float64)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion(rotation: ArrayLike) -> Array:
    """Unit quaternions [..., 4] wxyz of rotations [..., 3, 3]; the largest part is positive."""
    r = np.asarray(rotation, np.float64)
    (a, b, c), (d, e, f), (g, h, i) = (np.moveaxis(r[..., row, :], -1, 0) for row in range(3))
    # Four ways to the same quaternion, each times four of one of its parts: the largest is exact.
    table = (
        (1 + a + e + i, h - f, c - g, d - b),
        (h - f, 1 + a - e - i, d + b, c + g),
        (c - g, d + b, 1 - a + e - i, h + f),
        (d - b, c + g, h + f, 1 - a - e + i),
    )
    ways = np.stack([np.stack(row, axis=-1) for row in table], axis=-2)
    best = np.einsum("...ii->...i", ways).argmax(axis=-1)
    q = np.take_along_axis(ways, best[..., None, None], axis=-2)[..., 0, :]
    return np.asarray(q / np.linalg.norm(q, axis=-1, keepdims=True))


def is_rigid(motion: ArrayLike, tolerance: float = 1e-3) -> bool:
    """Whether ``motion`` is a finite 4x4 rotation and translation."""
    motion = np.asarray(motion, np.float64)
    if motion.shape != (4, 4) or not np.isfinite(motion).all():
        return False
    rotation = motion[:3, :3]
    straight = np.abs(rotation @ rotation.T - np.eye(3)).max() < tolerance
    return bool(straight and np.linalg.det(rotation) > 0 and np.allclose(motion[3], (0, 0, 0, 1)))
