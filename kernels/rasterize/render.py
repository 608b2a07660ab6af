"""A map seen by a camera, for loops that need no gradients: arrays in and out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize import cpu
from retain.kernels.rasterize.gaussians import Gaussians

Floats = NDArray[np.float32]
_NO_COVARS = np.empty((0, 6), np.float32)
_NO_BACKGROUND = np.empty((0, 6), np.float32)


class Rendered(NamedTuple):
    """color [H, W, D], depth [H, W] (expected, metres; 0 where nothing is) and alpha [H, W]."""

    color: Floats
    depth: Floats
    alpha: Floats


def render(
    gaussians: Gaussians,
    camera: Camera,
    c2w: ArrayLike,
    *,
    background: ArrayLike | None = None,
    channels: Floats | None = None,
    near: float = 0.01,
    far: float = 1e10,
) -> Rendered:
    """What ``camera`` at ``c2w`` [4, 4] sees of ``gaussians``; float32.

    ``channels`` [N, D] are drawn in place of the colours (language codes, ids, ...);
    ``background`` [D] lies behind everything, black if None. Raises ValueError for shapes that do
    not fit.
    """
    shades = np.ascontiguousarray(gaussians.colors if channels is None else channels, np.float32)
    if shades.ndim != 2 or len(shades) != len(gaussians):
        raise ValueError(f"channels must be [{len(gaussians)}, D], got {list(shades.shape)}.")
    beyond = _NO_BACKGROUND
    if background is not None:
        beyond = np.ascontiguousarray(background, np.float32)
        if len(beyond) != shades.shape[1]:
            raise ValueError(f"background must be [{shades.shape[1]}], got {list(beyond.shape)}.")
    side = (camera.width, camera.height)
    means, quats, scales, opacities = map(
        np.ascontiguousarray,
        (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities),
    )
    projected = cpu.project(
        means, quats, scales, _NO_COVARS, opacities,
        rigid.inverse(c2w)[None], camera.K[None], *side, near, far, 0.0, 0.3, False,
    )  # fmt: skip
    radii, means2d, depths, conics, _ = (each[0] for each in projected)
    picture = cpu.pixels(
        means2d, depths, conics, opacities, radii, beyond, shades, *side, with_depth=True
    )
    alpha = 1 - picture.left
    depth = picture.image[..., -1] / np.maximum(alpha, 1e-10)
    return Rendered(picture.image[..., :-1], depth, alpha)
