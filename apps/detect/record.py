"""What `retain detect` writes down while it runs: lines, tracks, the overlay, what is counted."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from retain.apps.detect.arms import Spent, Tally, arms_of, shown
from retain.apps.detect.examples import Examples
from retain.apps.detect.files import mot_lines, told_rows
from retain.apps.detect.judge import common
from retain.apps.detect.overlay import RECALLED, Overlay
from retain.apps.drawing import clock, size
from retain.apps.journal import dropped_frames, moment
from retain.apps.running import RESULTS, Footage
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall
from retain.pipeline.stage import StatValue

OVERLAY, TRACKS, COCO = "overlay.mp4", "tracks.txt", "detections.json"
KEPT_RESETS = 200
TITLES = {"plain": "the detector alone", "bank": "with memory"}


class Recorder(Footage):
    """A sink; what it holds is bounded.

    ``results.jsonl`` has a line per frame: ``{"stream", "seq", "pts", "time_base", "seconds",
    "size", "clip", "frame", "results": {"boxes": [...], "plain": [...], "recall": {...}}}``; of
    each box its corners, score, label, track, how much of it is memory, and from which rows.

    tracked    whether the boxes have ids
    min_score  boxes from it on count and are drawn; with ids, those in a track
    mot        whether ``tracks.txt`` is written
    classes    of the truth, where there is one; a detector that knows none of them is refused with
               a UsageError at the first frame
    """

    def __init__(
        self,
        folder: Path,
        *,
        tracked: bool,
        min_score: float,
        mot: bool,
        classes: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self._classes = classes
        self.folder, self.tracked, self.min_score = folder, tracked, min_score
        self.tallies: dict[str, Tally] = {}
        self.spent = Spent()
        self.examples = Examples(min_score)
        self.names: tuple[str, ...] = ()
        self.size = (0, 0)
        self.boxes = self.from_memory = 0
        """Shown boxes, and those of them that come from memory by more than half."""
        self.resets: deque[tuple[float, str]] = deque(maxlen=KEPT_RESETS)
        """When the memory began anew last, and why."""
        self.reset_kinds: Counter[str] = Counter()
        self.recall: Recall | None = None
        self.most_bytes = 0
        self._lines = (folder / RESULTS).open("wb")
        self._encoder = msgspec.json.Encoder()
        self._tracks = (folder / TRACKS).open("w") if mot and tracked else None
        self._overlay = Overlay(folder / OVERLAY)

    def process(self, packet: Packet) -> None:
        frame, found, recall = packet.frame, packet.get("boxes", Boxes), packet.results["recall"]
        assert isinstance(recall, Recall)
        if not self.frames:
            if self._classes:
                common(self._classes, found.names)
            self.names, self.size = found.names, (frame.width, frame.height)
        fresh = bool(recall.reset) or frame.discontinuity
        panels = []
        for arm, boxes in arms_of(packet, self.tracked):
            rows = shown(arm, boxes, self.min_score)
            tally = self.tallies.setdefault(arm, Tally(arm.endswith("+track")))
            # By frames that came here: those a live source dropped are nobody's misses.
            tally.add(self.frames, frame.seconds, boxes, rows, fresh)
            if arm.endswith("+track") == self.tracked:
                panels.append((TITLES[arm.removesuffix("+track")], boxes, rows))
        rows = panels[-1][2]
        self.boxes += len(rows)
        self.from_memory += int((found.memory[rows] > RECALLED).sum())
        self._overlay.add(frame, panels)
        if self._tracks is not None:
            self._tracks.write(mot_lines(frame, found, rows))
        self._line(packet, found, recall)
        self._note(frame.seconds, recall)
        self.examples.add(packet)
        self.count(frame)

    def close(self) -> None:
        """Finish the files. Safe to call twice."""
        for tally in self.tallies.values():
            if tally.tracks is not None:
                tally.tracks.finish()
        for file in (self._lines, self._tracks, self._overlay):
            if file is not None:
                file.close()

    @property
    def start_s(self) -> float:
        """Presentation time of the first frame."""
        return self._start_s

    @property
    def compared(self) -> bool:
        """Whether the detector alone was recorded too."""
        return "plain" in self.tallies

    @property
    def unnamed(self) -> bool:
        """Whether boxes were found and none of them counts, for want of an id: single pictures."""
        return self.tracked and not self.boxes and self.tallies["bank"].boxes > 0

    def stats(self) -> Mapping[str, StatValue]:
        return {"lines": self.frames, "boxes": self.boxes, "from_memory": self.from_memory}

    def line(self, elapsed_s: float, stats: GraphStats) -> str:
        """How far it is, for a person."""
        if self.recall is None:
            return f"starting … {elapsed_s:.0f} s"
        dropped = dropped_frames(stats)
        last = self.tallies.get("bank+track") or self.tallies["bank"]
        return (
            f"{clock(self.footage_s)} searched, {self.frames} frames, "
            f"{self.footage_s / max(elapsed_s, 1e-9):.1f}x real time · "
            f"{last.per_frame:.1f} boxes a frame, {self.from_memory} from memory · "
            f"holding {size(self.recall.nbytes)} of {size(self.recall.byte_budget)}"
            + (f" · {dropped} dropped" if dropped else "")
        )

    def _line(self, packet: Packet, found: Boxes, recall: Recall) -> None:
        frame = packet.frame
        held = msgspec.structs.asdict(recall)
        del held["parts_ms"]  # the same run gives the same bytes
        results: dict[str, Any] = {"boxes": told_rows(found), "recall": held}
        if isinstance(plain := packet.results.get("plain"), Boxes):
            results["plain"] = told_rows(plain)
        where = {key: frame.meta[key] for key in ("clip", "frame") if key in frame.meta}
        record = moment(frame) | {"size": (frame.width, frame.height)} | where
        self._lines.write(self._encoder.encode(record | {"results": results}) + b"\n")

    def _note(self, seconds: float, recall: Recall) -> None:
        self.recall = recall
        self.most_bytes = max(self.most_bytes, recall.nbytes)
        self.spent.add(recall)
        if recall.reset:
            self.resets.append((seconds, recall.reset))
            self.reset_kinds[recall.reset] += 1
