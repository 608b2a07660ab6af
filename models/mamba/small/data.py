"""What the small detector is trained on: frames of procedural videos, drawn as they are needed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from retain.datasets.detect.base import IGNORE, Sample, Truth, truth_of
from retain.datasets.detect.degrade import KINDS, degrade
from retain.datasets.detect.objects import ObjectVideo
from retain.models.mamba.small.losses import Target
from retain.pipeline.frame import Image

HELD_OUT = 1_000_000
"""Seeds from here on are never trained on."""
FRAMES = 60
PER_VIDEO = 2
"""Frames of each video: making its world costs as much as six of them."""
_APART = 20
_PASTED = 0.7
"""Share of the frames that get objects of another."""
_COVERED = 0.3
"""Of what was seen of an object before others were pasted over it: less is not to be judged."""
_SPOILT, _LOW, _HIGH = 0.3, 0.1, 0.5
"""Share of the frames that are degraded, and how strongly."""


@dataclass(frozen=True, slots=True)
class Batch:
    pixels: Tensor
    """uint8 [B, 3, 240, 320]."""
    targets: tuple[Target, ...]


def batch(step: int, *, seed: int, size: int) -> Batch:
    """The batch of ``step``: the same whenever and wherever it is asked for. ``size`` frames."""
    rng = np.random.default_rng((seed, step))
    drawn = _draw(step * size, seed, size, rng)
    images, targets = [], []
    for k, sample in enumerate(drawn):
        image, truth = sample.image, sample.truth
        if rng.random() < _PASTED:
            image, truth = paste(sample, drawn[(k + PER_VIDEO) % size], rng)
        if rng.random() < _SPOILT:
            kind = KINDS[int(rng.integers(len(KINDS)))]
            image = degrade(image, kind, float(rng.uniform(_LOW, _HIGH)), rng)
        flip = bool(rng.random() < 0.5)
        images.append(image[:, ::-1] if flip else image)
        targets.append(target_of(truth, flip))
    pixels = torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))
    return Batch(pixels, tuple(targets))


def _draw(first: int, seed: int, size: int, rng: np.random.Generator) -> list[Sample]:
    """Frames ``first`` to ``first + size`` of all a run sees, ``PER_VIDEO`` of each video and far
    enough apart for its objects to have moved."""
    out: list[Sample] = []
    part = FRAMES // PER_VIDEO
    for place in range(first, first + size):
        number, which = divmod(place, PER_VIDEO)
        if which == 0 or not out:
            video = ObjectVideo((seed * 500_009 + number) % HELD_OUT, FRAMES)
        out.append(video.clean(which * part + int(rng.integers(part - _APART // 2))))
    return out


def paste(onto: Sample, other: Sample, rng: np.random.Generator) -> tuple[Image, Truth]:
    """``onto`` with what is wholly seen in ``other``, each at a place of its own (Ghiasi et al.,
    arXiv 2012.07177): more to learn from in a frame that costs the same. Both know silhouettes."""
    width, height = onto.truth.size
    assert onto.mask is not None
    assert other.mask is not None
    image, owner = onto.image.copy(), onto.mask.copy()
    boxes, labels = list(onto.truth.boxes), list(onto.truth.labels)
    flags, names = list(onto.truth.flags), list(onto.truth.tracks + 1)
    edge = np.array([width, height], np.float32)
    inside = (other.truth.boxes[:, :2] > 0).all(1) & (other.truth.boxes[:, 2:] < edge).all(1)
    seen = np.bincount(owner.ravel(), minlength=256)
    for row in np.flatnonzero(inside & (other.truth.flags == 0)):
        x0, y0, x1, y1 = (int(side) for side in other.truth.boxes[row])
        shape = other.mask[y0:y1, x0:x1] == other.truth.tracks[row] + 1
        left = int(rng.integers(width - (x1 - x0) + 1))
        top = int(rng.integers(height - (y1 - y0) + 1))
        there = np.s_[top : top + y1 - y0, left : left + x1 - x0]
        # Soft edges, as the others have.
        alpha = cv2.blur(shape.astype(np.float32), (3, 3))[..., None]
        mixed = alpha * other.image[y0:y1, x0:x1] + (1 - alpha) * image[there]
        image[there] = (mixed + 0.5).astype(np.uint8)
        name = 255 - len(boxes)
        owner[there][shape] = name
        seen[name] = shape.sum()
        boxes.append(np.array([left, top, left + x1 - x0, top + y1 - y0], np.float32))
        labels.append(other.truth.labels[row])
        flags.append(0)
        names.append(name)
    left_over = np.bincount(owner.ravel(), minlength=256)
    hidden = [left_over[name] < _COVERED * seen[name] for name in names]
    flags = [f | IGNORE if gone else f for f, gone in zip(flags, hidden, strict=True)]
    return image, truth_of(onto.truth.size, boxes, labels, [-1] * len(boxes), flags)


def target_of(truth: Truth, flip: bool = False) -> Target:
    """``flip``: of the mirrored picture."""
    boxes = truth.boxes
    if flip:
        boxes = boxes * np.array([-1, 1, -1, 1], np.float32)
        boxes = boxes[:, [2, 1, 0, 3]] + np.array([1, 0, 1, 0], np.float32) * truth.size[0]
    real = truth.real
    return Target(
        torch.from_numpy(boxes[real]),
        torch.from_numpy(truth.labels[real]),
        torch.from_numpy(boxes[~real]),
    )
