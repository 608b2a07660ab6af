"""Decoded pictures of any pixel format to RGB, upright."""

from __future__ import annotations

from typing import Any

import numpy as np

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Image

Orientation = tuple[bool, bool, bool]
"""Transpose, then flip rows, then flip columns."""
UPRIGHT: Orientation = (False, False, False)


class ToRgb:
    """Convert PyAV frames to uint8 [H, W, 3] RGB with one scaler context.

    swscale honours the frame's colour matrix and range; 10-bit and deeper formats are rounded to
    8, grey is repeated, alpha is dropped. One thread: at these sizes a second costs more than it
    brings, and the pipeline has other work for the cores.
    """

    def __init__(self, max_side: int) -> None:
        from av.video.reformatter import VideoReformatter

        self.max_side = max_side
        self.orientation = UPRIGHT
        self._scaler = VideoReformatter()
        self._shape = (0, 0)

    def __call__(self, frame: Any) -> Image:
        """Raises SourceError(TOO_LARGE) before anything of that size is allocated."""
        width, height = frame.width, frame.height
        if (height, width) != self._shape:
            check_side(width, height, self.max_side)
            self._shape = (height, width)
            self.orientation = orientation(frame)
        plane = self._scaler.reformat(frame, format="rgb24", threads=1).planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        image = np.ascontiguousarray(rows[:height, : width * 3]).reshape(height, width, 3)
        if self.orientation != UPRIGHT:
            image = oriented(image, self.orientation)
        return image


def check_side(width: int, height: int, max_side: int) -> None:
    """Raise SourceError(TOO_LARGE) when a side exceeds ``max_side`` pixels."""
    if max(width, height) > max_side:
        raise SourceError(
            SourceFault.TOO_LARGE,
            f"A picture of {width}x{height} pixels exceeds the limit of {max_side} per side.",
            hint="If it is meant, raise the source option max_side.",
        )


def orientation(frame: Any) -> Orientation:
    """How to turn a decoded frame upright, from its display matrix (ISO 14496-12, 8.2.2).

    The matrix maps a stored point (x, y) to (a x + c y, b x + d y). Only quarter turns and
    mirrorings are honoured; any other angle is for a player to show, not for pixels to follow.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if a == d == 0 and b and c:
        return True, b < 0, c < 0
    if b == c == 0 and a and d:
        return False, d < 0, a < 0
    return UPRIGHT


def oriented(image: Image, how: Orientation) -> Image:
    """``image`` transposed and flipped, C-contiguous."""
    transpose, flip_rows, flip_columns = how
    if transpose:
        image = image.transpose(1, 0, 2)
    if flip_rows:
        image = image[::-1]
    if flip_columns:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
