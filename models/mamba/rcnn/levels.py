"""The pixel level on a feature pyramid: which cells of which map are remembered after a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.memory.bank.cells import CellRule, cells_in_boxes
from retain.models.mamba.rcnn.network import Detected


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of several maps. k rows."""

    rows: Tensor
    """[k, C]."""
    levels: NDArray[np.int64]
    """[k] places in the list of maps."""
    of: NDArray[np.int64]
    """[k] the box that each is from; -1 none."""


def remembered(seen: Detected, names: Sequence[str], rule: CellRule, seed: int, turn: int) -> Cells:
    """Cells of confident boxes, of each map in ``names``.

    Boxes are those of the network's input, as the maps are (trap: results are scaled back later).
    Limits per box and frame are shared evenly by the maps. A random choice is one by (``seed``,
    ``turn``).
    """
    share = len(names)
    rule = replace(
        rule,
        per_box=max(1, rule.per_box // share),
        per_frame=max(1, rule.per_frame // share),
        when_none=max(1, rule.when_none // share),
    )
    boxes, scores = seen.boxes.double().cpu().numpy(), seen.scores.double().cpu().numpy()
    rows, levels, of = list[Tensor](), list[int](), list[NDArray[np.int64]]()
    for level, name in enumerate(names):
        cells = seen.maps[name][0]
        stride = seen.padded[1] / cells.shape[-1]
        norms = cells.norm(dim=0).cpu().numpy()
        at, box = cells_in_boxes(boxes, scores, norms, stride, rule=rule, seed=seed, turn=turn)
        rows.append(cells.flatten(1).T[torch.from_numpy(at).to(cells.device)])
        levels += [level] * len(at)
        of.append(box)
    return Cells(torch.cat(rows), np.array(levels, np.int64), np.concatenate(of))
