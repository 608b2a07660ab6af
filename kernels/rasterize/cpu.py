"""The rasteriser on the CPU, arrays in and out: project, tile, blend, and the three backwards.

Every stage is shared out over threads; whatever their number, the results have the same bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.kernels.rasterize import cpu_blend, cpu_project, cpu_tiles
from retain.kernels.rasterize.threads import share_out

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
TILE, CHANNELS = cpu_blend.TILE, cpu_blend.CHANNELS
_GAUSSIANS = 8192
"""Gaussians that a thread takes at once. Not to be made to depend on the machine: the gradient of
a camera is summed share by share."""
_TILES = 16
"""Tiles that a thread takes at once."""


class Projected(NamedTuple):
    """N Gaussians in C cameras; zero where one is not drawn.

    radii          int32 [C, N, 2], pixels
    means2d        float32 [C, N, 2], pixels
    depths         float32 [C, N], metres
    conics         float32 [C, N, 3]: xx, xy, yy of the inverse covariance
    compensations  float32 [C, N]: what antialiasing multiplies opacities by
    """

    radii: Ints
    means2d: Floats
    depths: Floats
    conics: Floats
    compensations: Floats


class Tiles(NamedTuple):
    """Which of the M Gaussians that are drawn lie over which tile.

    order    int32 [M], nearest first
    starts   int32 [tiles + 1]: where each tile's list begins in ``slots``
    slots    int32 [places], indices into ``order``
    numbers  int32 [places], of the pair of tile and Gaussian, counted from Gaussian to Gaussian
    firsts   int32 [M + 1]: the number where each Gaussian's pairs begin; some are not used
    """

    order: Ints
    starts: Ints
    slots: Ints
    numbers: Ints
    firsts: Ints

    def packed(self) -> Ints:
        """All in one array."""
        sizes = np.array([len(part) for part in self], np.int32)
        return np.concatenate([sizes, *self])

    @staticmethod
    def unpacked(packed: Ints) -> tuple[Tiles, Ints]:
        """What ``packed`` begins with, and the rest."""
        ends = np.cumsum(packed[:5]) + 5
        *parts, rest = np.split(packed, [5, *ends])[1:]
        return Tiles(*parts), rest


class Picture(NamedTuple):
    """image [H, W, D] and left (transmittance) [H, W] float32; reached int32 [H, W]: how many of
    its tile's Gaussians a pixel came to; splats float32 [M, 8 + D]: as they were drawn."""

    image: Floats
    left: Floats
    reached: Ints
    tiles: Tiles
    splats: Floats


def project(
    means: Floats, quats: Floats, scales: Floats, covars: Floats, opacities: Floats,
    views: NDArray[np.floating], Ks: NDArray[np.floating], width: int, height: int,
    near: float, far: float, clip: float, blur: float, antialiased: bool,
) -> Projected:  # fmt: skip
    """``means`` [N, 3] and so on; ``covars`` [N, 6], or [0, 6] to use ``quats`` and ``scales``."""
    n, c = len(means), len(views)
    out = Projected(
        np.empty((c, n, 2), np.int32),
        np.empty((c, n, 2), np.float32),
        np.empty((c, n), np.float32),
        np.empty((c, n, 3), np.float32),
        np.empty((c, n), np.float32),
    )
    share_out(
        cpu_project.forward, n, _GAUSSIANS, means, quats, scales, covars, opacities,
        views.astype(np.float64), Ks.astype(np.float64), width, height,
        np.array([near, far, clip, blur]), antialiased,
        out.radii, out.means2d, out.depths, out.conics, out.compensations,
    )  # fmt: skip
    return out


def project_backward(
    means: Floats, quats: Floats, scales: Floats, covars: Floats, views: Floats, Ks: Floats,
    width: int, height: int, blur: float, radii: Ints,
    d_means2d: Floats, d_depths: Floats, d_conics: Floats, d_compensations: Floats,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:  # fmt: skip
    """Gradients of means, quats, scales, covars and views."""
    shares = -(-len(means) // _GAUSSIANS)
    d_views = np.zeros((shares, len(views), 3, 4))
    grads = [np.zeros(x.shape, np.float32) for x in (means, quats, scales, covars)]
    share_out(
        cpu_project.backward, len(means), _GAUSSIANS, _GAUSSIANS, means, quats, scales, covars,
        views.astype(np.float64), Ks.astype(np.float64), width, height, blur, radii,
        d_means2d, d_depths, d_conics, d_compensations, *grads, d_views,
    )  # fmt: skip
    d_view = np.zeros((len(views), 4, 4), np.float32)
    d_view[:, :3] = d_views.sum(axis=0)
    return (*grads, d_view)  # type: ignore[return-value]


def pixels(
    means2d: Floats, depths: Floats, conics: Floats, opacities: Floats, radii: Ints,
    background: Floats, colors: Floats, width: int, height: int, with_depth: bool,
) -> Picture:  # fmt: skip
    """One picture of ``means2d`` [N, 2], ``colors`` [N, D] and so on. ``background`` [D], or an
    empty array for none; depth, the last channel with ``with_depth``, has none.

    Raises ValueError for more pairs of Gaussian and tile than can be counted.
    """
    order = cpu_tiles.by_depth(depths, radii)
    channels = colors.shape[1] + with_depth
    # Zeros, because the operator returns it and its eighth column is only there to align by.
    splats = np.zeros((len(order), CHANNELS + channels), np.float32)
    room = np.empty(len(order), np.int32)
    share_out(
        cpu_tiles.prepare, len(order), _GAUSSIANS, order, means2d, conics, opacities, colors,
        depths, width, height, splats, room,
    )  # fmt: skip
    tiles = _tile(order, splats, room, width, height)
    image = np.empty((height, width, channels), np.float32)
    left = np.empty((height, width), np.float32)
    reached = np.empty((height, width), np.int32)
    share_out(
        cpu_blend.forward, len(tiles.starts) - 1, _TILES, tiles.starts, tiles.slots, splats,
        _beyond(background, channels), image, left, reached,
    )  # fmt: skip
    return Picture(image, left, reached, tiles, splats)


def _tile(order: Ints, splats: Floats, room: Ints, width: int, height: int) -> Tiles:
    count = -(-width // TILE) * -(-height // TILE)
    pairs = int(room.sum(dtype=np.int64))
    if pairs >= 2**31:
        raise ValueError(
            f"{len(order)} Gaussians lie over {pairs} tiles in all, more than 2^31: most of them "
            "cover the picture. Check scales and camera, or draw fewer at a time."
        )
    firsts, tiles = np.empty(len(order) + 1, np.int32), np.empty(pairs, np.int32)
    cpu_tiles.offsets(room, firsts)
    counts = np.zeros((-(-len(order) // _GAUSSIANS), count), np.int32)
    share_out(
        cpu_tiles.list_tiles, len(order), _GAUSSIANS, _GAUSSIANS, splats, width, height, firsts,
        tiles, counts,
    )  # fmt: skip
    starts = np.empty(count + 1, np.int32)
    cpu_tiles.begins(counts, starts)
    slots, numbers = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
    share_out(
        cpu_tiles.scatter, len(order), _GAUSSIANS, _GAUSSIANS, firsts, tiles, counts, slots, numbers
    )
    return Tiles(order, starts, slots, numbers, firsts)


def pixels_backward(
    d_image: Floats, d_alpha: Floats, means2d: Floats, depths: Floats, conics: Floats,
    opacities: Floats, background: Floats, left: Floats, reached: Ints,
    tiles: Tiles, splats: Floats, d_colors: Floats, absolute: bool,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:  # fmt: skip
    """Gradients of means2d, depths, conics and opacities, and if ``absolute`` the sums over pixels
    of the magnitudes of the first [N, 2], else [0, 2]; that of colours is added to ``d_colors``
    [N, D]."""
    channels = d_image.shape[2]
    pairs = int(tiles.firsts[-1])
    parts = np.empty((pairs, CHANNELS + -(-channels // 4) * 4), np.float32)
    touched = np.zeros(pairs, np.uint8)
    share_out(
        cpu_blend.backward, len(tiles.starts) - 1, _TILES, tiles.starts, tiles.slots, tiles.numbers,
        splats, _beyond(background, channels), left, reached, d_image, d_alpha, parts, touched,
        absolute,
    )  # fmt: skip
    d_means2d, d_depths, d_conics, d_opacities = (
        np.zeros(x.shape, np.float32) for x in (means2d, depths, conics, opacities)
    )
    d_absolute = np.zeros((len(means2d) if absolute else 0, 2), np.float32)
    with_depth = channels > d_colors.shape[1]
    share_out(
        cpu_blend.gather, len(tiles.order), _GAUSSIANS, tiles.order, tiles.firsts, parts, touched,
        conics, opacities, d_means2d, d_conics, d_opacities, d_colors,
        d_depths if with_depth else d_depths[:0], d_absolute,
    )  # fmt: skip
    return d_means2d, d_depths, d_conics, d_opacities, d_absolute


def _beyond(background: Floats, channels: int) -> Floats:
    if background.ndim > 1:  # none
        return np.zeros(channels, np.float32)
    return np.pad(background, (0, channels - len(background)))
