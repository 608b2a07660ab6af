"""What a guided backbone is asked for in a stream: go on, fill in, and how new is this.

Clips come and go as a bank keeps them, uint8 [T, H, W, C]. What is drawn at random is drawn from
the numbers given, so the same question has the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.memory.clips.clip import Frames, as_bytes, as_model
from retain.memory.clips.config import ClipShape
from retain.models.ditmem import flow
from retain.models.ditmem.evaluate import GIVEN
from retain.models.ditmem.inject import MemoryRows
from retain.models.ditmem.weights import Opened
from retain.pipeline.errors import UsageError

DRAWS = 4
"""Draws of noise per level that a novelty is the mean of."""


class Imaginer:
    """See the module's text. ``references`` are clips; none of them: the backbone alone.

    Raises UsageError for weights that take no references.
    """

    def __init__(self, opened: Opened, device: str = "cpu") -> None:
        if opened.guided.config.source != "references":
            raise UsageError(
                f"The weights {opened.name!r} have no encoder of reference clips.",
                hint="Train some with `retain train ditmem`, references as the source.",
            )
        self.opened, self.device = opened, device
        self._guided, dit = opened.guided, opened.guided.config.dit
        self.shape = ClipShape(dit.frames, dit.side, dit.side, dit.channels)

    @property
    def horizon(self) -> int:
        """Frames that are made at once, from the ``GIVEN`` before them."""
        return self.shape.frames - GIVEN

    @torch.no_grad()
    def describe(self, clip: Frames) -> NDArray[np.float32]:
        """What ``clip`` is found by, [E] of unit length."""
        found = self._guided.encoder.descriptor(self._clips([clip])[None])[0, 0]
        return np.asarray(found.float().cpu())

    @torch.no_grad()
    def novelty(self, clip: Frames, references: Sequence[Frames], seed: int) -> tuple[float, float]:
        """How badly the last frames of ``clip`` are foreseen from the first ``GIVEN``, with the
        references and without: mean squared errors of the velocity. NaN with none."""
        frames = self._clips([clip]).expand(DRAWS, -1, -1, -1, -1)
        given = self._given(GIVEN).expand(DRAWS, -1)

        def error(rows: MemoryRows | None) -> float:
            generator = torch.Generator().manual_seed(seed)
            found = flow.surprise(self._guided.dit, frames, given, rows, generator=generator)
            return float(found.double().mean())

        rows = self._rows(references, DRAWS)
        return error(rows) if rows else float("nan"), error(None)

    @torch.no_grad()
    def go_on(
        self, last: Frames, count: int, references: Sequence[Frames], samples: int, seed: int
    ) -> Frames:
        """The next ``count`` frames after the ``GIVEN`` frames ``last``, uint8
        [samples, count, H, W, C]. More than ``horizon`` are made from those made before."""
        rows = self._rows(references, samples)
        generator = torch.Generator().manual_seed(seed)
        known = self._clips([last]).expand(samples, -1, -1, -1, -1)
        given = self._given(GIVEN).expand(samples, -1)
        made: list[Tensor] = []
        while len(made) * self.horizon < count:
            room = known.new_zeros(samples, self.shape.frames, *known.shape[2:])
            room[:, :GIVEN] = known
            clip = flow.sample(self._guided.dit, room, given, rows, generator=generator)
            made.append(clip[:, GIVEN:])
            known = clip[:, -GIVEN:]
        return self._bytes(torch.cat(made, 1)[:, :count])

    @torch.no_grad()
    def fill(
        self,
        clip: Frames,
        known: NDArray[np.bool_],
        references: Sequence[Frames],
        samples: int,
        seed: int,
    ) -> Frames:
        """``clip`` [T, H, W, C] with its frames that are not ``known`` bool [T] made, uint8
        [samples, T, H, W, C]. What it shows there is not read."""
        frames = self._clips([clip]).expand(samples, -1, -1, -1, -1)
        given = torch.from_numpy(known).to(self.device).expand(samples, -1)
        rows = self._rows(references, samples)
        generator = torch.Generator().manual_seed(seed)
        return self._bytes(flow.sample(self._guided.dit, frames, given, rows, generator=generator))

    def _given(self, count: int) -> Tensor:
        return (torch.arange(self.shape.frames, device=self.device) < count)[None]

    def _clips(self, clips: Sequence[Frames]) -> Tensor:
        return torch.from_numpy(as_model(clips)).to(self.device)

    def _bytes(self, clips: Tensor) -> Frames:
        return np.stack([as_bytes(clip) for clip in clips.float().cpu().numpy()])

    def _rows(self, references: Sequence[Frames], batch: int) -> MemoryRows | None:
        if not references:
            return None
        return self._guided.rows(self._clips(references)[None]).expand(batch)
