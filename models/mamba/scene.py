"""What the scene looks like: how much a frame resembles what was remembered, and when it changed.

A frame's look is its rows averaged in a coarse grid, each channel less its mean over the grid:
where things are rather than what the picture is made of. Measured on six videos with a small COCO
detector, finest level: frames 3 apart are alike by 0.86; after strong blur, darkness or bars
by 0.3 to 0.6; frames of different videos by 0.1, nine tenths of them under 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from retain.datasets.detect.base import Found
from retain.datasets.detect.motion import box_iou
from retain.memory.base import Json, State
from retain.memory.carry import refuse_to_shrink
from retain.models.mamba.host import Cells
from retain.pipeline.errors import StateError

Verdict = Literal["", "doubt", "other", "size", "cut"]

GRID = 4
LEVELS = 2
"""Of the feature pyramid, the finest first."""
UNLIKE = 0.55
"""Share of the likeness that frames of this scene usually have, under which one may be of
another."""
STEADY = 0.6
"""Likeness with the frame before from which the two show the same; noise and shaking do not."""
DULL = -0.15
"""Change of log contrast under which a frame is taken for a bad one, whatever it shows."""
CONFIRM = 3.0
"""Evidence of unlike frames in a row from which the scene counts as changed; half of it where a
router announced the cut."""
PATIENCE_S = 1.0
"""A scene that is unlike for so long has changed, however badly it is seen."""
DOUBT_S = 1.5
"""How long a cut that was announced waits for a frame good enough to judge by."""
SURE = 0.45
"""Score of a box that a bad frame does not give."""
SHOWN = 0.3
"""Score of a box that people are shown."""
_NEAR = 0.2
_FOLLOW, _DULL_GATE = 0.2, 0.1
_HELD = 20
"""Boxes of the last frame, at most."""
_FRAMES, _WIDTH, _HEIGHT, _GOOD, _IS_UNLIKE, _SINCE, _ANNOUNCED, _AT, _USUAL = range(9)


@dataclass(frozen=True, slots=True)
class Look:
    """Of one frame."""

    grid: Tensor
    """float32 [LEVELS, C, GRID * GRID]; zero where the host has fewer levels."""
    contrast: Tensor
    """float32 [LEVELS]: log of the mean standard deviation of the channels."""


def look_of(cells: Cells) -> Look:
    """Cells beside the picture do not count."""
    width, height = (side * cells.scale for side in cells.size)
    centres = (cells.anchors[:, :2] + cells.anchors[:, 2:]) / 2
    inside = (centres[:, 0] < width) & (centres[:, 1] < height)
    place = (centres / centres.new_tensor([width, height]) * GRID).long().clamp(0, GRID - 1)
    place = place[:, 1] * GRID + place[:, 0]
    grid = cells.rows.new_zeros(LEVELS, cells.rows.shape[1], GRID * GRID)
    contrast = cells.rows.new_zeros(LEVELS)
    for level in range(LEVELS):
        mine = (inside & (cells.levels == level)).nonzero()[:, 0]
        if len(mine) < 2:
            continue
        rows = cells.rows[mine]
        # Sums as products: many times faster than a scattered sum, or torch's deviation.
        where = F.one_hot(place[mine], GRID * GRID).to(rows.dtype)
        counts = where.sum(0)
        mean = (where.T @ rows) / counts.clamp(min=1)[:, None]
        middle = counts @ mean / len(mine)
        square = rows.new_ones(len(mine)) @ rows.square() / len(mine)
        spread = (square - middle.square()).clamp(min=1e-12).sqrt()
        mean = torch.where(counts[:, None] > 0, mean, middle)
        grid[level] = ((mean - mean.mean(0)) / spread).T
        contrast[level] = spread.mean().log()
    return Look(grid, contrast)


@dataclass(frozen=True, slots=True)
class Likeness:
    """Of a frame with the scene remembered."""

    alike: Tensor
    """[LEVELS] cosines; 0 with an empty memory."""
    contrast: Tensor
    """[LEVELS] change of log contrast."""

    @property
    def mean(self) -> float:
        used = self.alike != 0
        return float(self.alike[used].mean()) if bool(used.any()) else 0.0

    @property
    def sharp(self) -> bool:
        return float(self.contrast.mean()) > DULL


@dataclass(frozen=True, slots=True)
class Glance:
    """A frame, as far as it says whether the scene is the same."""

    look: Look
    size: tuple[int, int]
    """Of the picture."""
    found: Found
    """What the host alone finds in it, in pixels of the picture."""


class Scene:
    """The look that frames of one stream had lately, where its boxes were, and a cut that is
    suspected. A memory as ``memory/base.py`` has it; ``host`` is the digest of the weights that
    looks are made with."""

    def __init__(self, channels: int, host: str) -> None:
        self._shape = LEVELS, channels, GRID * GRID
        self._host = host
        self._streams: dict[str, dict[str, np.ndarray]] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "scene", "shape": list(self._shape), "host": self._host}

    @property
    def min_bytes(self) -> int:
        return sum(x.nbytes for x in self._fresh().values())

    def _fresh(self) -> dict[str, np.ndarray]:
        return {
            "grid": np.zeros(self._shape, np.float32),
            "contrast": np.zeros(LEVELS, np.float32),
            "last": np.zeros(self._shape, np.float32),
            "boxes": np.zeros((_HELD, 4), np.float32),
            "labels": np.full(_HELD, -1, np.int64),
            "numbers": np.zeros(9, np.float64),
        }

    def write(self, stream: str, item: Glance, gate: float = 1.0) -> None:
        """Follow ``item``; frames worse than the scene was count little, but a night is a scene
        too. The boxes stay where a bad frame has none."""
        s = self._stream(stream)
        rate = gate * (1.0 if not s["numbers"][_FRAMES] else _FOLLOW)
        if not self.read(stream, item.look).sharp:
            rate *= _DULL_GATE
        s["grid"] += np.float32(rate) * (item.look.grid.cpu().numpy() - s["grid"])
        s["contrast"] += np.float32(rate) * (item.look.contrast.cpu().numpy() - s["contrast"])
        s["numbers"][_FRAMES] += 1
        sure = np.flatnonzero(item.found.scores >= SURE / 3)[:_HELD]
        if len(sure):
            s["boxes"][:], s["labels"][:] = 0, -1
            s["boxes"][: len(sure)] = item.found.boxes[sure]
            s["labels"][: len(sure)] = item.found.labels[sure]

    def read(self, stream: str, query: Look) -> Likeness:
        s = self._stream(stream)
        held = torch.from_numpy(s["grid"]).to(query.grid)
        alike = torch.cosine_similarity(query.grid.flatten(1), held.flatten(1), 1)
        if not s["numbers"][_FRAMES]:
            return Likeness(torch.zeros_like(alike), torch.zeros_like(query.contrast))
        return Likeness(alike, query.contrast - torch.from_numpy(s["contrast"]).to(query.contrast))

    def judge(
        self, stream: str, like: Likeness, item: Glance, seconds: float, cut: bool | None
    ) -> Verdict:
        """``size``, ``cut``: the memory is of something else and should begin anew; ``doubt``: it
        may be, so that nothing should be written; ``other``: and the frame sees too well to be told
        what it shows, so that nothing should be read; empty: go on. Changes what is suspected.

        ``cut``: what a router says of this frame; None: nobody looked; False: none, so that nothing
        is suspected unless one was announced before. A dark or shaken frame is unlike, too, so
        evidence is asked for. A frame gives 1 with a sure box where none of its class was, or when
        it is like the frame before it and as sharp as the scene was; 1/3 when it is only like the
        frame before it. Unlike frames in a row add up to ``CONFIRM``, or last for
        ``PATIENCE_S``.
        """
        n = self._stream(stream)["numbers"]
        before = int(n[_WIDTH]), int(n[_HEIGHT])
        n[_WIDTH], n[_HEIGHT] = item.size
        if before not in ((0, 0), item.size):
            return "size"
        if not n[_FRAMES]:
            n[_USUAL] = 0.8
            return ""
        if cut:
            n[_ANNOUNCED], n[_AT] = 1, seconds
        elif not 0 <= seconds - n[_AT] <= DOUBT_S:
            n[_ANNOUNCED] = 0
        steady = self._steady(stream, item.look)
        asked = cut is not False or bool(n[_ANNOUNCED])
        unlike = asked and like.mean < UNLIKE * n[_USUAL]
        if not unlike:
            n[_USUAL] += _FOLLOW * (like.mean - n[_USUAL])
            n[_GOOD] = n[_IS_UNLIKE] = 0
            if like.sharp:
                n[_ANNOUNCED] = 0
            return "doubt" if n[_ANNOUNCED] else ""
        first = not n[_IS_UNLIKE]
        if first:
            n[_IS_UNLIKE], n[_SINCE] = 1, seconds
        steady = steady and not first
        clear = steady and like.sharp
        if clear or self._surprising(stream, item.found, SURE):
            n[_GOOD] += 1
        elif steady:
            n[_GOOD] += 1 / 3
        patient = seconds - n[_SINCE] >= PATIENCE_S
        if patient or n[_GOOD] >= (CONFIRM / 2 if n[_ANNOUNCED] else CONFIRM):
            return "cut"
        return "other" if clear or self._surprising(stream, item.found, SHOWN) else "doubt"

    def _steady(self, stream: str, look: Look) -> bool:
        """Whether the frame shows what the last one did, which it replaces."""
        s = self._stream(stream)
        grid = look.grid.cpu().numpy()
        a, b = grid.ravel(), s["last"].ravel()
        alike = float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9)
        s["last"][:] = grid
        return alike >= STEADY

    def _surprising(self, stream: str, found: Found, score: float) -> bool:
        """Whether there is a box of at least ``score`` where none of its class was."""
        s = self._stream(stream)
        sure = np.flatnonzero(found.scores >= score)
        for row in sure.tolist():
            same = s["boxes"][s["labels"] == found.labels[row]]
            if not len(same) or (box_iou(found.boxes[row : row + 1], same) < _NEAR).all():
                return True
        return False

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self.min_bytes

    def shrink_to(self, stream: str, nbytes: int) -> None:
        refuse_to_shrink("scene memory", nbytes, self.min_bytes)

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        return {"frames": int(self._stream(stream)["numbers"][_FRAMES]), "bytes": self.min_bytes}

    def snapshot(self, stream: str) -> State:
        return State({name: array.copy() for name, array in self._stream(stream).items()})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError for arrays that are not a scene's."""
        fresh = self._fresh()
        for name, like in fresh.items():
            array = state.tensors.get(name)
            if array is None or array.dtype != like.dtype or array.shape != like.shape:
                raise StateError(f"The snapshot's array {name!r} is not that of such a scene.")
            if not np.isfinite(array).all():
                raise StateError(f"The snapshot's array {name!r} holds values that are not finite.")
        self._streams[stream] = {name: state.tensors[name].copy() for name in fresh}

    def _stream(self, stream: str) -> dict[str, np.ndarray]:
        return self._streams.setdefault(stream, self._fresh())
