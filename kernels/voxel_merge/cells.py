"""Voxels of eight sizes: which one a Gaussian lies in, as one integer.

A key holds the level (3 bits) and the cell's three indices (20 bits each): cells of 1 cm reach
5 km from the origin. Far surfaces are seen coarsely and get coarse cells: one size for all either
loses what is near or multiplies what is far.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 8
_BITS = 20
_HALF = 1 << (_BITS - 1)

Keys = NDArray[np.int64]


def levels(size: NDArray[np.floating], cell: float) -> Keys:
    """Level [N] of Gaussians that stand for ``size`` [N] metres of surface: the smallest cell,
    ``cell`` times a power of two, that is not smaller."""
    wanted = np.ceil(np.log2(np.maximum(size, 1e-12) / cell))
    level: Keys = np.clip(wanted, 0, LEVELS - 1).astype(np.int64)
    return level


def sides(level: Keys, cell: float) -> NDArray[np.float64]:
    """Metres [N] of the voxels' sides."""
    return cell * np.exp2(level.astype(np.float64))


def pack(means: NDArray[np.floating], level: Keys, cell: float) -> Keys:
    """Keys [N] of centres [N, 3] on their levels [N]; -1 for those beyond the grid."""
    index = np.floor(means / sides(level, cell)[:, None]) + _HALF
    inside = np.logical_and.reduce((index >= 0) & (index < 2 * _HALF), axis=1)
    x, y, z = np.where(inside[:, None], index, 0).astype(np.int64).T
    key = (level << (3 * _BITS)) | (x << (2 * _BITS)) | (y << _BITS) | z
    return np.asarray(np.where(inside, key, -1), np.int64)


def level_of(keys: Keys) -> Keys:
    """The level [N] that is packed in ``keys`` [N]."""
    return keys >> (3 * _BITS)
