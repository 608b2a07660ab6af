"""Frames by when they are due, so that one which never came leaves a hole that can be filled.

How long a frame lasts is the median of what was seen; a frame that comes n intervals after the one
before leaves n - 1 holes. Holes are handed out in strips of T frames that begin with known ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from retain.memory.clips.clip import Frames
from retain.memory.clips.config import ClipShape
from retain.pipeline.errors import StateError

STEPS = 31
"""Intervals of which the median is taken."""


@dataclass(frozen=True, slots=True)
class Strip:
    """T frames that follow each other, some unknown."""

    frames: Frames = field(repr=False)
    """uint8 [T, H, W, C]; zero where unknown."""
    known: NDArray[np.bool_]
    """[T]; the first is."""
    wanted: NDArray[np.bool_]
    """[T]: holes between known frames that no earlier strip had."""
    seqs: NDArray[np.int64]
    """[T]: numbers in the stream; -1 where it has none."""
    seconds: NDArray[np.float64]
    """[T]."""


@dataclass(frozen=True, slots=True)
class _Held:
    slot: int
    seq: int
    seconds: float
    image: Frames


class Slots:
    """One stream's newest frames, at the size ``shape`` names. Bounded: T at most."""

    def __init__(self, shape: ClipShape) -> None:
        self._shape = shape
        self._held: list[_Held] = []
        self._steps: list[float] = []
        self._done = 0
        """Slots up to here have been handed out."""
        self.lost = 0
        """Holes that were too long to fill, counted in holes."""

    def add(self, image: Frames, seq: int, seconds: float, fresh: bool = False) -> list[Strip]:
        """Take a frame in, ``image`` uint8 [H, W, C]; the strips it completes. ``fresh``: nothing
        before it belongs to it."""
        if not self._held or fresh or seconds <= self._held[-1].seconds:
            return self._anew(image, seq, seconds)
        last = self._held[-1]
        self._steps.append((seconds - last.seconds) / max(seq - last.seq, 1))
        self._steps = self._steps[-STEPS:]
        ahead = max(1, round((seconds - last.seconds) / self._interval))
        if ahead > self._shape.frames - 1:
            self.lost += 1
            return self._anew(image, seq, seconds)
        self._held.append(_Held(last.slot + ahead, seq, seconds, image))
        out = []
        while self._held[-1].slot >= self._shape.frames - 1:
            out.append(self._strip())
            self._advance()
        return out

    def finish(self) -> list[Strip]:
        """What is left, when nothing more comes of this shot."""
        out = [self._strip()] if len(self._held) > 1 else []
        self._held, self._done = [], 0
        return out

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The state."""
        images = [one.image for one in self._held]
        return {
            "images": np.stack(images) if images else np.zeros((0, *self._shape.array[1:]), "u1"),
            "slots": np.array([[h.slot, h.seq] for h in self._held], np.int64).reshape(-1, 2),
            "times": np.array([h.seconds for h in self._held], np.float64),
            "steps": np.array(self._steps, np.float64),
            "counts": np.array([self._done, self.lost], np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Raises StateError for what ``arrays`` never gave."""
        try:
            images, slots = arrays["images"], arrays["slots"].astype(np.int64)
            times, steps = arrays["times"].tolist(), arrays["steps"].tolist()
            done, lost = (int(v) for v in arrays["counts"])
        except (KeyError, ValueError) as error:
            raise StateError("The snapshot's frames between holes are not whole.") from error
        if images.shape[1:] != self._shape.array[1:] or not len(images) == len(times) == len(slots):
            raise StateError(f"The snapshot's frames between holes are not of {self._shape}.")
        rows = zip(slots.tolist(), times, images, strict=True)
        self._held = [_Held(a, b, t, np.asarray(i, np.uint8)) for (a, b), t, i in rows]
        self._steps, self._done, self.lost = steps, done, lost

    @property
    def _interval(self) -> float:
        return max(float(np.median(self._steps)), 1e-9)

    def _anew(self, image: Frames, seq: int, seconds: float) -> list[Strip]:
        out = self.finish()
        self._held = [_Held(0, seq, seconds, image)]
        return out

    def _strip(self) -> Strip:
        count = self._shape.frames
        within = [one for one in self._held if one.slot < count]
        frames = np.zeros(self._shape.array, np.uint8)
        known = np.zeros(count, bool)
        seqs, seconds = np.full(count, -1, np.int64), np.zeros(count)
        for one in within:
            frames[one.slot], known[one.slot] = one.image, True
            seqs[one.slot], seconds[one.slot] = one.seq, one.seconds
        at, places = np.arange(count), np.flatnonzero(known)
        between = (at < places[-1]) & ~known
        seconds[between] = np.interp(at[between], places, seconds[known])
        for left, right in pairwise(within):
            if right.seq - left.seq == right.slot - left.slot:  # the stream counted what it lost
                seqs[left.slot : right.slot] = np.arange(left.seq, right.seq)
        wanted = between & (at > self._done)
        return Strip(frames, known, wanted, seqs, seconds)

    def _advance(self) -> None:
        """Begin with the last two known frames of the strip, or the last one, so as to move."""
        within = [one for one in self._held if one.slot < self._shape.frames]
        first = within[-2] if within[-2].slot else within[-1]
        self._done = within[-1].slot - first.slot
        self._held = [
            _Held(one.slot - first.slot, one.seq, one.seconds, one.image)
            for one in self._held
            if one.slot >= first.slot
        ]


def bridged(frames: Frames, known: NDArray[np.bool_]) -> Frames:
    """``frames`` [T, H, W, C] with what is not ``known`` bool [T] interpolated linearly in time,
    and held at the ends: what any repair is measured against."""
    places, at = np.flatnonzero(known), np.arange(len(known))
    right = np.clip(np.searchsorted(places, at), 0, len(places) - 1)
    left = np.clip(np.searchsorted(places, at, "right") - 1, 0, len(places) - 1)
    a, b = places[left], places[right]
    share = np.where(b > a, (at - a) / np.maximum(b - a, 1), 0.0)[:, None, None, None]
    mixed = (1 - share) * frames[a] + share * frames[b]
    return np.rint(mixed).astype(np.uint8)
