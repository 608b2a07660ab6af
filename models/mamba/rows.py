"""What is remembered of an object seen: one row, and where the object should be by now.

A row is what the host decided for one box of a past frame, at the cell it came from, with the
features of that cell. Places are pixels of the host's input, so that a row of another cell means
the same box: a neighbour's raw features would not, because a cell's box is decoded from where the
cell is. A row also knows how fast its box moves, by an alpha-beta filter along the rows of the
same object (``motion``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from retain.models.mamba.host import Cells, Predicted

SLOWING_S = 0.08
"""Motion is believed for about so long: a box moves at most its speed times this. Speeds taken from
a detector's boxes are rough; 0.25 s measured worse, none at all the same or worse."""
_SAME_IOU = 0.3
_RECENT_S = 0.6
"""Rows older than this say nothing of how fast something moves now."""
_LEAST_GAIN = 0.25
_LONGEST_LIFE = 100.0


@dataclass(frozen=True, slots=True)
class Seen:
    """M things at cells: of a frame (queries, age 0) or remembered (keys). All float32 but
    ``levels``."""

    features: Tensor
    """[M, C]."""
    objectness: Tensor
    """[M] logits."""
    classes: Tensor
    """[M, K] logits."""
    boxes: Tensor
    """[M, 4] x1 y1 x2 y2, input pixels."""
    points: Tensor
    """[M, 2] centre of the cell each is of, input pixels."""
    speeds: Tensor
    """[M, 4] of the box, input pixels per second."""
    steps: Tensor
    """[M] how many rows the speed was measured along."""
    levels: Tensor
    """int64 [M]."""
    ages: Tensor
    """[M] seconds."""

    def __len__(self) -> int:
        return len(self.objectness)

    @property
    def scores(self) -> Tensor:
        """[M] objectness times the best class."""
        return self.objectness.sigmoid() * self.classes.sigmoid().amax(1)

    def only(self, rows: Tensor) -> Seen:
        """Some of them, by number or mask."""
        return Seen(*(getattr(self, name)[rows] for name in self.__slots__))

    def now(self) -> Seen:
        """Moved on to where they should be now: at their speed, slowing down with time."""
        far = SLOWING_S * (1 - (-self.ages / SLOWING_S).exp())
        shift = self.speeds * far[:, None]
        middle = (shift[:, :2] + shift[:, 2:]) / 2
        values = {name: getattr(self, name) for name in self.__slots__}
        return Seen(**(values | {"boxes": self.boxes + shift, "points": self.points + middle}))


def at_cells(features: Tensor, predicted: Predicted, cells: Cells, which: Tensor) -> Seen:
    """What the frame shows at the cells ``which`` [N], with ``features`` [N, C] of these and
    ``predicted`` of all."""
    anchors = cells.anchors[which]
    zero = anchors.new_zeros(len(which))
    return Seen(
        features,
        predicted.objectness[which],
        predicted.classes[which],
        predicted.boxes[which],
        (anchors[:, :2] + anchors[:, 2:]) / 2,
        zero[:, None].expand(-1, 4),
        zero,
        cells.levels[which],
        zero,
    )


def width_of(channels: int, classes: int) -> int:
    """Numbers in a row."""
    return channels + 1 + classes + 4 + 2 + 4 + 1


def pack(seen: Seen) -> Tensor:
    """[M, width]: one row each, for a bank; levels and ages are columns there."""
    one = (seen.objectness[:, None], seen.classes, seen.boxes, seen.points, seen.speeds)
    return torch.cat((seen.features, *one, seen.steps[:, None]), 1)


def unpack(rows: Tensor, levels: Tensor, ages: Tensor, channels: int, classes: int) -> Seen:
    """The inverse of ``pack``."""
    parts = torch.split(rows, [channels, 1, classes, 4, 2, 4, 1], 1)
    features, objectness, logits, boxes, points, speeds, steps = parts
    return Seen(
        features, objectness[:, 0], logits, boxes, points, speeds, steps[:, 0], levels, ages
    )


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """IoU [N, M] of boxes [N, 4] and [M, 4]. torchvision's, whose import takes two seconds."""
    sides = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])
    shared = sides.clamp(min=0).prod(2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
    return shared / (area_a[:, None] + area_b - shared)


def motion(new: Seen, held: Seen) -> Seen:
    """``new`` with speeds: each is the next of the youngest ``held`` row of its class that it lies
    on (IoU at least 0.3 with where that should be now), and corrects that row's speed by what it
    is off. The first corrections count more, as of a mean; later ones a quarter."""
    near = held.only((held.ages > 0) & (held.ages <= _RECENT_S))
    if not len(near) or not len(new):
        return new
    there = near.now()
    overlap = _overlap(new.boxes, there.boxes)
    same = new.classes.argmax(1)[:, None] == near.classes.argmax(1)
    # The youngest first, of equals the one that lies best; a gap of 10 ms outweighs any overlap.
    rank = torch.where(same & (overlap >= _SAME_IOU), overlap * 0.01 - near.ages, -math.inf)
    best, of = rank.max(1)
    found = best.isfinite()
    gap = near.ages[of].clamp(min=1 / 240)
    gain = (1 / (near.steps[of] + 1.5)).clamp(min=_LEAST_GAIN)
    off = (new.boxes - there.boxes[of]) / gap[:, None]
    speeds = torch.where(found[:, None], near.speeds[of] + gain[:, None] * off, 0.0)
    steps = torch.where(found, (near.steps[of] + 1).clamp(max=_LONGEST_LIFE), 0.0)
    values = {name: getattr(new, name) for name in new.__slots__}
    return Seen(**(values | {"speeds": speeds, "steps": steps}))
