"""What cameras do to a room's truth: exposure and colour that wander, noise; and a depth sensor's
noise, holes and shift. All of it a function of the room's seed and the frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry.camera import Camera
from retain.pipeline.frame import Image

Array = NDArray[np.float64]
Depth = NDArray[np.float32]

_EXPOSURE, _BALANCE = 0.14, 0.04
"""Of the logarithms of the gain and of each colour's gain."""
_SHOT, _READ = 1.6, 1.2
"""Noise of a bright pixel and of a dark one, in levels of 255."""
_GRAZING = 0.2
"""Cosine between surface and ray below which nothing comes back to a depth sensor (78 degrees)."""
_SHIFT = 1.5 / 320
"""Largest shift of depth against colour, in picture widths."""


def gains(seed: int, index: int) -> Array:
    """[3] factors of the linear RGB at a frame: they wander smoothly from frame to frame."""
    rng = np.random.default_rng([seed, 0x6A15])
    out = np.zeros(4)
    for period in (47.0, 83.0, 139.0):
        out += np.sin(2 * np.pi * index / period + rng.uniform(0, 2 * np.pi, 4)) / 1.7
    return np.asarray(np.exp(_EXPOSURE * out[0] + _BALANCE * out[1:]))


def noisy(image: Image, seed: int, index: int) -> Image:
    """With a sensor's noise, more where it is bright."""
    rng = np.random.default_rng([seed, index, 0x4015E])
    level = image.astype(np.float32)
    size = np.float32(_READ) + np.float32(_SHOT) * np.sqrt(level / 255)
    level += size * rng.standard_normal(image.shape, np.float32)
    return np.clip(level + np.float32(0.5), 0, 255).astype(np.uint8)


def covered(height: int, width: int, seed: int, index: int) -> Image:
    """A hand over the lens: black with noise."""
    return noisy(np.full((height, width, 3), 3, np.uint8), seed, index)


def depth_sensor(
    depth: Depth, normals: NDArray[np.float32], camera: Camera, c2w: Array, seed: int, index: int
) -> Depth:
    """Depth [H, W] as structured light measures it; 0 for holes.

    Noise of 0.0012 + 0.0019 (z - 0.4)^2 metres (Nguyen et al. 2012, axial), holes on surfaces seen
    at a grazing angle, and a shift of up to 1.5 pixels of 320 against the colour, one for a room.
    """
    rays = camera.rays()
    facing = -np.einsum("hwi,hwi->hw", rays @ c2w[:3, :3].T.astype(np.float32), normals)
    facing /= np.linalg.norm(rays, axis=2)
    rng = np.random.default_rng([seed, index, 0xDE9])
    size = 0.0012 + 0.0019 * (depth - 0.4) ** 2
    measured = depth + size * rng.standard_normal(depth.shape, np.float32)
    measured = np.where(facing < _GRAZING, 0, np.maximum(measured, 0)).astype(np.float32)
    shift = np.random.default_rng([seed, 0x5417]).uniform(-_SHIFT, _SHIFT, 2) * camera.width
    return _shifted(measured, *(round(float(pixels)) for pixels in shift))


def _shifted(depth: Depth, right: int, down: int) -> Depth:
    """Moved by whole pixels; 0 comes in at the sides."""
    height, width = depth.shape
    out = np.zeros_like(depth)
    rows = slice(max(down, 0), height + min(down, 0))
    columns = slice(max(right, 0), width + min(right, 0))
    out[rows, columns] = depth[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return out
