"""A segmenting stage without a network: an ellipse whose size follows a heart beat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

import numpy as np

from retain.models.gdkvm.measure import Measure
from retain.pipeline.errors import RetainError
from retain.pipeline.frame import Frame, MetaValue
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks
from retain.pipeline.stage import StatValue

GRID = 112
BEAT_S = 0.8
LONG, WIDE = 30.0, 18.0
"""Semi-axes of the ellipse at end-diastole, pixels of the grid; both shrink alike."""
LEAST = 0.8
"""What is left of both at end-systole: a volume of LEAST**3, so EF is 48.8 %."""
EF = 100 * (1 - LEAST**3)
HOLD = 3


def shrink(seconds: float) -> float:
    """Scale of the ellipse, from 1 to LEAST and back in BEAT_S."""
    return LEAST + (1 - LEAST) * (0.5 + 0.5 * math.cos(2 * math.pi * seconds / BEAT_S))


def ellipse(scale: float, at: tuple[float, float] = (56.0, 60.0)) -> np.ndarray:
    """uint8 [112, 112]: probability, with an edge as soft as a pixel."""
    y, x = np.mgrid[:GRID, :GRID] + 0.5
    away = np.hypot((x - at[0]) / WIDE, (y - at[1]) / LONG) / scale
    return np.uint8(np.clip(127.5 + 255 * (1 - away) * WIDE * scale / 1.5, 0, 255))


def masks(scale: float, frame: Frame, flags: tuple[str, ...] = ()) -> Masks:
    """The ellipse, on a grid that spans the frame's height."""
    step = frame.height / GRID
    to_frame = np.array([[step, 0, (frame.width - frame.height) / 2], [0, step, 0]], np.float32)
    return Masks(ellipse(scale)[None], ("cavity",), to_frame, flags)


class Ellipses:
    """Stands in for ``retain.models.gdkvm.stage:Segment``, options and held-back packets included.

    ``weights``: words that change what it does: ``broken`` refuses the first frame, ``flagged``
    doubts every second frame, ``none`` finds nothing, ``still`` does not beat, ``fanless`` finds no
    fan anywhere and says so frame by frame.
    """

    def __init__(self, weights: str = "", device: str = "auto", structures: str = "cavity") -> None:
        self.words = weights.split(",")
        self._held: list[Packet] | None = []

    def process(self, packet: Packet) -> Iterable[Packet]:
        if "broken" in self.words:
            raise RetainError("No ultrasound fan was found: the picture is a photo.")
        if self._held is None:
            return [self._segment(packet)]
        self._held.append(packet)
        return list(self.flush()) if len(self._held) > HOLD else []

    def flush(self) -> Iterator[Packet]:
        held, self._held = self._held or [], None
        yield from map(self._segment, held)

    def stats(self) -> Mapping[str, StatValue]:
        return {"weights": "ellipse", "memory_bytes": 0}

    def close(self) -> None: ...

    def _segment(self, packet: Packet) -> Packet:
        frame = packet.frame
        scale = 1.0 if "still" in self.words else shrink(frame.seconds)
        flags = ("colour-doppler",) if "flagged" in self.words and frame.seq % 2 else ()
        if "fanless" in self.words:
            return packet.plus(masks=masks(0.01, frame, ("no-sector",)))
        return packet.plus(masks=masks(0.01 if "none" in self.words else scale, frame, flags))


def measured(count: int, words: str = "", fps: int = 30, **meta: MetaValue) -> list[Packet]:
    """Packets as the segment graph makes them, of dark pictures with a brighter fan."""
    segment, measure = Ellipses(words), Measure()
    y, x = np.mgrid[:180, :240]
    fan = 70.0 * (np.abs(x - 120) < 0.8 * y) * (np.hypot(x - 120, y) < 170)
    picture = np.repeat(fan.astype(np.uint8)[..., None], 3, axis=2)
    made: list[Packet] = []
    for seq in range(count):
        frame = Frame("heart", seq, seq, Fraction(1, fps), picture.copy(), meta=meta)
        made += segment.process(Packet(frame))
    made += segment.flush()
    return [packet for packet in map(measure.process, made) if packet is not None]
