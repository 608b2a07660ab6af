"""Where the object should be, and where its edge runs: motion, fusion, edge-aware refinement."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.pipeline.frame import Image

Planes = NDArray[np.float32]
"""float32 [objects, h, w] in [0, 1]."""
Grey = NDArray[np.uint8]
_THERE = 0.5
"""A mask that is nowhere likelier than that is of no object."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How appearance and motion are weighed, and edges followed."""

    prior: float = 1.0
    """Of the log odds of the mask that motion brings along; 0: appearance alone."""
    blur: float = 1.0
    """Cells by which a moved mask is blurred: how wrong motion may be."""
    doubt: float = 0.02
    """The least probability that motion gives anything."""
    wary: float = 2.0
    """Log odds that an object which was not seen must have more to be found again."""
    radius: int = 6
    """Of the guided filter, in cells of half the working picture; 0: none."""
    smooth: float = 1e-3
    """Variance of colour (of 1) below which the guided filter sees no edge."""


def grey_of(picture: Image) -> Grey:
    """uint8 [H / 2, W / 2] of a working picture: what motion is measured on."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def moved(planes: Planes, before: Grey, now: Grey) -> Planes:
    """``planes`` of the frame ``before`` brought to ``now`` along dense optical flow (DIS)."""
    measure = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = measure.calc(now, before, None)  # type: ignore[call-overload]
    height, width = planes.shape[1:]
    flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x += flow[..., 0] * (width / now.shape[1])
    y += flow[..., 1] * (height / now.shape[0])
    return np.stack(
        [
            cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for plane in planes
        ]
    )


def fused(seen: Planes, prior: Planes | None, trust: Trust) -> Planes:
    """Probabilities of log odds ``seen`` and masks brought along, [objects, h, w] each.

    An object that was nowhere in the last frame, or of which nothing is known (None), may be
    anywhere: motion says nothing of it then, and appearance alone must be surer.
    """
    odds = np.clip(seen, -8, 8)
    for k in range(len(odds)):
        if prior is None or prior[k].max(initial=0.0) < _THERE:
            odds[k] -= trust.wary
        elif trust.prior:
            likely = cv2.GaussianBlur(prior[k], (0, 0), trust.blur)
            likely = likely.clip(trust.doubt, 1 - trust.doubt)
            odds[k] += trust.prior * np.log(likely / (1 - likely))
    return np.asarray(1 / (1 + np.exp(-odds)), np.float32)


def guided(guide: NDArray[np.float32], plane: Planes, radius: int, smooth: float) -> Planes:
    """``plane`` [h, w] made to follow the edges of ``guide`` [h, w, 3] in [0, 1].

    He, Sun and Tang, "Guided image filtering" (TPAMI 2013), in colour: within each window the
    output is an affine function of the guide.
    """

    def mean(x: NDArray[np.floating]) -> NDArray[np.float32]:
        size = (2 * radius + 1, 2 * radius + 1)
        return np.asarray(cv2.boxFilter(x, -1, size, borderType=cv2.BORDER_REFLECT))

    middle, level = mean(guide), mean(plane)
    joint = mean(guide * plane[..., None]) - middle * level[..., None]
    rr, rg, rb, gg, gb, bb = (
        mean(guide[..., i] * guide[..., j]) - middle[..., i] * middle[..., j] + smooth * (i == j)
        for i in range(3)
        for j in range(i, 3)
    )
    # The inverse of the symmetric 3x3 covariance, by its cofactors.
    a, b, c = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    d, e, f = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    size = rr * a + rg * b + rb * c
    x, y, z = joint[..., 0], joint[..., 1], joint[..., 2]
    slope = np.stack([a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z], axis=-1)
    slope /= size[..., None]
    offset = level - (slope * middle).sum(axis=-1)
    return np.asarray((mean(slope) * guide).sum(axis=-1) + mean(offset), np.float32)


def refined(planes: Planes, picture: Image, trust: Trust) -> Planes:
    """``planes`` at half the size of the working ``picture``, along its edges, in [0, 1]."""
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    large = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in planes]
    if trust.radius:
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        large = [guided(small, plane, trust.radius, trust.smooth) for plane in large]
    return np.clip(np.stack(large), 0, 1)


def coarse(planes: Planes, size: tuple[int, int]) -> Planes:
    """``planes`` averaged down to ``size`` (h, w)."""
    return np.stack(
        [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA) for plane in planes]
    )


def shared(planes: Planes) -> Planes:
    """``planes`` of several objects, of which a pixel can show only one: where they add up to more
    than 1 they are scaled down to it."""
    total = planes.sum(axis=0, keepdims=True)
    return np.asarray(planes / np.maximum(total, 1), np.float32)
