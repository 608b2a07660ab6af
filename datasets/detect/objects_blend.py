# mypy: disallow-untyped-decorators=False
"""Layers over each other: the inner loops of the procedural videos."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_HALF = 127
_compiled = njit(cache=True, nogil=True)


@_compiled
def over(below: Pixels, layer: Pixels, left: int, top: int) -> None:
    """Lay ``layer`` [h, w, 4], premultiplied, on ``below`` [H, W, 3 or 4] at (left, top), which may
    be outside."""
    height, width, channels = below.shape
    for y in range(max(0, -top), min(layer.shape[0], height - top)):
        for x in range(max(0, -left), min(layer.shape[1], width - left)):
            alpha = layer[y, x, 3]
            if alpha == 0:
                continue
            rest = 255 - alpha
            for c in range(channels):
                # Exact division by 255 of what fits 16 bits, rounded.
                value = below[top + y, left + x, c] * rest + 128
                value = ((value >> 8) + value) >> 8
                below[top + y, left + x, c] = min(255, layer[y, x, c] + value)


@_compiled
def own(owner: Pixels, layer: Pixels, left: int, top: int, name: int) -> int:
    """Write ``name`` into ``owner`` [H, W] where ``layer`` is more than half opaque. Returns how
    many such pixels it has inside the frame."""
    height, width = owner.shape
    count = 0
    for y in range(max(0, -top), min(layer.shape[0], height - top)):
        for x in range(max(0, -left), min(layer.shape[1], width - left)):
            if layer[y, x, 3] > _HALF:
                owner[top + y, left + x] = name
                count += 1
    return count


@_compiled
def gather(total: NDArray[np.uint16], image: Pixels) -> None:
    """total += image, both [H, W, 3]."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for c in range(3):
                total[y, x, c] += image[y, x, c]


@_compiled
def expose(
    total: NDArray[np.uint16], shares: int, grain: NDArray[np.int8], left: int, top: int
) -> Pixels:
    """The mean of ``shares`` pictures plus sensor grain, a tile [h, w, 3] begun at (left, top)."""
    height, width, _ = total.shape
    out = np.empty((height, width, 3), np.uint8)
    tall, wide = grain.shape[:2]
    for y in range(height):
        for x in range(width):
            for c in range(3):
                value = (total[y, x, c] + shares // 2) // shares
                value = np.int32(value) + grain[(y + top) % tall, (x + left) % wide, c]
                out[y, x, c] = min(255, max(0, value))
    return out
