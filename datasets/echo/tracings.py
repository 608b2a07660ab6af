"""Tracings of the left ventricle as EchoNet-Dynamic has them, and masks drawn from them and back.

A tracing is a list of segments (x1, y1, x2, y2) in pixels, pixel centres at whole numbers: first
the long axis, apex to base, then chords across the cavity from apex to base.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.volumes import find_axis

CHORDS = 20
"""Chords of a usual tracing."""

Tracing = NDArray[np.float64]
"""[1 + chords, 4]."""


def separate(rows: Tracing) -> list[Tracing]:
    """The tracings of one frame. Several lie one after the other, each 1 + CHORDS rows long.

    Rows that do not divide so are one tracing of an unusual length.
    """
    if len(rows) > 1 + CHORDS and len(rows) % (1 + CHORDS) == 0:
        return list(rows.reshape(-1, 1 + CHORDS, 4))
    return [rows]


def fill(tracing: Tracing, height: int, width: int) -> NDArray[np.bool_]:
    """bool [H, W]: the polygon along the chords' first ends and back along their second ends.

    OpenCV's filler on rounded points: pixels that the outline passes through are inside. Other
    fillers leave the outline out, which makes a cavity about a pixel narrower all around.
    """
    chords = tracing[1:]
    canvas = np.zeros((height, width), np.uint8)
    points = np.concatenate((chords[:, :2], chords[::-1, 2:])).clip(-1e6, 1e6)
    cv2.fillPoly(canvas, [points.round().astype(np.int32)], (1,))
    return canvas.astype(bool)


def trace(mask: NDArray[np.bool_]) -> Tracing:
    """The long axis and CHORDS chords of a mask [H, W], parallel to its mitral plane.

    Each chord goes from the first to the last pixel of the mask on its line.
    """
    axis = find_axis(mask, (1.0, 1.0))
    apex, base = (np.array(point[::-1]) for point in (axis.apex, axis.base))
    ends = np.array(sorted(end[::-1] for end in axis.mitral))
    across = ends[1] - ends[0]
    across = across / max(float(np.hypot(*across)), 1e-9)
    reach = np.arange(-max(mask.shape), max(mask.shape), 0.25)
    padded = np.pad(mask, 1)
    rows = [np.concatenate((apex, base))]
    for along in np.linspace(0, 1, CHORDS):
        middle = apex + along * (base - apex)
        line = middle + reach[:, None] * across
        at = np.clip(line.round().astype(int) + 1, 0, np.array(padded.shape[::-1]) - 1)
        inside = np.flatnonzero(padded[at[:, 1], at[:, 0]])
        pair = line[inside[[0, -1]]] if len(inside) else np.stack((middle, middle))
        rows.append(pair.ravel())
    return np.stack(rows)
