# mypy: disallow-untyped-decorators=False
"""Duplicates among boxes. The arithmetic of torchvision's ``nms``, to the bit; importing that loads
torch's compiler, two seconds before the first frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from retain.datasets.detect.base import Found
from retain.models.mamba.host import Cells, Predicted


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Which boxes [N, 4] remain, best first, when of two of one class that overlap by more than
    ``iou`` the less sure goes. int64 [n].

    Class by class: torchvision's ``batched_nms`` moves the classes apart in the plane, so that one
    box of absurd size takes the others' last digits, and boxes left of 0 meet another class's.
    """
    order = scores.sort(descending=True, stable=True).indices
    stays = np.ones(len(order), np.bool_)
    _suppress(boxes[order].float().cpu().numpy(), labels[order].cpu().numpy(), iou, stays)
    return order[torch.from_numpy(stays).to(order.device)]


@torch.no_grad()
def of_rows(
    predicted: Predicted, cells: Cells, threshold: float, iou: float, most: int
) -> tuple[Found, Tensor]:
    """What is found where a row has one box: its best class, of at least ``threshold``; without
    duplicates, at most ``most``, none beside the picture. And the rows [n] they are of."""
    scores, labels = predicted.scores.max(1)
    rows = (scores >= threshold).nonzero()[:, 0]
    boxes, scores, labels = predicted.boxes[rows], scores[rows], labels[rows]
    kept = suppressed(boxes, scores, labels, iou)
    limits = boxes.new_tensor(cells.size).repeat(2)
    boxes = torch.minimum((boxes / cells.scale).clamp(min=0), limits)
    seen = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    kept = kept[seen[kept]][:most]
    parts = (part[kept].cpu().numpy() for part in (boxes, scores, labels))
    return Found(*parts), rows[kept]


@njit(cache=True, nogil=True, error_model="numpy")
def _suppress(boxes: Any, labels: Any, iou: float, stays: Any) -> None:
    """``stays`` [N] becomes False for boxes that overlap with one of their class before them."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in range(len(boxes)):
        if not stays[i]:
            continue
        for j in range(i + 1, len(boxes)):
            if labels[j] != labels[i] or not stays[j]:
                continue
            wide = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            high = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            shared = max(wide, np.float32(0)) * max(high, np.float32(0))
            if shared / (areas[i] + areas[j] - shared) > iou:
                stays[j] = False
