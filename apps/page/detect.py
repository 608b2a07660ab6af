"""What the page of `retain detect` knows: boxes, tracks, the memory, what it decided. Bounded."""

from __future__ import annotations

from collections import OrderedDict, deque

import numpy as np

from retain.apps.detect.arms import shown
from retain.apps.detect.examples import CROPS, Pictures, decided
from retain.apps.detect.overlay import PALETTE, RECALLED
from retain.apps.drawing import jpeg
from retain.apps.page.section import Json, Section
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall

MIN_SCORE = 0.3
"""Boxes without a track are shown from it on, unless the run was given another."""
EASE = 0.1
"""Weight of a new frame in the means of what parts of the work take."""
ROOM = 60
"""Tracks in the list."""
STAYS_S = 3.0
"""A track stays in the list for so long after it was seen last."""
DECIDED_S = 1.0
"""What memory decided is shown at least so long."""
FIRST_CROP = 10**9
"""Crops are asked for like frames; their numbers begin where no frame's will."""
KEPT_CROPS = 48


def about() -> Json:
    """What is fixed, beside what every page says of itself."""
    return {
        "doing": "Detecting. Dashed boxes come from memory by more than half.",
        "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in PALETTE],
    }


def describe(packet: Packet, preview: Image, min_score: float = MIN_SCORE) -> Json:
    """Boxes in pixels of the preview."""
    found, plain = packet.results.get("boxes"), packet.results.get("plain")
    if not isinstance(found, Boxes):
        return {}
    scale = preview.shape[1] / packet.frame.width
    told: Json = {"boxes": _told(found, scale, min_score)}
    if isinstance(plain, Boxes):
        told["alone"] = _told(plain, scale, min_score)
    return told


def _told(found: Boxes, scale: float, min_score: float) -> list[Json]:
    return [
        {
            "box": [round(float(value) * scale, 1) for value in found.boxes[row]],
            "name": found.names[found.labels[row]],
            "label": int(found.labels[row]),
            "track": int(found.tracks[row]),
            "score": round(float(found.scores[row]), 3),
            "memory": round(float(found.memory[row]), 3),
        }
        for row in _rows(found, min_score)
    ]


def _rows(found: Boxes, min_score: float) -> list[int]:
    tracked, sure = shown("+track", found, min_score), shown("", found, min_score)
    return [int(row) for row in np.union1d(tracked, sure)]


class Tracked(Section):
    """Tracks that are seen or were a moment ago, by number."""

    name = "tracks"
    every_s = 0.25

    def __init__(self) -> None:
        super().__init__()
        self._tracks: OrderedDict[int, Json] = OrderedDict()
        self._most = 0

    def observe(self, packet: Packet) -> None:
        found, frame = packet.results.get("boxes"), packet.frame
        if not isinstance(found, Boxes):
            return
        recall, now = packet.results.get("recall"), round(frame.seconds, 3)
        if frame.discontinuity or (isinstance(recall, Recall) and recall.reset):
            self._tracks.clear()  # none of them can be seen again
        for row in shown("+track", found, MIN_SCORE):
            track = int(found.tracks[row])
            self._most = max(self._most, track)
            life = self._tracks.setdefault(track, {"track": track, "first_s": now, "frames": 0})
            life |= {
                "name": found.names[found.labels[row]],
                "label": int(found.labels[row]),
                "last_s": now,
                "frames": life["frames"] + 1,
                "score": round(float(found.scores[row]), 3),
                "memory": round(float(found.memory[row]), 3),
            }
        gone = [t for t, life in self._tracks.items() if not 0 <= now - life["last_s"] <= STAYS_S]
        for track in gone:
            del self._tracks[track]
        while len(self._tracks) > ROOM:
            self._tracks.popitem(last=False)
        self.version += 1

    def view(self, since: int) -> Json:
        return {"tracks": list(self._tracks.values()), "given": self._most}


class FromScore(Section):
    """Counts boxes that are in no track from ``min_score`` on."""

    min_score = MIN_SCORE


class Remembered(FromScore):
    """How full the memory is, when it began anew, what it adds, and what it takes."""

    name = "recall"
    every_s = 0.25

    def __init__(self) -> None:
        super().__init__()
        self._last: Recall | None = None
        self._boxes = self._recalled = self._alone = self._frames = 0
        self._resets = 0
        self._newest: deque[tuple[float, str]] = deque(maxlen=4)
        self._parts: dict[str, float] = {}

    def observe(self, packet: Packet) -> None:
        recall, found = packet.results.get("recall"), packet.results.get("boxes")
        if not isinstance(recall, Recall) or not isinstance(found, Boxes):
            return
        self.version += 1
        self._last, first = recall, self._last is None
        rows = _rows(found, self.min_score)
        self._frames += 1
        self._boxes += len(rows)
        self._recalled += int((found.memory[rows] > RECALLED).sum())
        if isinstance(plain := packet.results.get("plain"), Boxes):
            self._alone += len(_rows(plain, self.min_score))
        if recall.reset:
            self._resets += 1
            self._newest.append((packet.frame.seconds, recall.reset))
        for name, now in recall.parts_ms.items():
            before = now if first else self._parts.get(name, now)
            self._parts[name] = before + EASE * (now - before)

    def view(self, since: int) -> Json:
        recall = self._last
        if recall is None:
            return {"byte_budget": 0}
        return {
            "rows": recall.rows,
            "room": recall.room,
            "nbytes": recall.nbytes,
            "byte_budget": recall.byte_budget,
            "frames": self._frames,
            "boxes": self._boxes,
            "recalled": self._recalled,
            "alone": self._alone,
            "resets": self._resets,
            "newest": [[seconds, reason] for seconds, reason in self._newest],
            "parts_ms": {name: round(ms, 2) for name, ms in self._parts.items()},
        }


class Decided(FromScore):
    """The box that owes most to memory just now, and what was remembered for it."""

    name = "decided"
    every_s = 0.5

    def __init__(self) -> None:
        super().__init__()
        self._pictures = Pictures(room=600)
        self._crops: OrderedDict[int, bytes] = OrderedDict()
        self._next = FIRST_CROP
        self._view: Json = {"crops": []}
        self._at = float("-inf")

    def observe(self, packet: Packet) -> None:
        found, plain, frame = packet.results.get("boxes"), packet.results.get("plain"), packet.frame
        if isinstance(found, Boxes) and abs(frame.seconds - self._at) >= DECIDED_S:
            alone = plain if isinstance(plain, Boxes) else None
            row, gain = decided(found, alone, self.min_score)
            if gain > 0:
                self._show(packet, found, row)
        self._pictures.add(frame)

    def _show(self, packet: Packet, found: Boxes, row: int) -> None:
        crops = []
        for support in found.supports[row][:CROPS]:
            part = self._pictures.crop(support)
            if part is not None:
                self._crops[self._next] = jpeg(part)
                crops.append([self._next, support.seconds, support.share])
                self._next += 1
        while len(self._crops) > KEPT_CROPS:
            self._crops.popitem(last=False)
        self._at = packet.frame.seconds
        self._view = {
            "seconds": packet.frame.seconds,
            "name": found.names[found.labels[row]],
            "label": int(found.labels[row]),
            "track": int(found.tracks[row]),
            "score": round(float(found.scores[row]), 3),
            "memory": round(float(found.memory[row]), 3),
            "crops": crops,
        }
        self.version += 1

    def view(self, since: int) -> Json:
        return self._view

    def picture(self, seq: int) -> bytes | None:
        return self._crops.get(seq)


def sections() -> list[Section]:
    return [Tracked(), Remembered(), Decided()]
