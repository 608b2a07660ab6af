"""The language field of a map: codes drawn with the colours' own weights, and named by words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.metrics import Overlap, overlap
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.render import render
from retain.models.language.query import relevancy

Floats = NDArray[np.float32]

COVERED = 0.5
"""Opacity from which a pixel is named."""


class Field(NamedTuple):
    """What a camera sees: color [H, W, 3], codes [H, W, 16], depth [H, W] metres, alpha [H, W]."""

    color: Floats
    codes: Floats
    depth: Floats
    alpha: Floats


class Seen(NamedTuple):
    """A view whose truth is known: labels uint8 [H, W], 0 for none."""

    camera: Camera
    c2w: NDArray[np.float64]
    labels: NDArray[np.uint8]


def draw(gaussians: Gaussians, camera: Camera, c2w: NDArray[np.float64]) -> Field:
    """Colour and codes in one pass (OnlineX, arXiv 2603.02134, equation of its rendering): the
    colour has the same bits as without codes. Raises ValueError for a map without codes."""
    if gaussians.codes is None:
        raise ValueError("this map keeps no language codes")
    both = np.concatenate([gaussians.colors, gaussians.codes], axis=1)
    drawn = render(gaussians, camera, c2w, channels=both)
    return Field(drawn.color[..., :3], drawn.color[..., 3:], drawn.depth, drawn.alpha)


def name(field: Field, words: Floats) -> NDArray[np.uint8]:
    """uint8 [H, W]: k + 1 where ``words[k]`` [K, 16] is likest, 0 where the map does not cover the
    pixel or says nothing of it. A compressed word is as short as it is unknown to the basis."""
    likest = (field.codes @ words.T).argmax(axis=2) + 1
    told = (field.alpha > COVERED) & (np.linalg.norm(field.codes, axis=2) > 1e-3)
    return np.where(told, likest, 0).astype(np.uint8)


def heat(
    gaussians: Gaussians, camera: Camera, c2w: NDArray[np.float64], word: Floats, canonical: Floats
) -> Floats:
    """[H, W], 0 to 1: relevancy of the map's pixels to ``word`` [16] against ``canonical`` [M, 16],
    of each Gaussian's code, drawn; 0 where there is no map. Raises ValueError without codes."""
    if gaussians.codes is None:
        raise ValueError("this map keeps no language codes")
    like = relevancy(gaussians.codes, word, canonical)[:, None]
    return render(gaussians, camera, c2w, channels=like).color[..., 0]


def judge(gaussians: Gaussians, views: Iterable[Seen], words: Floats) -> Overlap:
    """mIoU and mAcc of the map, named by the codes ``words`` [K, 16] of the classes 1 to K, over
    all ``views``. Classes that no view shows do not count; one that is named where another is
    true lowers the other's IoU, and its own where it occurs."""
    seen = list(views)
    named = (name(draw(gaussians, view.camera, view.c2w), words) for view in seen)
    return overlap(named, (view.labels for view in seen), len(words) + 1)
