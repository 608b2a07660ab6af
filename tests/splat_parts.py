"""Gaussians for tests, and a picture of them by the definition: every Gaussian at every pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import Gaussians

Array = NDArray[np.float64]


def some(n: int, seed: int = 0, size: float = 0.1) -> Gaussians:
    """In front of a camera at the origin: turned, flat, of all opacities, some at the limits."""
    random = np.random.default_rng(seed)
    means = random.uniform((-1, -1, 2), (1, 1, 4), (n, 3))
    quats = random.normal(size=(n, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    scales = size * np.exp(random.normal(size=(n, 3)) * (0.5, 0.5, 1))
    opacities = np.clip(random.uniform(-0.1, 1.1, n), 0, 1)
    colors = np.clip(random.uniform(-0.1, 1.1, (n, 3)), 0, 1)
    arrays = (means, quats, scales, opacities, colors)
    return Gaussians(*(array.astype(np.float32) for array in arrays))


def covariances(quats: NDArray[np.floating], scales: NDArray[np.floating]) -> Array:
    """[N, 3, 3] of quaternions wxyz and standard deviations."""
    turns = rigid.matrix(quats) if len(quats) else np.zeros((0, 3, 3))
    return np.einsum("nij,nj,nkj->nik", turns, np.asarray(scales, np.float64) ** 2, turns)


def picture(
    means: Array, covariance: Array, opacities: Array, colors: Array, w2c: Array, camera: Camera,
    ground: tuple[float, float, float] = (0, 0, 0),
) -> Array:  # fmt: skip
    """float64 [H, W, 3] in 0..1. ``w2c`` may be any isometry into the camera's axes, so that worlds
    with other axes can be drawn as they are stored. Gaussians must be well inside the view."""
    turn, shift = w2c[:3, :3], w2c[:3, 3]
    centres = means @ turn.T + shift
    x = (np.arange(camera.width) + 0.5)[None, :]
    y = (np.arange(camera.height) + 0.5)[:, None]
    drawn = np.zeros((camera.height, camera.width, 3))
    left = np.ones((camera.height, camera.width, 1))
    for k in np.argsort(centres[:, 2], kind="stable"):
        cx, cy, cz = centres[k]
        jacobian = np.array(
            [
                [camera.fx / cz, 0, -camera.fx * cx / cz**2],
                [0, camera.fy / cz, -camera.fy * cy / cz**2],
            ]
        )
        flat = jacobian @ turn @ covariance[k] @ turn.T @ jacobian.T + 0.3 * np.eye(2)
        inverse = np.linalg.inv(flat)
        dx = x - camera.fx * cx / cz - camera.cx
        dy = y - camera.fy * cy / cz - camera.cy
        far = inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2
        alpha = np.minimum(0.999, opacities[k] * np.exp(-0.5 * far))[..., None]
        alpha[alpha < 1 / 255] = 0
        drawn += left * alpha * colors[k]
        left *= 1 - alpha
    return drawn + left * np.array(ground)


def picture_of(
    g: Gaussians, w2c: Array, camera: Camera, ground: tuple[float, float, float] = (0, 0, 0)
) -> Array:
    floats = (g.means, covariances(g.quats, g.scales), g.opacities, g.colors)
    return picture(*(np.asarray(array, np.float64) for array in floats), w2c, camera, ground)


def psnr(a: Array, b: Array) -> float:
    """Decibels, of pictures in 0..1."""
    return float(-10 * np.log10(np.maximum(((a - b) ** 2).mean(), 1e-12)))


def broken(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
