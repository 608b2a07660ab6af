"""Duplicates among boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import nms


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """Which boxes [N, 4] remain, best first, when of two of one class that overlap by more than
    ``iou`` the less sure goes. int64 [n].

    Class by class: torchvision's ``batched_nms`` moves the classes apart in the plane, so that one
    box of absurd size takes the others' last digits, and boxes left of 0 meet another class's.
    """
    kept = [torch.empty(0, dtype=torch.int64, device=boxes.device)]
    for label in torch.unique(labels):
        rows = (labels == label).nonzero()[:, 0]
        kept.append(rows[nms(boxes[rows], scores[rows], iou)])
    rows = torch.cat(kept).sort().values
    return rows[scores[rows].sort(descending=True, stable=True).indices]
