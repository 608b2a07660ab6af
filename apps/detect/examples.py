"""Moments in which memory decided, with what it remembered: kept while a run goes on, bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from retain.apps.detect.arms import Rows
from retain.apps.detect.overlay import caption, draw
from retain.apps.drawing import jpeg, shrink
from retain.datasets.detect.motion import box_iou
from retain.pipeline.frame import Frame, Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Support

WIDTH = 400
"""Of pictures that are kept to cut crops from."""
ROOM = 900
"""How many; the oldest go."""
KEPT = 6
"""Examples in a report."""
SLOT_S = 1.0
"""Of the stream, for one example at most."""
CROPS = 4
CROP_SIDE = 96
MARGIN = 0.2
"""Of a box's side, around what is cut out."""
SURROUNDING, LEAST_SHOWN, SHOWN_WIDTH = 3.0, 180, 480
"""Of the part of a frame that an example shows: its height in sides of the box, at least so many
pixels of the frame, and the width it is drawn at."""


class Pictures:
    """Small pictures of the last frames, by ``seq``."""

    def __init__(self, room: int = ROOM, width: int = WIDTH) -> None:
        self._room, self._width = room, width
        self._kept: OrderedDict[int, tuple[bytes, float]] = OrderedDict()

    def add(self, frame: Frame) -> None:
        small = shrink(frame.image, self._width)
        self._kept[frame.seq] = jpeg(small), small.shape[1] / frame.width
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)

    def crop(self, support: Support) -> Image | None:
        """What a remembered row saw, with some ground around it; None when it is too long ago."""
        import cv2

        if support.seq not in self._kept:
            return None
        data, scale = self._kept[support.seq]
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None
        x0, y0, x1, y1 = (scale * value for value in support.box)
        room = MARGIN * max(x1 - x0, y1 - y0)
        height, width = bgr.shape[:2]
        left, right = (int(np.clip(x, 0, width)) for x in (x0 - room, x1 + room + 1))
        top, bottom = (int(np.clip(y, 0, height)) for y in (y0 - room, y1 + room + 1))
        if right - left < 2 or bottom - top < 2:
            return None
        part = bgr[top:bottom, left:right, ::-1]
        grown = CROP_SIDE / part.shape[0]
        size = max(1, min(3 * CROP_SIDE, round(grown * part.shape[1]))), CROP_SIDE
        return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, slots=True)
class Example:
    """One box that memory decided."""

    gain: float
    seq: int
    seconds: float
    text: str
    share: float
    """Of the box that comes from memory."""
    with_memory: bytes
    """JPEG of the frame with that box."""
    alone: bytes
    """The same frame with what the detector alone says; without any boxes where that was not
    compared."""
    compared: bool
    crops: tuple[tuple[bytes, float, float], ...]
    """JPEG, seconds and share of what was remembered, the heaviest first."""


def decided(found: Boxes, alone: Boxes | None, min_score: float) -> tuple[int, float]:
    """The row of ``found`` that owes most to memory, and how much: its score, by its share, less
    what the detector alone gives the same place. Row -1 and 0 where there is none."""
    if not found.supports:
        return -1, 0.0
    gains = np.where(found.scores >= min_score, found.scores, 0)
    gains = gains * np.array([bool(supports) for supports in found.supports])
    if alone is not None and len(alone.scores):
        same = box_iou(found.boxes, alone.boxes) >= 0.5
        same &= found.labels[:, None] == alone.labels
        gains = gains - np.where(same, alone.scores, 0).max(1)
    gains = gains * found.memory
    best = int(gains.argmax())
    return (best, float(gains[best])) if gains[best] > 0 else (-1, 0.0)


class Examples:
    """The boxes of a run that owe most to memory, one of each second at most."""

    def __init__(self, min_score: float) -> None:
        self.pictures = Pictures()
        self.kept: list[Example] = []
        self._min_score = min_score

    def add(self, packet: Packet) -> None:
        found, plain = packet.results.get("boxes"), packet.results.get("plain")
        if isinstance(found, Boxes):
            alone = plain if isinstance(plain, Boxes) else None
            best, gain = decided(found, alone, self._min_score)
            if gain > self._least(packet.frame.seconds):
                self._take(packet.frame, found, alone, best, gain)
        self.pictures.add(packet.frame)

    def _least(self, seconds: float) -> float:
        """What an example at this time must be worth."""
        rival = next((one for one in self.kept if _slot(one.seconds) == _slot(seconds)), None)
        if rival is not None:
            return rival.gain
        return min((one.gain for one in self.kept), default=0.0) if len(self.kept) >= KEPT else 0.0

    def _take(self, frame: Frame, found: Boxes, alone: Boxes | None, row: int, gain: float) -> None:
        crops = []
        for support in found.supports[row][:CROPS]:
            if (part := self.pictures.crop(support)) is not None:
                crops.append((jpeg(part), support.seconds, support.share))
        ours = np.flatnonzero((found.scores >= self._min_score) | (found.tracks >= 0))
        theirs = np.empty(0, np.int64)
        if alone is not None:
            theirs = np.flatnonzero((alone.scores >= self._min_score) | (alone.tracks >= 0))
        around = _around(found.boxes[row], frame.height, frame.width)
        example = Example(
            gain,
            frame.seq,
            frame.seconds,
            caption(found, row),
            float(found.memory[row]),
            _picture(frame.image, found, np.union1d(ours, [row]), around, np.array([row])),
            _picture(frame.image, alone or found, theirs, around, theirs),
            alone is not None,
            tuple(crops),
        )
        others = [one for one in self.kept if _slot(one.seconds) != _slot(frame.seconds)]
        self.kept = sorted([*others, example], key=lambda one: -one.gain)[:KEPT]


def _slot(seconds: float) -> int:
    return int(seconds // SLOT_S)


def _around(box: NDArray[np.float32], height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of a frame that is shown: the box and what is near it,
    4 to 3, never all of a large frame."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    side = max(float(box[3] - box[1]), 0.75 * float(box[2] - box[0]), 1.0)
    tall = min(max(SURROUNDING * side, LEAST_SHOWN), height, 0.75 * width)
    wide = tall / 0.75
    left = int(np.clip(x - wide / 2, 0, width - wide))
    top = int(np.clip(y - tall / 2, 0, height - tall))
    return left, top, left + int(wide), top + int(tall)


def _picture(
    image: Image, found: Boxes, rows: Rows, around: tuple[int, int, int, int], named: Rows
) -> bytes:
    """The part ``around`` of a frame as JPEG, with the ``rows`` of ``found`` on it, those that are
    ``named`` with what they are."""
    left, top, right, bottom = around
    moved = msgspec.structs.replace(
        found, boxes=found.boxes - np.array([left, top, left, top], np.float32)
    )
    part = np.ascontiguousarray(image[top:bottom, left:right])
    return jpeg(draw(part, moved, rows, SHOWN_WIDTH / (right - left), named))
