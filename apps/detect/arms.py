"""What is compared: the detector alone and with its memory, each with and without a tracker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.motion import box_iou
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall

Rows = NDArray[np.int64]

ARMS = ("plain", "plain+track", "bank", "bank+track")
"""In the order of the tables."""
SAME_IOU = 0.5
"""Boxes of one class in neighbouring frames that overlap so much are taken for the same."""
ENDED_S = 5.0
"""A track that was not seen for so long will not come back."""
LONGEST = 40
"""Tracks kept for the timeline: the longest."""
SPANS = 200
"""Stretches kept of one track."""


def arms_of(packet: Packet, tracked: bool) -> Iterator[tuple[str, Boxes]]:
    """The arms that a packet has results for."""
    for arm, name in (("plain", "plain"), ("bank", "boxes")):
        found = packet.results.get(name)
        if isinstance(found, Boxes):
            yield arm, found
            if tracked:
                yield f"{arm}+track", found


def shown(arm: str, found: Boxes, min_score: float) -> Rows:
    """Rows that count: sure enough, or in a track where there is a tracker."""
    if arm.endswith("+track"):
        return np.flatnonzero(found.tracks >= 0)
    return np.flatnonzero(found.scores >= min_score)


class Tally:
    """Running numbers of one arm; bounded."""

    def __init__(self, tracked: bool) -> None:
        self.frames = self.boxes = 0
        self.tracks = Tracks() if tracked else None
        self._before: tuple[NDArray[np.float32], NDArray[np.int32]] | None = None
        self._alone = self._looked = 0

    def add(self, seq: int, seconds: float, found: Boxes, rows: Rows, fresh: bool) -> None:
        """Count the ``rows`` of the frame ``seq`` (counted without gaps); ``fresh``: it has nothing
        to do with the one before."""
        self.frames += 1
        self.boxes += len(rows)
        now = found.boxes[rows], found.labels[rows]
        if self._before is not None and not fresh:
            self._alone += int((~_met(self._before, now)).sum() + (~_met(now, self._before)).sum())
            self._looked += len(now[0]) + len(self._before[0])
        self._before = now
        if self.tracks is not None:
            self.tracks.add(seq, seconds, found, rows)

    @property
    def per_frame(self) -> float:
        return self.boxes / self.frames if self.frames else float("nan")

    @property
    def flicker(self) -> float:
        """Share of boxes that have no counterpart in the frame before or after. Objects that come
        and go count too: compare arms of one run only."""
        return self._alone / self._looked if self._looked else float("nan")


def _met(
    these: tuple[NDArray[np.float32], NDArray[np.int32]],
    those: tuple[NDArray[np.float32], NDArray[np.int32]],
) -> NDArray[np.bool_]:
    """[N] whether each of ``these`` boxes has a counterpart."""
    if not len(these[0]) or not len(those[0]):
        return np.zeros(len(these[0]), bool)
    near = box_iou(these[0], those[0]) >= SAME_IOU
    return np.asarray((near & (these[1][:, None] == those[1])).any(1))


@dataclass
class Life:
    """One track."""

    track: int
    first_seq: int
    first_s: float
    last_seq: int = -1
    last_s: float = 0.0
    frames: int = 0
    from_memory: int = 0
    """Frames in which more than half of the box came from memory."""
    labels: Counter[int] = field(default_factory=Counter)
    spans: list[tuple[float, float, bool]] = field(default_factory=list)
    """Stretches seen without a gap: start and end in seconds, whether from memory; the first
    ``SPANS``."""

    @property
    def missing(self) -> int:
        """Frames between its first and its last in which it was not found."""
        return max(self.last_seq - self.first_seq + 1 - self.frames, 0)

    @property
    def label(self) -> int:
        return self.labels.most_common(1)[0][0]


class Tracks:
    """Tracks by what they lasted; those that ended are counted, and the longest kept."""

    def __init__(self) -> None:
        self.count = self.frames = self.missing = 0
        self.total_s = 0.0
        self.longest: list[Life] = []
        self._open: dict[int, Life] = {}

    def add(self, seq: int, seconds: float, found: Boxes, rows: Rows) -> None:
        for row in rows:
            track, recalled = int(found.tracks[row]), bool(found.memory[row] > 0.5)
            life = self._open.get(track)
            if life is None:
                life = self._open[track] = Life(track, seq, seconds)
            joined = bool(life.spans) and life.last_seq == seq - 1 and life.spans[-1][2] == recalled
            if joined:
                life.spans[-1] = life.spans[-1][0], seconds, recalled
            elif len(life.spans) < SPANS:
                start = life.last_s if life.last_seq == seq - 1 and life.spans else seconds
                life.spans.append((start, seconds, recalled))
            life.last_seq, life.last_s, life.frames = seq, seconds, life.frames + 1
            life.from_memory += recalled
            life.labels[int(found.labels[row])] += 1
        for life in [one for one in self._open.values() if abs(seconds - one.last_s) > ENDED_S]:
            self._end(life)

    def finish(self) -> None:
        """Count those that are still there. Safe to call twice."""
        for life in list(self._open.values()):
            self._end(life)

    def _end(self, life: Life) -> None:
        del self._open[life.track]
        self.count += 1
        self.frames += life.frames
        self.missing += life.missing
        self.total_s += life.last_s - life.first_s
        self.longest.append(life)
        self.longest.sort(key=lambda one: (one.first_s - one.last_s, one.track))
        del self.longest[LONGEST:]

    @property
    def mean_s(self) -> float:
        return self.total_s / self.count if self.count else float("nan")

    @property
    def gaps(self) -> float:
        """Share of their frames, from first to last, in which tracks were not found."""
        whole = self.frames + self.missing
        return self.missing / whole if whole else float("nan")


class Spent:
    """Milliseconds per frame; the median of a bounded sample."""

    def __init__(self, room: int = 4001) -> None:
        self._room, self._every, self._count = room, 1, 0
        self._items: list[tuple[float, float]] = []

    def add(self, recall: Recall) -> None:
        detector = recall.parts_ms.get("detector", 0.0)
        self._count += 1
        if (self._count - 1) % self._every:
            return
        self._items.append((detector, detector + recall.parts_ms.get("memory", 0.0)))
        if len(self._items) >= self._room:
            self._items, self._every = self._items[::2], 2 * self._every

    @property
    def medians(self) -> tuple[float, float]:
        """The detector alone, and with its memory."""
        if not self._items:
            return float("nan"), float("nan")
        one, both = np.median(np.array(self._items), axis=0)
        return float(one), float(both)
