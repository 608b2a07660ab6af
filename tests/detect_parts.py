"""Frames with truth and detections, made at random, for the tests of videos with boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retain.datasets.detect.base import CROWD, IGNORE, Found, Sample, Truth, found_of, truth_of
from retain.datasets.detect.objects import ObjectVideo

SIZE = (320, 240)


def random_frames(
    seed: int, frames: int = 40, classes: int = 3, odd: bool = False, ties: bool = True
) -> tuple[list[Truth], list[Found]]:
    """Truth, and detections that find most of it, miss some, double some and invent others.
    ``odd``: some truth is a crowd or to be ignored. ``ties``: equal scores happen."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(frames):
        count = int(rng.integers(0, 5))
        corner = rng.uniform(0, 200, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 110, (count, 2))], 1).round()
        labels = rng.integers(0, classes, count)
        flags = rng.choice([0, 0, 0, CROWD, IGNORE], count) if odd else np.zeros(count)
        truths.append(truth_of(SIZE, boxes, labels, np.arange(count), flags))
        copies = np.repeat(np.arange(count), rng.integers(0, 3, count))
        near = boxes[copies] + rng.normal(0, 7, (len(copies), 4))
        corner = rng.uniform(0, 200, (3, 2))
        wild = np.concatenate([corner, corner + rng.uniform(8, 90, (3, 2))], 1)
        both = np.concatenate([near, wild])
        both[:, 2:] = np.maximum(both[:, 2:], both[:, :2] + 1)
        names = np.concatenate([labels[copies], rng.integers(0, classes, 3)])
        scores = np.concatenate([rng.uniform(0.2, 1, len(copies)), rng.uniform(0, 0.7, 3)])
        found.append(found_of(both, scores.round(2) if ties else scores, names))
    return truths, found


class Renamed:
    """A procedural clip whose classes go by other names, for layouts that have fixed ones."""

    def __init__(self, clip: ObjectVideo, names: Sequence[str]) -> None:
        self.clip, self.names = clip, tuple(names)
        self.name, self.rate, self.cuts, self.notes = clip.name, clip.rate, clip.cuts, clip.notes
        self.numbers = clip.numbers

    def __len__(self) -> int:
        return len(self.clip)

    def truth(self, index: int) -> Truth:
        return self.clip.truth(index)

    def __getitem__(self, index: int) -> Sample:
        return self.clip[index]
