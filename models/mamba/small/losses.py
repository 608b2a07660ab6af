"""What the detector is told: objectness and class by cross entropy, boxes by GIoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from retain.models.distributed import ALONE, Share
from retain.models.mamba.small.assign import assign, one_hot
from retain.models.mamba.small.network import Decisions, decode

_BOX = 5.0
"""Weight of the boxes' loss, as in YOLOX."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be found in one picture, in pixels of the input."""

    boxes: Tensor
    """float32 [G, 4]."""
    labels: Tensor
    """int64 [G]."""
    ignored: Tensor
    """float32 [I, 4]: CROWD and IGNORE; what is found there is neither right nor wrong."""


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al., arXiv 1902.09630) of boxes [P, 4], pair by pair."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    left, right = torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])
    hull = (right - left).prod(1).clamp(min=1e-6)
    return shared / union.clamp(min=1e-6) - (hull - union) / hull


def loss(
    decided: Decisions, squares: Tensor, targets: Sequence[Target], share: Share = ALONE
) -> Tensor:
    """Of a batch: ``decided`` has [B, N, ...]. Per object's cell, a scalar. ``share``: of the batch
    that these rows are; the parts' losses add up.

    A cell's class is asked for as surely as its box fits (the IoU), so that scores rank boxes too.
    """
    boxes = decode(decided.places, squares)
    total, cells = boxes.new_zeros(()), 0
    for k, target in enumerate(targets):
        found = assign(
            boxes[k], decided.classes[k], decided.objectness[k], squares,
            target.boxes, target.labels, target.ignored,
        )  # fmt: skip
        cells += len(found.cells)
        something = torch.zeros_like(decided.objectness[k])
        something[found.cells] = 1.0
        there = F.binary_cross_entropy_with_logits(
            decided.objectness[k], something, reduction="none"
        )
        total = total + there[~found.spared].sum()
        if not len(found.cells):
            continue
        mine = decided.classes[k][found.cells]
        sure = one_hot(target.labels[found.objects], mine.shape[1]) * found.overlaps[:, None]
        total = total + F.binary_cross_entropy_with_logits(mine, sure, reduction="sum")
        fits = giou(boxes[k][found.cells], target.boxes[found.objects])
        total = total + _BOX * (1 - fits).sum()
    return total / max(share.count(cells), 1)
