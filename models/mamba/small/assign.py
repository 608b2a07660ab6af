"""Which cell answers for which object: SimOTA (Ge et al., YOLOX, arXiv 2107.08430, section 2.1).

Cells in or near an object's middle compete; each object takes as many as its best overlaps add up
to, the cheapest ones by class and overlap; a cell wanted by two goes to where it is cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_RADIUS = 2.5
"""Strides from an object's middle within which a cell is near it."""
_OVERLAP = 3.0
"""Weight of the overlap's cost against that of the class."""
_FAR = 1e4
"""Cost of a cell that is not both in the box and near its middle."""
_BEST = 10
"""Overlaps that are added up to the number of cells."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Of one picture with N cells; P of them answer for an object."""

    cells: Tensor
    """int64 [P], rising."""
    objects: Tensor
    """int64 [P] rows of the truth."""
    overlaps: Tensor
    """float32 [P] IoU of the cell's box with the object's."""
    spared: Tensor
    """bool [N]: cells in regions that do not count, which answer for nothing."""


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """IoU [N, M] of boxes [N, 4] and [M, 4]; 0 for boxes without area."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).clamp(min=0).prod(-1) for x in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    return shared / union.clamp(min=1e-9)


def within(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points [N, 2] lie inside boxes [M, 4]: bool [M, N]."""
    x, y = points[None, :, 0], points[None, :, 1]
    x1, y1, x2, y2 = (side[:, None] for side in boxes.unbind(1))
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


@torch.no_grad()
def assign(
    boxes: Tensor,
    classes: Tensor,
    objectness: Tensor,
    squares: Tensor,
    truth: Tensor,
    labels: Tensor,
    ignored: Tensor,
) -> Assignment:
    """For one picture.

    boxes [N, 4], classes [N, K] and objectness [N] (logits) as predicted; squares [N, 4] the cells
    truth [G, 4] and labels [G]: to be found; ignored [I, 4]: regions that do not count
    """
    middles = (squares[:, :2] + squares[:, 2:]) / 2
    spared = within(middles, ignored).any(0)
    none = torch.empty(0, dtype=torch.int64, device=boxes.device)
    if not len(truth):
        return Assignment(none, none, none.float(), spared)
    stride = squares[:, 2] - squares[:, 0]
    centres = (truth[:, :2] + truth[:, 2:]) / 2
    near = ((middles[None] - centres[:, None]).abs() < _RADIUS * stride[None, :, None]).all(-1)
    inside = within(middles, truth)
    rows = (near | inside).any(0).nonzero()[:, 0]
    iou = overlap(truth, boxes[rows])
    likely = (classes[rows].sigmoid() * objectness[rows].sigmoid()[:, None]).sqrt()
    likely = likely.clamp(1e-6, 1 - 1e-6)
    other = -torch.log1p(-likely)
    # Cross entropy with each object's one-hot class, summed over the classes.
    kind = other.sum(1)[None] + (-likely.log() - other).t()[labels]
    cost = kind - _OVERLAP * (iou + 1e-8).log() + _FAR * ~(near & inside)[:, rows]
    taken = _cheapest(cost, iou)
    owned = taken.any(0)
    objects = torch.where(taken, cost, torch.inf)[:, owned].argmin(0)
    cells = rows[owned]
    spared[cells] = False
    own = iou[:, owned].gather(0, objects[None])[0]
    return Assignment(cells, objects, own, spared)


def _cheapest(cost: Tensor, iou: Tensor) -> Tensor:
    """bool [G, M]: the cells each object would take."""
    wanted = iou.topk(min(_BEST, iou.shape[1]), 1).values.sum(1).int().clamp(min=1)
    rank = cost.sort(dim=1, stable=True).indices.argsort(dim=1)
    return rank < wanted[:, None]


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """float32 [P, K]."""
    return F.one_hot(labels, classes).float()
