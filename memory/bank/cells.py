"""Which cells of a feature map a pixel-level bank remembers: some of each confident box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retain.memory.bank.policies import chosen, draws

Inside = Literal["centre", "touched"]


@dataclass(frozen=True, slots=True)
class CellRule:
    """Limits of a frame's write. The defaults are those of the authors' code of 2024; that of 2022
    has ``min_score`` 0.8 (inclusive there) and ``inside="touched"``."""

    min_score: float = 0.3
    """A box must score more."""
    per_box: int = 100
    per_frame: int = 1000
    when_none: int = 50
    """Cells of the largest norm, where no box is confident."""
    inside: Inside = "centre"
    """centre: cells whose centre lies in the box, at least the one at the box's own centre.
    touched: whole cell numbers of the corners, both ends included."""


def cells_in_boxes(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    norms: NDArray[np.floating],
    stride: float,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    rule: CellRule | None = None,
    seed: int = 0,
    turn: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(cells [k], their boxes [k]): places in the map, row by row, each once, the boxes of the best
    scores first; box -1 where there was none.

    ``boxes`` [n, 4] xyxy, which times ``scale`` (x, y) are pixels of the network's input: results
    in pixels of the frame need the factor the frame was resized by. ``norms`` [H, W] L2 norms of
    the map's cells, ``stride`` input pixels a cell. Of a box with more cells than ``per_box``, a
    random choice by (``seed``, ``turn``). Raises ValueError for boxes that are not finite or lie
    wholly outside the map, which says that ``scale`` is wrong.
    """
    rule = rule or CellRule()
    height, width = norms.shape
    scaled: NDArray[np.float64] = np.asarray(boxes, np.float64).reshape(-1, 4) * np.tile(scale, 2)
    _check(scaled, width * stride, height * stride)
    confident = np.flatnonzero(np.asarray(scores) > rule.min_score)
    best = confident[np.argsort(-np.asarray(scores)[confident], kind="stable")]
    cells, of = list[int](), list[int]()
    taken = np.zeros(height * width, bool)
    for box in best.tolist():
        inside = _inside(scaled[box] / stride, width, height, rule.inside)
        inside = inside[~taken[inside]]
        room = min(rule.per_box, rule.per_frame - len(cells))
        rank = draws(seed, turn, box * height * width + inside)
        inside = np.delete(inside, chosen(rank, inside, len(inside) - room))
        taken[inside] = True
        cells += inside.tolist()
        of += [box] * len(inside)
    if not cells:
        count = min(rule.when_none, norms.size)
        cells = np.argsort(-norms.reshape(-1), kind="stable")[:count].tolist()
        of = [-1] * count
    return np.array(cells, np.int64), np.array(of, np.int64)


def _check(boxes: NDArray[np.float64], width: float, height: float) -> None:
    if not np.isfinite(boxes).all():
        raise ValueError("boxes that are not finite choose no cells")
    outside = (boxes[:, 0] >= width) | (boxes[:, 1] >= height)
    outside |= (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0)
    if outside.any():
        raise ValueError(
            f"box {boxes[outside][0].tolist()} lies outside the {width:g}x{height:g} pixels of the "
            "map: boxes must be in pixels of the network's input, or scale must lead there"
        )


def _inside(box: NDArray[np.float64], width: int, height: int, inside: Inside) -> NDArray[np.int64]:
    """Cells of a box given in cells."""
    left, up, right, down = box.tolist()
    if inside == "touched":
        xs, ys = _between(int(left), int(right), width), _between(int(up), int(down), height)
    else:
        x, y = np.arange(width), np.arange(height)
        xs = x[(x + 0.5 >= left) & (x + 0.5 <= right)]
        ys = y[(y + 0.5 >= up) & (y + 0.5 <= down)]
        if not len(xs) or not len(ys):
            middle = int((left + right) / 2), int((up + down) / 2)
            xs, ys = _between(middle[0], middle[0], width), _between(middle[1], middle[1], height)
    return (ys[:, None] * width + xs).reshape(-1)


def _between(first: int, last: int, size: int) -> NDArray[np.int64]:
    """first ... last, cut to the map."""
    return np.arange(min(max(first, 0), size - 1), min(max(last, 0), size - 1) + 1)
