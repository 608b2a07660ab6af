"""A keyframe to Gaussians: one disc on the surface per block of pixels, with a confidence.

The classic profile of docs/scene.md: no learned weights. The neural profile's heads give the same
record, from pictures without depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.frame import Image

Floats = NDArray[np.float32]

SPREAD = 0.6
"""Standard deviation of a disc along the surface, in blocks: neighbours overlap without blur."""
FLATNESS = 0.15
"""Thickness of a disc as a share of its spread: discs follow surfaces, spheres cut into them."""
OPACITY = 0.97
EDGE = 0.04
"""Change of depth over a block, as a share of it, from which the block straddles two surfaces."""
NEAR, FAR = 0.1, 6.0
"""Metres between which a depth sensor is trusted."""
SURE = 1.5
"""Metres up to which depth counts fully; beyond, its variance grows with the fourth power."""
GRAIN = np.float32(0.7)
"""Share of a block that a cell of the map may be: what lies closer is merged."""
MIXED = 0.25
"""Trust in a block on a depth edge, against one on a surface."""
GUESSED = 0.02
"""Trust in a block whose depth is a guess: anything measured outweighs it."""
REACH = 48
"""Pixels: how far from something measured depth is guessed."""
GRAZING = 0.1
"""Least cosine to the surface that a confidence is lowered to."""


@dataclass(frozen=True, slots=True)
class Built:
    """Gaussians of one picture, world coordinates, [N] each, in rows of the picture."""

    gaussians: Gaussians
    confidence: Floats
    """[N] in (0, 1]: min(1, (1.5 m / z)^2) times the cosine to the surface."""
    normals: Floats
    """[N, 3], unit, towards the camera."""
    size: Floats
    """[N] metres, the grain of the surface as it was seen: what levels of the map are chosen by."""


def build(
    image: Image,
    depth: Floats,
    camera: Camera,
    c2w: NDArray[np.float64],
    labels: NDArray[np.uint8] | None = None,
    codes: Floats | None = None,
    *,
    step: int = 2,
    far: float = FAR,
    unit: float = 1.0,
) -> Built:
    """One Gaussian per ``step`` x ``step`` block of pixels.

    ``image`` uint8 [H, W, 3]; ``depth`` float32 [H, W] metres, 0 unknown, negative guessed (see
    ``complete``); ``camera`` of both; ``codes`` float32, when the map keeps them, are [K, 16] with
    ``labels`` uint8 [H, W] their rows, or a grid [h, w, 16] that covers the picture evenly;
    ``unit``: what counts as a metre.
    """
    height, width = depth.shape[0] // step, depth.shape[1] // step
    z, colors, trust = _blocks(image, depth, step, height, width)
    small = Camera(camera.fx / step, camera.fy / step, camera.cx / step, camera.cy / step,
                   width, height)  # fmt: skip
    points = small.unproject(z)
    normals, facing = _normals(points, small)
    trust = np.where(_calm(z), trust, trust * MIXED)
    rows = np.flatnonzero((z > NEAR * unit) & (z < far * unit) & (facing > 0))

    z, facing, trust = (plane.reshape(-1)[rows] for plane in (z, facing, trust))
    turned = normals.reshape(-1, 3)[rows] @ c2w[:3, :3].T.astype(np.float32)
    size = (step * z / camera.fx).astype(np.float32)
    gaussians = Gaussians(
        means=rigid.transform(c2w, points.reshape(-1, 3)[rows]).astype(np.float32),
        quats=onto(turned),
        scales=np.stack([SPREAD * size, SPREAD * size, FLATNESS * SPREAD * size], axis=1),
        opacities=np.full(len(rows), OPACITY, np.float32),
        colors=colors.reshape(-1, 3)[rows] / np.float32(255),
        codes=None if codes is None else _codes(labels, codes, step, height, width)[rows],
    )
    sure = np.minimum(1, (SURE * unit / z) ** 2) * np.maximum(facing, GRAZING) * trust
    return Built(gaussians, sure.astype(np.float32), turned, GRAIN * size)


def complete(depth: Floats, reach: int = REACH) -> Floats:
    """``depth`` [H, W] with holes filled by guesses, which are negative.

    A sensor sees nothing of dark, shiny and near-edge surfaces, nor where its field of view ends
    before the colour camera's. Means over ever coarser blocks fill what is at most ``reach`` pixels
    from something known; the rest stays 0.
    """
    known = depth > 0
    if known.all() or not known.any():
        return depth
    levels = [(depth, known.astype(np.float32))]
    while not levels[-1][1].all():  # or what is known nowhere near would fade to nothing
        height, width = ((side + 1) // 2 for side in levels[-1][0].shape)
        value, weight = (cv2.resize(a, (width, height), interpolation=cv2.INTER_AREA)
                         for a in (levels[-1][0] * levels[-1][1], levels[-1][1]))  # fmt: skip
        levels.append((np.divide(value, weight, out=np.zeros_like(value), where=weight > 0),
                       (weight > 0).astype(np.float32)))  # fmt: skip
    guess = levels[-1][0]
    for value, weight in reversed(levels[:-1]):
        up = cv2.resize(guess, value.shape[::-1], interpolation=cv2.INTER_LINEAR)
        guess = np.where(weight > 0, value, up)
    near = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 3) <= reach
    return np.where(known, depth, np.where(near, -guess, 0)).astype(np.float32)


def onto(normals: Floats) -> Floats:
    """Quaternions [N, 4] wxyz that turn the z axis onto ``normals`` [N, 3] the short way."""
    x, y, z = normals.T
    w = 1 + z
    flipped = w < 1e-6
    quats = np.stack([np.where(flipped, 0, w), np.where(flipped, 1, -y), x, np.zeros_like(x)], 1)
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    return quats.astype(np.float32)


def _blocks(
    image: Image, depth: Floats, step: int, height: int, width: int
) -> tuple[Floats, Floats, Floats]:
    """Depth, colour [h, w, 3] and trust of each block.

    The mean, where its pixels are of one surface; where they are of two, the nearest pixel alone,
    trusted less: a mean of both would float between them. Blocks nothing is measured in have the
    mean of their guesses, trusted least.
    """
    h, w = height * step, width * step
    tiles = depth[:h, :w].reshape(height, step, width, step).swapaxes(1, 2)
    tiles = tiles.reshape(height, width, step * step)
    known = np.maximum(tiles, 0)
    count = (tiles > 0).sum(axis=2)
    measured = known.sum(axis=2) / np.maximum(count, 1)
    near = np.where(tiles > 0, tiles, np.inf).min(axis=2)
    mixed = (known.max(axis=2) - near > EDGE * measured) & (count > 0)
    guessed = -np.minimum(tiles, 0).sum(axis=2) / np.maximum((tiles < 0).sum(axis=2), 1)
    z = np.where(mixed, near, np.where(count > 0, measured, guessed))
    colors = cv2.resize(image[:h, :w], (width, height), interpolation=cv2.INTER_AREA)
    pixels = image[:h, :w].reshape(height, step, width, step, 3).swapaxes(1, 2)
    pixels = pixels.reshape(height, width, step * step, 3)
    first = np.where(tiles > 0, tiles, np.inf).argmin(axis=2)
    at = np.nonzero(mixed)
    colors = colors.copy()
    colors[at] = pixels[(*at, first[at])]
    trust = np.where(mixed, MIXED, np.where(count > 0, 1.0, GUESSED))
    return z.astype(np.float32), colors.astype(np.float32), trust.astype(np.float32)


def _calm(z: Floats) -> NDArray[np.bool_]:
    """Where no depth edge passes: the Sobel slope over a block stays under ``EDGE`` of the depth.

    The slope of a plane seen at a grazing angle counts as an edge too: its depth is poor.
    """
    x = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    y = cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    calm: NDArray[np.bool_] = np.hypot(x, y) < EDGE * z
    return calm


def _normals(points: Floats, camera: Camera) -> tuple[Floats, Floats]:
    """Unit normals [h, w, 3] in camera coordinates, towards it, and their cosine to the ray [h, w].

    From central differences of points smoothed over 3 x 3: the sensor's noise is larger than the
    distance of neighbours.
    """
    smooth = cv2.blur(points, (3, 3), borderType=cv2.BORDER_REPLICATE)
    dx = np.empty_like(points)
    dy = np.empty_like(points)
    dx[:, 1:-1] = smooth[:, 2:] - smooth[:, :-2]
    dx[:, 0], dx[:, -1] = dx[:, 1], dx[:, -2]
    dy[1:-1] = smooth[2:] - smooth[:-2]
    dy[0], dy[-1] = dy[1], dy[-2]
    normals = np.cross(dy, dx)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    rays = camera.rays()
    rays = rays / np.linalg.norm(rays, axis=2, keepdims=True)
    cosine = -np.einsum("hwc,hwc->hw", normals, rays)
    turned = np.where(cosine[..., None] < 0, -normals, normals)
    return turned.astype(np.float32), np.abs(cosine).astype(np.float32)


def _codes(
    labels: NDArray[np.uint8] | None, codes: Floats, step: int, height: int, width: int
) -> Floats:
    """The code of each block's middle pixel: [h * w, 16], unit or zero; zero without labels. Codes
    of two classes mixed at an edge would name a third, so nothing is averaged but between the
    places of a coarse grid, which are mixtures already."""
    if codes.ndim == 3:
        return _of_grid(codes, height, width)
    if labels is None:
        return np.zeros((height * width, codes.shape[1]), np.float32)
    middle = labels[step // 2 :: step, step // 2 :: step][:height, :width].reshape(-1)
    return np.ascontiguousarray(codes[np.minimum(middle, len(codes) - 1)], np.float32)


def _of_grid(grid: Floats, height: int, width: int) -> Floats:
    """A grid [h, w, 16] at ``height`` x ``width`` blocks that cover the same, as unit rows."""
    finer = grid.shape[0] >= height and grid.shape[1] >= width
    at = [np.minimum(((np.arange(n) + 0.5) * side / n).astype(int), side - 1)
          for n, side in zip((height, width), grid.shape, strict=False)]  # fmt: skip
    if finer:
        rows = grid[np.ix_(*at)]
    else:
        planes = [cv2.resize(np.ascontiguousarray(grid[..., k]), (width, height),
                             interpolation=cv2.INTER_LINEAR)
                  for k in range(grid.shape[2])]  # fmt: skip
        rows = np.stack(planes, axis=2)
    rows = rows.reshape(height * width, -1)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-6))
