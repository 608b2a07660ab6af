"""Brings a ``Masks`` record from the model's grid into its frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.pipeline.results import Masks


def masks_on_frame(
    masks: Masks, height: int, width: int, frame: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """[height, width]: per pixel 0 (background) or k + 1 for plane k of ``masks``.

    Probabilities are interpolated linearly, then the likeliest label wins; background where
    several are equally likely, and outside the grid. ``frame``: (height, width) of the frame where
    the picture asked for is a shrunk copy of it.
    """
    affine = masks.to_frame.astype(np.float64)
    if frame is not None:
        affine[0] *= width / frame[1]
        affine[1] *= height / frame[0]
    # Coordinates of the record put the centre of pixel i at i + 0.5, those of OpenCV at i.
    affine[:, 2] += affine[:, :2].sum(axis=1) / 2 - 0.5
    label = np.zeros((height, width), np.uint8)
    planes = [
        cv2.warpAffine(plane.astype(np.float32), affine, (width, height), flags=cv2.INTER_LINEAR)
        for plane in masks.probability
    ]
    best = 255 - sum(planes, np.zeros((height, width), np.float32))
    for value, plane in enumerate(planes, 1):
        likelier = plane > best
        label[likelier] = value
        np.maximum(best, plane, out=best)
    return label


def outlines(label: NDArray[np.uint8], value: int) -> list[NDArray[np.int32]]:
    """Closed outlines of ``value`` in a picture of labels, each int32 [N, 2] as (x, y) pixels."""
    found, _ = cv2.findContours(
        (label == value).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return [np.asarray(outline[:, 0], np.int32) for outline in found]
