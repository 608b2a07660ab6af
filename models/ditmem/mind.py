"""Everything a stage that imagines remembers of one stream, within a budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retain.memory.clips.bank import ClipBank
from retain.memory.clips.config import ClipShape, WindowConfig
from retain.memory.clips.windows import Windows
from retain.memory.hub import Hub
from retain.memory.notes import Notes
from retain.memory.snapshot import load
from retain.models.ditmem.imaginer import Imaginer
from retain.models.ditmem.references import MOST, settings
from retain.models.ditmem.slots import Slots
from retain.pipeline.errors import StateError
from retain.pipeline.stage import StatValue

SCORES = 256
"""Last novelties of which the usual is taken."""
ENOUGH = 8
UNUSUAL = 3.0
"""Robust deviations above the median from which a novelty is unusual."""


class Mind:
    """The last frames, the clips, and what is usual. ``budget_bytes``: of all of it; ``stride``:
    frames from one clip to the next."""

    def __init__(self, stream: str, imaginer: Imaginer, budget_bytes: int, stride: int) -> None:
        self.stream, self.seq = stream, -1
        self.windows = Windows(WindowConfig(imaginer.shape, stride=stride))
        self.slots = Slots(imaginer.shape)
        self.notes = Notes(_notes_bytes(imaginer.shape))
        self.clips = ClipBank(settings(imaginer, MOST))
        self.hub = Hub(budget_bytes, stream)
        for name, memory in (("windows", self.windows), ("notes", self.notes)):
            self.hub.add(name, memory, 0.0)
        self.hub.add("clips", self.clips)
        self.scores = np.zeros(0)
        self.described: NDArray[np.float32] | None = None
        """The last complete clip: what the next prediction asks with."""
        self.gates = np.zeros(0)
        """Of the last frames, a clip's at most, where the router has a say."""
        self.offered = 0
        """Clips that were complete."""
        self.began = self.due = 0
        """Numbers of the first frame since the last cut, and of that which is predicted from next.
        """

    @property
    def nbytes(self) -> int:
        """Of all that is remembered. The room of the notes is taken before they are written."""
        return self.windows.min_bytes + self.notes.min_bytes + self.clips.nbytes(self.stream)

    def note(self, score: float) -> None:
        """A novelty that was found."""
        self.scores = np.append(self.scores, score)[-SCORES:]

    def level(self) -> float:
        """From here on a novelty is unusual; NaN until there are enough to tell."""
        if len(self.scores) < ENOUGH:
            return float("nan")
        middle = np.median(self.scores)
        return float(middle + UNUSUAL * 1.4826 * np.median(np.abs(self.scores - middle)))

    def save(self, path: str) -> None:
        asked = np.zeros(0, np.float32) if self.described is None else self.described
        self.notes.write(
            self.stream,
            {
                "scores": self.scores,
                "described": asked,
                "places": np.array([self.began, self.due], np.int64),
                "offered": np.array([self.offered], np.int64),
                "gates": self.gates,
                **{f"slots-{name}": value for name, value in self.slots.arrays().items()},
            },
        )
        self.hub.snapshot(path, self.seq)

    def restore(self, path: str) -> int:
        """Raises StateError for a state of something else."""
        saved = load(path).memories.get("clips", ({}, None))[0].get("capacity", MOST)
        if type(saved) is int and 4 <= saved < MOST:
            # Before bytes moved, the room there was for clips was the most there could be.
            self.hub.remove("clips")
            self.clips = ClipBank(replace(self.clips.settings, capacity=saved))
            self.hub.add("clips", self.clips)
        self.seq = self.hub.restore(path)
        notes = self.notes.read(self.stream)
        try:
            self.scores = notes["scores"].astype(np.float64)
            self.began, self.due = (int(v) for v in notes["places"])
            (self.offered,) = (int(v) for v in notes["offered"])
            self.gates = notes["gates"].astype(np.float64)
            asked = notes["described"].astype(np.float32)
        except (KeyError, ValueError) as error:
            raise StateError(f"{path} was not saved by a stage that imagines.") from error
        self.described = asked if len(asked) else None
        kept = {k.removeprefix("slots-"): v for k, v in notes.items() if k.startswith("slots-")}
        self.slots.restore(kept)
        return self.seq

    def stats(self) -> dict[str, StatValue]:
        held = self.clips.stats(self.stream)
        return {
            "memory_bytes": self.nbytes,
            "clips": held["clips"],
            "room": held["room"],
            "unfilled": self.slots.lost,
        }


def _notes_bytes(shape: ClipShape) -> int:
    """Of scores, a descriptor, and frames between holes."""
    return 16_384 + 2 * shape.frames * (shape.height * shape.width * shape.channels + 24)
