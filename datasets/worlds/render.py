"""Discs with soft edges, over lines and ground that are under a quarter of full scale.

An edge is a ramp one pixel wide, from the distance between the pixel's centre and the outline.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]

FAINT = np.float32(0.2)
"""Brightness of what is not an object: less than the quarter that reading centres takes off."""
_ROD = 0.04
"""Half a rod's width, as a share of the side."""


def pixels(side: int) -> Frames:
    """Where pixel centres lie: pixel i covers i..i+1."""
    return np.arange(side, dtype=np.float32) + np.float32(0.5)


def discs(centres: Frames, radius: Frames, side: int) -> Frames:
    """Coverage [..., S, S] of discs, centres [..., 2] and radii [...] in pixels."""
    across, down = _offsets(centres, side)
    return _ramp(radius[..., None, None] - np.sqrt(np.square(across) + np.square(down)))


def ground(through: Frames, slope: Frames, side: int) -> Frames:
    """Coverage [..., S, S] of what lies under lines through points [..., 2] at ``slope`` [...]."""
    across, down = _offsets(through, side)
    turn = slope[..., None, None]
    return _ramp(np.cos(turn) * down - np.sin(turn) * across)


def rods(ends: Frames, side: int) -> Frames:
    """Coverage [..., S, S] of lines from the picture's middle to points [..., 2]."""
    across, down = _offsets(np.full(2, side / 2, np.float32), side)
    x, y = np.moveaxis(ends - np.float32(side / 2), -1, 0)[..., None, None]
    along = np.clip((across * x + down * y) / np.maximum(x * x + y * y, 1e-6), 0, 1)
    far = np.sqrt(np.square(across - along * x) + np.square(down - along * y))
    return _ramp(np.float32(_ROD * side) - far)


def _offsets(points: Frames, side: int) -> tuple[Frames, Frames]:
    """Of every pixel from points [..., 2]: across [..., 1, S] and down [..., S, 1]."""
    grid = pixels(side)
    return (grid - points[..., :1])[..., None, :], (grid - points[..., 1:])[..., :, None]


def _ramp(inside: NDArray[np.floating]) -> Frames:
    """Coverage by the distance inside an outline."""
    return np.clip(inside + np.float32(0.5), 0, 1).astype(np.float32, copy=False)
