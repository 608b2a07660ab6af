"""Other views of the first frame to learn from as well: mirrored, and nearer."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from retain.models.object.track import Planes
from retain.pipeline.frame import Image

_WISHED, _NEAREST, _WORTH = 0.12, 2.0, 1.25
"""Share of the picture that a zoom would give the objects; the largest zoom, and the least that is
worth a view. A small object that comes nearer shows what the first frame does not resolve."""


def views(picture: Image, masks: Planes) -> Iterator[tuple[Image, Planes]]:
    """Pictures uint8 [H, W, 3] like ``picture`` with their masks [objects, H, W], in [0, 1]."""
    yield np.ascontiguousarray(picture[:, ::-1]), masks[..., ::-1]
    zoom = min(_NEAREST, float(np.sqrt(_WISHED / max(float(masks.sum(0).mean()), 1e-6))))
    if zoom >= _WORTH:
        yield nearer(picture, masks, zoom)


def nearer(picture: Image, masks: Planes, zoom: float) -> tuple[Image, Planes]:
    """Both magnified by ``zoom`` about the middle of the objects, as far as the frame reaches."""
    height, width = picture.shape[:2]
    mass = masks.sum(0)
    corner = []
    for axis, length in ((0, width), (1, height)):
        middle = float(np.average(np.arange(length) + 0.5, weights=mass.sum(axis)))
        seen = length / zoom
        corner.append(min(max(middle - seen / 2, 0.0), length - seen))
    # Pixel i has its centre at i + 0.5 in the frame, at i for OpenCV.
    shift = [-zoom * at + (zoom - 1) / 2 for at in corner]
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    layers = [
        cv2.warpAffine(layer, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        for layer in (picture, *masks)
    ]
    return layers[0], np.stack(layers[1:])
