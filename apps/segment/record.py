"""What `retain segment` writes down while it runs: lines, masks, the curve, beats, the overlay."""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from retain.apps.drawing import clock
from retain.apps.journal import dropped_frames, moment
from retain.apps.running import RESULTS, Footage
from retain.apps.segment.files import BEATS, CURVE, Table, beat_row, write_mask
from retain.apps.segment.overlay import TICKS, Overlay
from retain.apps.segment.words import NOTICE, percent
from retain.datasets.echo.beats import BeatTracker
from retain.models.gdkvm.measure import follow, spacing_mm
from retain.models.gdkvm.place import masks_on_frame
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.results import Beat, Masks, Vitals
from retain.pipeline.stage import StatValue

MASKS, OVERLAY, CURVE_CSV, BEATS_CSV = "masks", "overlay.mp4", "curve.csv", "beats.csv"
KEPT_BEATS = 500
"""Beats kept for the report; all go to beats.csv."""
SHAKY = 0.1
"""Share of doubtful frames from which numbers are called doubtful as well."""
KEPT_SPELLS = 40
SPELL_GAP_S = 1.0
"""Frames further apart than this are two spells of doubt."""


@dataclass
class Spell:
    """Frames with the same doubt, close to each other."""

    flag: str
    start_s: float
    end_s: float
    """Time of its last frame."""
    frames: int


class Recorder(Footage):
    """A sink. What it holds is bounded, but for 8 bytes per beat.

    ``results.jsonl`` has a line per frame: ``{"stream", "seq", "pts", "time_base", "seconds",
    "notice", "results": {"masks": ..., "vitals": ...}}``; masks without their planes, which are in
    ``masks/``, and ``beats`` only on lines where one was added.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        (folder / MASKS).mkdir()
        self.folder = folder
        self.flags: Counter[str] = Counter()
        self.spells: deque[Spell] = deque(maxlen=KEPT_SPELLS)
        """The last spells of doubt, by their start."""
        self.doubtful = 0
        """Frames with any doubt."""
        self.beats: deque[Beat] = deque(maxlen=KEPT_BEATS)
        self.whole = True
        """False when the only beat is from the largest to the smallest area, not a whole one."""
        self.vitals: Vitals | None = None
        self.labels: tuple[str, ...] = ()
        self.spacing_mm: tuple[float, float] | None = None
        self.meta: Mapping[str, Any] = {}
        self.size = (0, 0)
        self._efs = array("d")
        self._tracker = BeatTracker()
        self._lines = (folder / RESULTS).open("wb")
        self._encoder = msgspec.json.Encoder()
        self._curve = Table(folder / CURVE_CSV, CURVE)
        self._table = Table(folder / BEATS_CSV, BEATS)
        self._overlay = Overlay(folder / OVERLAY)
        self._closed = False

    def process(self, packet: Packet) -> None:
        frame, masks = packet.frame, packet.get("masks", Masks)
        vitals = packet.get("vitals", Vitals)
        if not self.frames:
            self.labels, self.spacing_mm, self.meta = masks.labels, spacing_mm(frame), frame.meta
            self.size = frame.width, frame.height
        label = masks_on_frame(masks, frame.height, frame.width)
        write_mask(self.folder / MASKS / f"{frame.seq:06d}.png", label)
        values = vitals.area, vitals.length, vitals.volume, vitals.unit, vitals.flags
        self._curve.add(frame.seq, float(frame.seconds), *values, NOTICE)
        self._overlay.add(frame, masks, label, vitals)
        self._line(packet, masks, vitals)
        self._doubt(frame.seconds, vitals.flags)
        self.vitals = vitals
        self._add_beats(follow(self._tracker, frame, vitals))
        self.count(frame)

    def close(self) -> None:
        """Decide the last beats and finish the files. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._add_beats(self._tracker.finish())
        if not self._efs and (widest := self._tracker.widest()):
            self.whole = False
            self._add_beats((widest,))
        for file in (self._lines, self._curve, self._table, self._overlay):
            file.close()

    @property
    def start_s(self) -> float:
        """Presentation time of the first frame."""
        return self._start_s

    def ticks(self, seconds: float) -> int:
        """When the overlay shows the frame of a presentation time."""
        return round((seconds - self._start_s) * TICKS)

    @property
    def ef(self) -> float:
        """Median of all beats, per cent; NaN without one."""
        return float(np.median(self._efs)) if self._efs else math.nan

    @property
    def beat_count(self) -> int:
        return len(self._efs)

    @property
    def median_beat(self) -> Beat | None:
        """The kept beat whose EF is nearest to the median."""
        known = [beat for beat in self.beats if beat.ef == beat.ef]
        return min(known, key=lambda beat: abs(beat.ef - self.ef), default=None)

    @property
    def shaky(self) -> bool:
        """Whether so many frames are doubtful that every number is."""
        return self.doubtful > SHAKY * self.frames

    @property
    def method(self) -> str:
        method = self.vitals.method if self.vitals else ""
        return method if self.whole else f"{method}; largest to smallest area, no whole beat"

    def stats(self) -> Mapping[str, StatValue]:
        return {"lines": self.frames, "beats": self.beat_count}

    def line(self, elapsed_s: float, stats: GraphStats) -> str:
        """How far it is, for a person."""
        if not self.frames:
            return f"starting … {elapsed_s:.0f} s"
        beats, dropped = self.beat_count, dropped_frames(stats)
        return (
            f"{clock(self.footage_s)} segmented, {self.frames} frames, "
            f"{self.footage_s / max(elapsed_s, 1e-9):.1f}x real time · "
            + (f"{beats} beats, EF {percent(self.ef)}" if beats else "no whole beat yet")
            + (f" · {self.doubtful} doubtful" if self.doubtful else "")
            + (f" · {dropped} dropped" if dropped else "")
        )

    def _line(self, packet: Packet, masks: Masks, vitals: Vitals) -> None:
        told = msgspec.structs.asdict(vitals)
        beats = told.pop("beats")
        if (
            self.vitals is None
            or len(beats) != len(self.vitals.beats)
            or beats != self.vitals.beats
        ):
            told["beats"] = beats
        where = {"labels": masks.labels, "to_frame": masks.to_frame.tolist(), "flags": masks.flags}
        record = moment(packet.frame) | {
            "notice": NOTICE,
            "results": {"masks": where, "vitals": told},
        }
        self._lines.write(self._encoder.encode(record) + b"\n")

    def _doubt(self, seconds: float, flags: tuple[str, ...]) -> None:
        self.doubtful += bool(flags)
        self.flags.update(flags)
        for flag in flags:
            last = next((spell for spell in reversed(self.spells) if spell.flag == flag), None)
            if last is not None and 0 <= seconds - last.end_s <= SPELL_GAP_S:
                last.end_s, last.frames = seconds, last.frames + 1
            else:
                self.spells.append(Spell(flag, seconds, seconds, 1))

    def _add_beats(self, beats: tuple[Beat, ...]) -> None:
        assert self.vitals is not None or not beats
        for beat in beats:
            self.beats.append(beat)
            self._efs.append(beat.ef)
            if self.vitals:
                self._table.add(*beat_row(beat, self.vitals.unit, self.method))
