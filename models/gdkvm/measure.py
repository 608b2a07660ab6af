"""The stage that turns masks of the left ventricle into numbers: area, volume, beats, EF.

Not for diagnosis. Volumes come from one view by a method that is named in every record; see
``datasets/echo/volumes.py`` for what each can and cannot do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo import volumes
from retain.datasets.echo.beats import BeatTracker
from retain.datasets.echo.sector import region
from retain.memory.base import State
from retain.memory.snapshot import MemoryFile, check_config, load, save
from retain.models.gdkvm.place import masks_on_frame
from retain.models.gdkvm.stage import REFUSED
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Beat, Masks, Vitals
from retain.pipeline.stage import StatValue

Method = Literal["area-length", "disks"]
METHODS = {"area-length": volumes.area_length, "disks": volumes.disks}

BEATS = 64
"""Beats a record carries."""

FLAGS = {
    "no-cavity": "No left ventricle was found.",
    "area-jump": "The area jumped as no heart does; the frame does not count for the beats.",
    "split-mask": "The mask is in pieces; only the largest counts.",
    "cut-off": "The mask runs out of the picture.",
}
"""Doubts this stage adds to those of the masks, and what they mean."""

_JUMP_RATE, _JUMP = 8.0, 0.2
"""A jump: the logarithm of the area changes by more than 20 %, and faster than 8 per second. The
fastest ejection halves the area in 0.15 s, which is 5 per second."""
_PIECES = 0.9
"""Less of the mask than this in its largest part is in pieces."""


class Measure:
    """Adds ``vitals``: area, length and volume of the cavity in ``masks``, and the beats so far.

    method      ``area-length`` or ``disks``, both from this one view
    structure   the label of the mask that is measured

    Lengths are in mm where the frame's ``meta`` tells the size of a pixel (``spacing_mm``), else in
    pixels. A beat appears when its end-systole is certain, about half a second after it. One stage
    measures one stream; its state is fixed in size, whatever the stream's length.
    """

    def __init__(self, method: Method = "area-length", structure: str = "cavity") -> None:
        if method not in METHODS:
            raise UsageError(
                f"There is no method {method!r} to measure with.", hint=nearest(method, METHODS)
            )
        self._method, self._structure = method, structure
        self._tracker = BeatTracker()
        self._beats: deque[Beat] = deque(maxlen=BEATS)
        self._before = (math.nan, math.nan)
        """Seconds and area of the last frame with a mask."""
        self._stream = ""
        self._seq = self._seen_to = -1

    def process(self, packet: Packet) -> Packet | None:
        frame, masks = packet.frame, packet.get("masks", Masks)
        if frame.stream != (self._stream or frame.stream):
            raise UsageError(
                f"One measure stage got frames of {self._stream!r} and of {frame.stream!r}.",
                hint="Give each stream a measure stage of its own.",
            )
        if frame.seq <= self._seen_to:
            return None
        self._stream, self._seq = frame.stream, frame.seq
        cavity = self._cavity(masks, frame)
        part = volumes.largest_part(cavity)
        size = METHODS[self._method](part, spacing_mm(frame) or (math.nan, math.nan))
        flags = masks.flags + self._doubts(
            masks, frame, size.area, int(part.sum()), int(cavity.sum())
        )
        vitals = Vitals(size.area, size.length, size.volume, size.unit, size.method, flags=flags)
        self._beats.extend(follow(self._tracker, frame, vitals))
        beats = tuple(self._beats)
        return packet.plus(
            vitals=Vitals(
                size.area, size.length, size.volume, size.unit, size.method,
                beats, median_ef(beats), flags,
            )
        )  # fmt: skip

    def save(self, path: str) -> None:
        """Write the state to ``path``, atomically. Raises StateError before the first frame."""
        if not self._stream:
            raise StateError("There is no state of the measurements to save: not one frame came.")
        rows = [[getattr(beat, name) for name in _BEAT] for beat in self._beats]
        tensors = {
            "tracker": self._tracker.export(),
            "beats": np.array(rows, np.float64).reshape(-1, len(_BEAT)),
            "before": np.array(self._before, np.float64),
        }
        state = State(tensors, {})
        save(path, MemoryFile(self._stream, self._seq, {"measure": (self._config, state)}))

    def load(self, path: str) -> None:
        """Go on from ``path``, passing over frames it has seen. Raises StateError."""
        file = load(path)
        if set(file.memories) != {"measure"}:
            raise StateError(f"{path} holds no state of measurements.")
        config, state = file.memories["measure"]
        check_config("measure", self._config, config)
        try:
            tensors = state.tensors
            self._tracker.restore(tensors["tracker"])
            rows = tensors["beats"].reshape(-1, len(_BEAT)).tolist()
            seconds, area = tensors["before"].tolist()
        except (KeyError, ValueError) as error:
            raise StateError(f"{path} holds no whole state of measurements.") from error
        self._beats = deque((Beat(int(ed), int(es), *rest) for ed, es, *rest in rows), BEATS)
        self._before = seconds, area
        self._stream, self._seq, self._seen_to = file.stream, file.seq, file.seq

    def stats(self) -> Mapping[str, StatValue]:
        size = self._tracker.STATE_SIZE + len(self._beats) * len(_BEAT) + len(self._before)
        return {"beats": self._tracker.completed, "memory_bytes": 8 * size}

    def close(self) -> None:
        pass

    @property
    def _config(self) -> dict[str, str]:
        return {"method": self._method, "structure": self._structure}

    def _cavity(self, masks: Masks, frame: Frame) -> NDArray[np.bool_]:
        if self._structure not in masks.labels:
            raise UsageError(
                f"The masks hold no {self._structure!r} to measure.",
                hint=nearest(self._structure, masks.labels),
            )
        label = masks_on_frame(masks, frame.height, frame.width)
        cavity: NDArray[np.bool_] = label == masks.labels.index(self._structure) + 1
        return cavity

    def _doubts(
        self, masks: Masks, frame: Frame, area: float, part: int, whole: int
    ) -> tuple[str, ...]:
        seconds, before = (math.nan, math.nan) if frame.discontinuity else self._before
        if not whole:
            return () if {*REFUSED} & {*masks.flags} else ("no-cavity",)
        self._before = frame.seconds, area
        change, passed = abs(math.log(area / before)), frame.seconds - seconds
        plane = masks.probability[masks.labels.index(self._structure)]
        border = max(plane[0].max(), plane[-1].max(), plane[:, 0].max(), plane[:, -1].max())
        found = {
            "area-jump": change > _JUMP and change > _JUMP_RATE * passed,
            "split-mask": part < _PIECES * whole,
            "cut-off": border > 127,
        }
        return tuple(flag for flag, true in found.items() if true and flag not in masks.flags)


_BEAT = Beat.__struct_fields__


def follow(tracker: BeatTracker, frame: Frame, vitals: Vitals) -> tuple[Beat, ...]:
    """Give ``tracker`` the vitals of ``frame``; the beats that are certain now."""
    ended = tracker.finish() if frame.discontinuity else ()
    area = math.nan if "area-jump" in vitals.flags else vitals.area
    return ended + tracker.add(frame.seq, frame.seconds, area, vitals.volume)


def median_ef(beats: tuple[Beat, ...]) -> float:
    """Per cent; NaN without beats."""
    return float(np.median([beat.ef for beat in beats])) if beats else math.nan


def spacing_mm(frame: Frame) -> tuple[float, float] | None:
    """Millimetres per pixel (y, x) as the frame's ``meta`` states them; None when it does not, or
    when they belong to a picture of another size: the clip was scaled after it was written."""
    meta = frame.meta
    y, x = meta.get("physical_delta_y"), meta.get("physical_delta_x")
    if meta.get("physical_unit") != "cm" or not isinstance(y, float) or not isinstance(x, float):
        return None
    if not (y > 0 and x > 0) or _scaled(frame):
        return None
    return 10 * y, 10 * x


def _scaled(frame: Frame) -> bool:
    """Whether the region that the sizes hold for does not fit in the picture."""
    found = region(frame.meta)
    return found is not None and (found[2] > frame.width + 2 or found[3] > frame.height + 2)
