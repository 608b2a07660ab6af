"""The last boxes live on where nothing new is found: no learning, the rival of every memory.

A box keeps its place; its score fades with time, so that the frame rate changes nothing. Where a
new box of its class lies on it, the better one stays. A new box that comes from another memory is a
guess, as is one that lives on: where the two are of one object, their mean by score is shown. What
is mostly memory never lives on: what was not seen is not carried, and no guess feeds another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import Found
from retain.datasets.detect.evaluate_match import overlaps
from retain.memory.base import Json, State
from retain.memory.carry import refuse_to_shrink
from retain.pipeline.errors import StateError, UsageError

SAME_IOU = 0.5
GUESSED_IOU = 0.2
"""The same for a box that is itself from memory: two guesses of where one object is."""
_GUESSED = 0.2
MOSTLY = 0.5
"""Share of memory from which a box does not live on."""
_HEARD = 0.05
"""Score of a new box under which it does not count as seen."""
_LEAST = 0.01
"""Score under which a box is let go."""


@dataclass(frozen=True, slots=True)
class CarryConfig:
    """Raises UsageError for values that cannot work."""

    decay: float = 0.8
    """Share of the score that is left after 1/24 of a second."""
    capacity: int = 100
    """Boxes held."""

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise UsageError(f"The carry's decay is between 0 and 1, not {self.decay}.")
        if self.capacity < 1:
            raise UsageError("The carry must hold at least one box.")


@dataclass(frozen=True, slots=True)
class Carried:
    """Boxes after the merge, the best first."""

    found: Found
    places: NDArray[np.float32]
    """[n, 4] where each was last found. Two guesses of one object are shown between theirs."""
    source: NDArray[np.int64]
    """[n] which of the new boxes each is; -1: it lives on from an earlier frame."""
    seconds: NDArray[np.float64]
    """[n] when each was last found."""
    frames: NDArray[np.int64]
    """[n] and in which frame."""
    seen: NDArray[np.float32]
    """[n] of those that live on: what this frame alone gives the best new box of the same object,
    which gave way; 0: there is none worth naming."""


@dataclass(frozen=True, slots=True)
class FoundAt:
    """What a frame shows."""

    found: Found
    seq: int
    seconds: float
    guessed: NDArray[np.float32] | None = None
    """[n] how much of each comes from another memory; None: nothing."""


class BoxCarry:
    """A memory of boxes per stream, as ``memory/base.py`` has it. ``write`` takes what a frame
    shows and gives what to show for it; ``read`` gives what is held."""

    def __init__(self, config: CarryConfig | None = None) -> None:
        self._config = config or CarryConfig()
        self._streams: dict[str, dict[str, np.ndarray]] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        c = self._config
        return {"kind": "box-carry", "decay": c.decay, "capacity": c.capacity}

    @property
    def min_bytes(self) -> int:
        return 48 * self._config.capacity + 8

    def write(self, stream: str, item: FoundAt, gate: float = 1.0) -> Carried:
        """Merge. ``gate`` scales the scores of the boxes that come in."""
        s, new = self._stream(stream), item.found
        gap = max(item.seconds - float(s["at"][0]), 0.0) if len(s["scores"]) else 0.0
        faded = s["scores"] * self._config.decay ** (24 * gap)
        boxes = np.concatenate([new.boxes, s["boxes"]])
        scores = np.concatenate([new.scores * gate, faded]).astype(np.float32)
        labels = np.concatenate([new.labels, s["labels"]])
        source = np.concatenate([np.arange(len(new)), np.full(len(faded), -1)])
        seconds = np.concatenate([np.full(len(new), item.seconds), s["seconds"]])
        frames = np.concatenate([np.full(len(new), item.seq), s["frames"]])
        share = np.zeros(len(boxes), np.float32)
        if item.guessed is not None:
            share[: len(new)] = item.guessed
        rivals = _rivals(boxes, labels, source < 0, share > _GUESSED)
        order = np.lexsort((source < 0, -scores.astype(np.float64)))
        order = order[scores[order] >= _LEAST]
        kept = _best(order, rivals)
        held = _best(order[share[order] <= MOSTLY], rivals)[: self._config.capacity]
        alone = np.where(source < 0, 0, scores * (1 - share))
        alone[alone < _HEARD] = 0
        seen = (rivals[kept] * alone).max(1, initial=0) * (source[kept] < 0)
        self._streams[stream] = {
            "boxes": boxes[held],
            "scores": scores[held].astype(np.float64),
            "labels": labels[held],
            "seconds": seconds[held],
            "frames": frames[held],
            "at": np.array([item.seconds]),
        }
        between = _between(boxes, scores, rivals & (share > _GUESSED)[:, None])
        merged = Found(between[kept], scores[kept], labels[kept])
        last = source[kept], seconds[kept], frames[kept]
        return Carried(merged, boxes[kept], *last, seen.astype(np.float32))

    def read(self, stream: str, query: None = None) -> Found:
        s = self._stream(stream)
        return Found(s["boxes"], s["scores"].astype(np.float32), s["labels"])

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self.min_bytes

    def shrink_to(self, stream: str, nbytes: int) -> None:
        refuse_to_shrink("carry", nbytes, self.min_bytes)

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        return {"boxes": len(self._stream(stream)["scores"]), "bytes": self.min_bytes}

    def snapshot(self, stream: str) -> State:
        return State({name: array.copy() for name, array in self._stream(stream).items()})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError for arrays that no carry holds."""
        fresh, count = _fresh(), len(state.tensors.get("scores", ()))
        for name, like in fresh.items():
            array = state.tensors.get(name)
            shape = like.shape if name == "at" else (count, *like.shape[1:])
            if array is None or array.dtype != like.dtype or array.shape != shape:
                raise StateError(f"The snapshot's array {name!r} is not that of a carry.")
            if not np.isfinite(array).all():
                raise StateError(f"The snapshot's array {name!r} holds values that are not finite.")
        if count > self._config.capacity:
            raise StateError(f"The snapshot holds {count} boxes, more than this carry may.")
        self._streams[stream] = {name: state.tensors[name].copy() for name in fresh}

    def _stream(self, stream: str) -> dict[str, np.ndarray]:
        return self._streams.setdefault(stream, _fresh())


def _fresh() -> dict[str, np.ndarray]:
    return {
        "boxes": np.empty((0, 4), np.float32),
        "scores": np.empty(0, np.float64),
        "labels": np.empty(0, np.int64),
        "seconds": np.empty(0, np.float64),
        "frames": np.empty(0, np.int64),
        "at": np.zeros(1, np.float64),
    }


def _rivals(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    old: NDArray[np.bool_],
    guessed: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """[n, n] which two are one object: an old and a new box of one class that overlap. New boxes do
    not suppress each other: the host did that."""
    nobody = np.zeros(len(boxes), bool)
    overlap = overlaps(boxes.astype(np.float64), boxes.astype(np.float64), nobody)
    least = np.where(guessed[:, None] | guessed, GUESSED_IOU, SAME_IOU)
    found: NDArray[np.bool_] = (
        (overlap > least) & (labels[:, None] == labels) & (old[:, None] != old)
    )
    return found


def _between(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], guesses: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """[n, 4] ``boxes``, guesses of one object in their mean. ``guesses`` [n, n]: a guess and
    a box that lives on of the same object; of several the surest counts."""
    strength = np.where(guesses | guesses.T, scores, 0)
    other = strength.argmax(1) if len(boxes) else np.empty(0, np.int64)
    weight = strength.max(1, initial=0) / np.maximum(scores + strength.max(1, initial=0), 1e-9)
    return np.asarray(boxes + weight[:, None] * (boxes[other] - boxes), np.float32)


def _best(order: NDArray[np.int64], rivals: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Those of ``order``, the best first, that have no better rival in it that stays."""
    gone = np.zeros(len(rivals), bool)
    out = []
    for row in order.tolist():
        if not gone[row]:
            out.append(row)
            gone |= rivals[row]
    return np.asarray(out, np.int64)
