"""Discs, and faint lines under a quarter of full scale, with soft edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]

FAINT = 0.2
"""Brightness of what is not an object: less than the quarter that reading positions takes off."""


def pixels(side: int) -> Frames:
    """Where pixel centres lie: pixel i covers i..i+1."""
    return np.arange(side, dtype=np.float32) + np.float32(0.5)


def discs(centres: Frames, radius: Frames, side: int) -> Frames:
    """Coverage [..., S, S] of discs, centres [..., 2] and radii [...] in pixels.

    The edge is a ramp one pixel wide across the circle.
    """
    grid = pixels(side)
    across = np.square(grid - centres[..., :1])
    down = np.square(grid - centres[..., 1:])
    far = np.sqrt(down[..., :, None] + across[..., None, :])
    covered: Frames = np.clip(radius[..., None, None] + np.float32(0.5) - far, 0, 1)
    return covered
