"""What was made beside what came: predictions wait here for the frames they speak of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from retain.models.ditmem.slots import bridged
from retain.pipeline.results import Prediction, Reference

Frames = NDArray[np.uint8]
RECENT = 512
"""Frames of the stream that are kept at the model's size, to judge by."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A frame that a model made, and what it is compared with; all uint8 [h, w, C]."""

    seq: int
    """-1: the stream has no number for it."""
    seconds: float
    ahead: int
    """Frames from the last known one before it."""
    made: bool
    """Whether a model made it: of a strip that was filled the rest is as it came."""
    guided: Frames = field(repr=False)
    """Mean of the samples."""
    spread: Frames = field(repr=False)
    """Their standard deviation, in the same units."""
    plain: Frames | None = field(repr=False)
    """Without references."""
    simple: Frames = field(repr=False)
    """The last frame held, or the linear interpolation."""
    truth: Frames | None = field(repr=False)
    """None: it never came, or not yet."""
    references: tuple[Reference, ...] = ()


class Waiting:
    """Keeps what is needed to pair predictions with truth; bounded."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, Frames]] = deque(maxlen=RECENT)
        self._pending: dict[int, Pair] = {}
        self._last_fill = float("-inf")

    def saw(self, seq: int, image: Frames, fresh: bool) -> Pair | None:
        """A frame came; what had been predicted for it, if it was. ``fresh``: it goes on with
        nothing, so nothing that was predicted comes true."""
        if fresh:
            self._pending.clear()
        self._recent.append((seq, image))
        pair = self._pending.pop(seq, None)
        return None if pair is None else _with(pair, image)

    def predicted(self, guided: Prediction, plain: Prediction | None, last: Frames) -> None:
        """``last``: the frame that was known last."""
        self._pending = {
            p.seq: p for p in _pairs(guided, plain, np.stack([last] * len(guided.made)))
        }

    def left(self) -> list[Pair]:
        """What has been predicted and has not come."""
        return list(self._pending.values())

    def filled(self, guided: Prediction, plain: Prediction | None) -> list[Pair]:
        """Frames of a strip in order, but for those of before that were told already."""
        simple = bridged(guided.frames[0], ~guided.made)
        truth = dict(self._recent)
        pairs = [_with(p, truth.get(p.seq)) for p in _pairs(guided, plain, simple)]
        fresh = [p for p in pairs if p.seconds > self._last_fill]
        self._last_fill = pairs[-1].seconds
        return fresh


def _pairs(guided: Prediction, plain: Prediction | None, simple: Frames) -> Iterator[Pair]:
    wide = guided.frames.astype(np.float32)
    mean, spread = np.rint(wide.mean(0)).astype(np.uint8), np.rint(wide.std(0)).astype(np.uint8)
    other = None if plain is None else np.rint(plain.frames.mean(0)).astype(np.uint8)
    ahead = 0
    for k, made in enumerate(guided.made.tolist()):
        ahead = ahead + 1 if made else 0
        yield Pair(
            seq=int(guided.seqs[k]),
            seconds=float(guided.seconds[k]),
            ahead=ahead,
            made=made,
            guided=mean[k],
            spread=spread[k],
            plain=None if other is None else other[k],
            simple=simple[k],
            truth=None,
            references=guided.references,
        )


def _with(pair: Pair, truth: Frames | None) -> Pair:
    return replace(pair, truth=truth)
