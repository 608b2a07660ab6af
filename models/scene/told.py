"""What has been told of a map to those who follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.memory import GaussianMemory
from retain.pipeline.errors import StateError
from retain.pipeline.results import SplatDelta


@dataclass(slots=True)
class Told:
    """The last delta. It is part of the state: a stream that goes on is told the next one."""

    epoch: int = 0
    """Its number, from 1 on."""
    of: int = 0
    """What the map counts its changes by, as it was then; 0: whoever follows knows nothing, so the
    next one is the whole map."""
    seconds: float = -inf
    """When, in the stream."""
    whole_s: float = -inf
    """When the last was that was the whole map."""

    def array(self) -> NDArray[np.float64]:
        """[4], for the notes of a saved state."""
        return np.array(astuple(self), np.float64)

    @staticmethod
    def told_in(notes: Mapping[str, np.ndarray], path: str) -> Told:
        """Raises StateError for notes of no map."""
        try:
            epoch, of, seconds, whole_s = map(float, notes["told"])
            return Told(int(epoch), int(of), seconds, whole_s)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise StateError(f"{path} holds no map of a scene: {error}.") from error


def known(path: str) -> SplatDelta | None:
    """The map in a saved state, for whoever begins to follow where its stream goes on: its deltas
    from then on fit. None where the next delta is the whole map anyhow. Raises StateError."""
    from retain.datasets.splats.splat import to_records
    from retain.memory.snapshot import load

    memories = load(path).memories
    if not {"map", "notes"} <= set(memories) or memories["map"][0].get("kind") != "gaussians":
        return None
    told = Told.told_in(memories["notes"][1].tensors, path)
    if not told.of:
        return None
    config, state = memories["map"]
    memory = GaussianMemory(GaussianConfig.of(config))
    memory.restore("map", state)
    held = memory.changes("map", 0)
    return SplatDelta(told.epoch, True, held.removed, held.ids, to_records(held.gaussians))
