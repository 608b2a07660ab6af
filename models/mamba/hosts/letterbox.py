"""A picture brought to a detector's input: scaled, its corner kept at (0, 0), the rest grey."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from retain.datasets.detect.base import Size
from retain.pipeline.frame import Image

STRIDE = 32
"""Of the coarsest feature map: what width and height of an input must be multiples of."""
GREY = 114
"""What YOLOX was trained to see beside a picture."""


class Letterbox(NamedTuple):
    """How a picture of one size is brought in. Sizes are width and height in pixels."""

    scale: float
    """Pixels of the input per pixel of the picture."""
    inner: Size
    """Of the scaled picture."""
    outer: Size
    """Of the input: ``inner`` and grey to the right and below."""


def letterbox(size: Size, side: int) -> Letterbox:
    """The longest side becomes ``side``; grey fills up to the next multiple of STRIDE."""
    longest = max(size)
    width, height = (max(1, n * side // longest) for n in size)
    return Letterbox(side / longest, (width, height), (_up(width), _up(height)))


def _up(n: int) -> int:
    return -(-n // STRIDE) * STRIDE


def boxed(image: Image, plan: Letterbox) -> Image:
    """``image`` as ``plan`` says: uint8 [H, W, 3]. Bilinear without averaging, as YOLOX's own."""
    width, height = plan.inner
    out = np.full((plan.outer[1], plan.outer[0], 3), GREY, np.uint8)
    out[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return out
