"""What `retain segment --object` writes down while it runs: masks, areas, the overlay, J and F."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from retain.apps.drawing import clock
from retain.apps.journal import dropped_frames, moment
from retain.apps.running import RESULTS, Footage
from retain.apps.segment.files import Table
from retain.apps.segment_object.files import Label, truth_of, write_mask
from retain.apps.segment_object.overlay import Overlay
from retain.apps.video import TimedVideo
from retain.datasets.detect.jf import Judged, boundary_score, judged_of, region_score
from retain.models.gdkvm.place import masks_on_frame
from retain.pipeline.errors import SourceError
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks
from retain.pipeline.stage import StatValue

MASKS, OVERLAY, CURVE_CSV = "masks", "overlay.mp4", "curve.csv"
COLUMNS = ("seq", "seconds", "object", "area", "share", "j", "f")


class Recorder(Footage):
    """A sink. What it holds is bounded, but for 16 bytes per object and frame with a known truth.

    ``results.jsonl`` has a line per frame: ``{"stream", "seq", "pts", "time_base", "seconds",
    "results": {"masks": {"labels", "areas", "flags"}}}``, with ``j`` and ``f`` where the truth is
    known. Masks are in ``masks/``, pixel values being the indices of the given mask.

    numbers  of the objects, in the order of the planes
    truth    a mask of every frame from the first on; may be shorter than the stream
    """

    def __init__(self, folder: Path, numbers: Sequence[int], truth: Sequence[Path] = ()) -> None:
        super().__init__()
        (folder / MASKS).mkdir()
        self.folder, self.numbers = folder, tuple(numbers)
        self.labels: tuple[str, ...] = ()
        self.size = (0, 0)
        self.unseen = 0
        """Frames in which none of the objects was seen."""
        self.left_out = ""
        """Why there is no J and F though a truth was given, in a sentence."""
        self._shares = np.zeros(len(self.numbers))
        self._truth = list(truth) if len(truth) > 1 else []
        self._scores = [(array("d"), array("d")) for _ in numbers]
        self._table = np.zeros(256, np.uint8)
        self._table[1 : len(self.numbers) + 1] = self.numbers
        self._lines = (folder / RESULTS).open("wb")
        self._encoder = msgspec.json.Encoder()
        self._curve = Table(folder / CURVE_CSV, COLUMNS)
        self._overlay = Overlay(folder / OVERLAY)
        self._closed = False

    def process(self, packet: Packet) -> None:
        frame, masks = packet.frame, packet.get("masks", Masks)
        if not self.frames:
            self.labels, self.size = masks.labels, (frame.width, frame.height)
        label = masks_on_frame(masks, frame.height, frame.width)
        write_mask(self.folder / MASKS / f"{frame.seq:05d}.png", self._table[label])
        scores = self._judge(frame.seq, self._table[label])
        areas = [int(np.count_nonzero(label == k + 1)) for k in range(len(self.numbers))]
        self._shares += np.array(areas) / label.size
        for name, area, (j, f) in zip(masks.labels, areas, scores, strict=True):
            share = area / label.size
            self._curve.add(frame.seq, float(frame.seconds), name, area, share, j, f)
        self._overlay.add(frame, label, masks.labels)
        told = {"labels": masks.labels, "areas": areas, "flags": masks.flags}
        if scores and scores[0][0] == scores[0][0]:
            told |= {"j": [j for j, _ in scores], "f": [f for _, f in scores]}
        record = moment(frame) | {"results": {"masks": told}}
        self._lines.write(self._encoder.encode(record) + b"\n")
        self.unseen += not any(areas)
        self.count(frame)

    def _judge(self, seq: int, found: Label) -> list[tuple[float, float]]:
        """J and F of each object in this frame; NaN where the truth is not known."""
        nothing = [(float("nan"), float("nan"))] * len(self.numbers)
        if seq >= len(self._truth):
            return nothing
        try:
            truth = truth_of(self._truth[seq])
        except SourceError as error:
            self._no_truth(error.what)
            return nothing
        if truth.shape != found.shape:
            name = self._truth[seq].name
            self._no_truth(f"The truth {name!r} is of another size than its frame.")
            return nothing
        out = []
        for number, (js, fs) in zip(self.numbers, self._scores, strict=True):
            pair = found == number, truth == number
            out.append((region_score(*pair), boundary_score(*pair)))
            js.append(out[-1][0])
            fs.append(out[-1][1])
        return out

    def _no_truth(self, why: str) -> None:
        """Judge no further frame: what is left out would change the mean unseen."""
        self.left_out, self._truth = f"{why} So there is no J and F.", []
        self._scores = [(array("d"), array("d")) for _ in self.numbers]

    def close(self) -> None:
        """Finish the files. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for file in (self._lines, self._curve, self._overlay):
            file.close()

    @property
    def mean_shares(self) -> list[float]:
        """Of each object, the mean share of the frame that it takes."""
        return [float(share) for share in self._shares / max(self.frames, 1)]

    @property
    def judged(self) -> tuple[Judged, ...]:
        """Of each object; empty where the truth is not known or too short."""
        return tuple(judged_of(js, fs) for js, fs in self._scores if len(js) >= 3)

    @property
    def start_s(self) -> float:
        """Presentation time of the first frame."""
        return self._start_s

    def ticks(self, seconds: float) -> int:
        """When the overlay shows the frame of a presentation time."""
        return round((seconds - self._start_s) * TimedVideo.TICKS)

    def stats(self) -> Mapping[str, StatValue]:
        return {"lines": self.frames, "unseen": self.unseen}

    def line(self, elapsed_s: float, stats: GraphStats) -> str:
        """How far it is, for a person."""
        if not self.frames:
            return f"learning the objects … {elapsed_s:.0f} s"
        dropped = dropped_frames(stats)
        return (
            f"{clock(self.footage_s)} segmented, {self.frames} frames, "
            f"{self.frames / max(elapsed_s, 1e-9):.1f} a second"
            + (f" · not seen in {self.unseen}" if self.unseen else "")
            + (f" · {dropped} dropped" if dropped else "")
        )
