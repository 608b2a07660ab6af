"""How fast objects move: motion IoU, and the split into slow, medium and fast (Zhu et al., ICCV
2017, "Flow-guided feature aggregation")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import Truth
from retain.datasets.scene.pictures import reading
from retain.pipeline.sources.common import check_file

Doubles = NDArray[np.float64]

RANGES = {"slow": (0.9, 1.0), "medium": (0.7, 0.9), "fast": (0.0, 0.7)}
"""Motion IoU, both ends included, so that 0.7 and 0.9 fall into two: as the protocol has it."""
WINDOW = 10
"""Frames to each side, at 25 to 30 a second."""


def box_iou(a: NDArray[Any], b: NDArray[Any]) -> Doubles:
    """[N, M] intersection over union of boxes [N, 4] and [M, 4], xyxy; 0 for boxes without area."""
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.maximum(side, 0), axis=-1)
    areas = [np.prod(np.maximum(x[..., 2:] - x[..., :2], 0), axis=-1) for x in (a, b)]
    union = areas[0] + areas[1] - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return np.asarray(iou, np.float64)


def motion_iou(
    frames: Sequence[Truth], window: int = WINDOW, numbers: Sequence[int] | None = None
) -> list[Doubles]:
    """For each box of each frame of one clip the mean IoU with the same track's boxes at most
    ``window`` frames away, itself left out; frames without the track do not count. NaN where there
    are none, or the track is unknown. ``numbers`` are the frames' own, where some are left out."""
    numbers = range(len(frames)) if numbers is None else numbers
    places: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index, truth in enumerate(frames):
        for row, track in enumerate(truth.tracks):
            if track >= 0:
                places[int(track)].append((index, row))
    out = [np.full(len(truth), np.nan) for truth in frames]
    for seen in places.values():
        at = np.array([numbers[index] for index, _ in seen])
        boxes = np.array([frames[index].boxes[row] for index, row in seen], np.float64)
        first, last = np.searchsorted(at, at - window), np.searchsorted(at, at + window, "right")
        for k, (index, row) in enumerate(seen):
            near = [j for j in range(first[k], last[k]) if at[j] != at[k]]
            if near:
                out[index][row] = box_iou(boxes[k : k + 1], boxes[near]).mean()
    return out


def read_motion_table(path: str | Path) -> list[Doubles]:
    """The published table for ImageNet VID's validation frames: one value per box, one 0 in a frame
    without boxes. A ``.mat`` with ``motion_iou``, or an ``.npz`` with ``values`` and ``offsets``.

    Raises SourceError.
    """
    path = Path(path)
    check_file(path)
    with reading(path):
        if path.suffix == ".npz":
            return _table(path)
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            cells = loadmat(path)["motion_iou"]
        except (MatReadError, NotImplementedError) as error:
            raise ValueError(str(error)) from error
        return [_cell(one) for one in cells.ravel()]


def _table(path: Path) -> list[Doubles]:
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            values, offsets = np.asarray(held["values"], np.float64), held["offsets"]
    except BadZipFile as error:
        raise ValueError(str(error)) from error
    if (
        values.ndim != 1
        or list(offsets[[0, -1]]) != [0, len(values)]
        or (np.diff(offsets) < 0).any()
    ):
        raise ValueError("its offsets do not fit its values")
    return [np.array(part) for part in np.split(values, offsets[1:-1])]


def _cell(cell: Any) -> Doubles:
    """One frame: a row for each box with its value, or with nothing at all for 0. Rows may be cells
    again."""
    return np.array([_first(row) for row in np.atleast_1d(cell)], np.float64)


def _first(row: Any) -> float:
    values = np.asarray(row).ravel()
    if not len(values):
        return 0.0
    return _first(values[0]) if values.dtype == object else float(values[0])
