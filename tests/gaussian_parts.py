"""A little walk through a box-shaped room, as keyframes of Gaussians."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import CODE, Gaussians
from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.keyframe import Keyframe
from retain.memory.gaussian.memory import GaussianMemory

CAMERA = Camera(20.0, 20.0, 16.0, 12.0, 32, 24)
SMALL = CAMERA.resized(16, 12)
HALF = np.array([3.0, 1.5, 2.5])
CONFIG = GaussianConfig(
    byte_budget=200_000, window=3, keyframes=8, cell=0.08, confirmations=1, codes=True
)
"""Small enough that every limit is met within a few keyframes."""


def pose(at: float, turn: float = 0.1, step: float = 0.05) -> NDArray[np.float64]:
    """Where the camera is at the time ``at``, in keyframes."""
    return rigid.exp([0, turn * at, 0, step * np.sin(at), 0, step * np.cos(at)])


def look(
    c2w: NDArray[np.float64], camera: Camera = CAMERA
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth [H, W] and normals [H, W, 3] of the room, exact."""
    rays = camera.rays().reshape(-1, 3).astype(np.float64) @ c2w[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        far = (np.sign(rays) * HALF - c2w[:3, 3]) / rays
    far[rays == 0] = np.inf
    wall = far.argmin(axis=1)
    normal = np.zeros_like(rays)
    normal[np.arange(len(rays)), wall] = -np.sign(rays[np.arange(len(rays)), wall])
    shape = camera.height, camera.width
    return (
        far.min(axis=1).reshape(shape).astype(np.float32),
        normal.reshape(*shape, 3).astype(np.float32),
    )


def keyframe(
    id: int,
    c2w: NDArray[np.float64],
    camera: Camera = CAMERA,
    rng: np.random.Generator | None = None,
    noise: float = 0.0,
) -> Keyframe:
    """One Gaussian per pixel, with codes; ``rng`` shakes depth (by ``noise``) and confidence."""
    rng = rng or np.random.default_rng(id)
    depth, normals = look(c2w, camera)
    depth = depth * (1 + noise * rng.standard_normal(depth.shape).astype(np.float32))
    means = rigid.transform(c2w, camera.unproject(depth).reshape(-1, 3)).astype(np.float32)
    normal, z, n = normals.reshape(-1, 3), depth.ravel(), depth.size
    side = np.cross(normal, rng.standard_normal((n, 3)))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    axes = np.stack([side, np.cross(normal, side), normal], axis=-1)
    size = (z / camera.fx).astype(np.float32)
    gaussians = Gaussians(
        means,
        rigid.quaternion(axes).astype(np.float32),
        size[:, None] * np.array([0.6, 0.5, 0.09], np.float32),
        rng.uniform(0.8, 1, n).astype(np.float32),
        (0.5 + 0.5 * np.sin(3 * means)).astype(np.float32),
        unit(rng.standard_normal((n, CODE)) + 3 * np.eye(CODE)[np.abs(normal).argmax(axis=1)]),
    )
    confidence = np.minimum(1, (1.5 / z) ** 2) * rng.uniform(0.5, 1, n)
    return Keyframe(id, 5 * id, c2w, gaussians, confidence.astype(np.float32), normal, size)


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def keyframes(count: int, seed: int) -> Iterator[Keyframe]:
    """A walk, a bit noisy."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield keyframe(i, pose(i + seed), SMALL, rng, noise=0.01)


def stats(memory: GaussianMemory) -> dict[str, int]:
    return {name: int(value) for name, value in memory.stats("s").items()}


def observe(memory: GaussianMemory, c2w: np.ndarray, seq: int = 0, nearer: float = 1.0) -> None:
    memory.observe("s", seq, CAMERA, c2w, look(c2w)[0] * np.float32(nearer))


NAMES = ("means", "quats", "scales", "opacities", "colors")
