"""One stream's memory of a Faster R-CNN: a bank of cells and one per linear of the box head.

Everything lies in one hub, so it is saved, restored and moved at an exact frame. Reading happens
inside the pass; writing after it, when boxes and scores are known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from retain.datasets.detect.base import Found
from retain.kernels.bank_read import geo
from retain.memory.bank.cells import CellRule
from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.rows import BankQuery, BankWrite, GeoProjection
from retain.memory.carry import Carry
from retain.memory.hub import Hub
from retain.models.mamba.rcnn.levels import remembered
from retain.models.mamba.rcnn.network import PIXEL, Detected, MambaRCNN
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

_PROGRESS = "progress"
"""The memory of frames since the last reset, and of their width and height."""


@dataclass(frozen=True, slots=True)
class RcnnMemoryConfig:
    """Sizes and policies; the defaults are the published ones, except ``warm``.

    Raises UsageError when they cannot work.
    """

    capacity: int = 20_000
    """Rows of each bank."""
    key_set: int = 2_000
    proposals: int = 75
    """Of a frame, in the RPN's order, that are remembered."""
    warm: int = 5
    """First frames of a stream, which are only written."""
    evict: str = "uniform"
    select: str = "uniform"
    cells: CellRule = field(default_factory=CellRule)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.proposals < 1 or self.warm < 0:
            raise UsageError("proposals is from 1, warm from 0.")

    def bank(self, dim: int) -> BankConfig:
        return BankConfig(dim, self.capacity, self.key_set, self.evict, self.select, seed=self.seed)


class RcnnMemory:
    """What ``model`` remembers of ``stream``. The model's weights must not change meanwhile.

    ``budget_bytes``: for all banks together; None gives each its full capacity. A memory begins
    anew at a discontinuity and where pictures change their size.
    """

    def __init__(
        self,
        model: MambaRCNN,
        stream: str,
        config: RcnnMemoryConfig | None = None,
        budget_bytes: int | None = None,
    ) -> None:
        self.model, self.stream = model, stream
        self.config = config or RcnnMemoryConfig()
        self._banks = {place: self._bank(place) for place in model.geo}
        self._progress = Carry({_PROGRESS: (3,)})
        # A row more than each can hold, because shares are rounded down.
        full = {k: (self.config.capacity + 1) * b.row_bytes for k, b in self._banks.items()}
        whole = sum(full.values()) + self._progress.min_bytes
        self.hub: Hub = Hub(whole if budget_bytes is None else budget_bytes, stream)
        self.hub.add(_PROGRESS, self._progress, weight=0.0)
        for place, bank in self._banks.items():
            self.hub.add(place, bank, weight=float(full[place]))
        self.seq = -1
        """Of the last frame."""

    def _bank(self, place: str) -> Bank:
        layer = self.model.layer(place)
        config = self.config.bank(layer.key.in_features)
        project = GeoProjection(layer.weights, layer.heads)
        return Bank(config, project, str(self.model.device))

    def look(
        self,
        image: Image,
        seq: int,
        seconds: float = 0.0,
        *,
        discontinuity: bool = False,
        read: bool | None = None,
    ) -> Found:
        """What is found in ``image`` (uint8 RGB [H, W, 3]) with all that was seen before it; then
        it is remembered. ``read``: whether it reads; None: once ``warm`` frames were written."""
        frames, *size = self._progress.read(self.stream)[_PROGRESS].tolist()
        if discontinuity or (frames and size != [image.shape[1], image.shape[0]]):
            self.reset()
            frames = 0.0
        reading = _Reading(self, frames >= self.config.warm if read is None else read)
        seen = self.model.detect(image, reading)
        self._write(seen, reading, seq, seconds)
        after = [min(frames + 1, 1e6), float(image.shape[1]), float(image.shape[0])]
        self._progress.write(self.stream, {_PROGRESS: torch.tensor(after)})
        self.seq = seq
        return seen.found

    def _write(self, seen: Detected, reading: _Reading, seq: int, seconds: float) -> None:
        top = slice(self.config.proposals)
        scores, boxes = seen.likely[top], seen.in_picture(seen.proposals[top])
        for place in self.model.instance_places:
            self._put(reading, place, reading.rows[place][top], seq, seconds, scores, boxes)
        c, turn = self.config, max(seq, 0)
        cells = remembered(seen, self.model.levels, c.cells, c.seed, turn)
        # A last row stands for "of no box".
        scores = torch.cat([seen.scores, seen.scores.new_zeros(1)])[cells.of]
        inside = seen.in_picture(seen.boxes)
        boxes = torch.cat([inside, inside.new_zeros(1, 4)])[cells.of]
        self._put(reading, PIXEL, cells.rows, seq, seconds, scores, boxes, cells.levels)

    def _put(
        self,
        reading: _Reading,
        place: str,
        rows: Tensor,
        seq: int,
        seconds: float,
        scores: Tensor,
        boxes: Tensor,
        levels: np.ndarray | int = 0,
    ) -> None:
        item = BankWrite(
            rows,
            seq,
            seconds,
            scores.double().cpu().numpy(),
            boxes.cpu().numpy(),
            levels,
            enhanced=place in reading.enhanced,
        )
        self._banks[place].write(self.stream, item)

    def reset(self) -> None:
        """Forget everything."""
        self.hub.reset()
        self.seq = -1

    @property
    def nbytes(self) -> int:
        return self.hub.nbytes

    def save(self, path: str | Path) -> None:
        """Write the memory to ``path``, atomically."""
        self.hub.snapshot(path, self.seq)

    def load(self, path: str | Path) -> int:
        """Go on from ``path``; the number of the last frame it has seen. Raises StateError for one
        of other weights or another configuration."""
        self.seq = self.hub.restore(path)
        return self.seq


class _Reading:
    """A Read of one frame: from the banks where ``active``; keeps the rows it returns."""

    def __init__(self, memory: RcnnMemory, active: bool) -> None:
        self._memory, self._active = memory, active
        self.rows: dict[str, Tensor] = {}
        self.enhanced: set[str] = set()
        """Places where there was something to read."""

    def __call__(self, place: str, query: Tensor, level: int = 0) -> Tensor:
        out = query
        if self._active and len(query):
            memory = self._memory
            wanted = BankQuery(level=level if place == PIXEL else None)
            keys = memory._banks[place].read(memory.stream, wanted)
            weights = memory.model.layer(place).weights
            if len(keys):
                self.enhanced.add(place)
            out = geo.enhance(query[None], keys.keys, keys.values, weights, keys.index[None])[0]
        self.rows[place] = out
        return out
