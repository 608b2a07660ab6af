"""What `retain imagine` writes down while it runs: lines, the film, what is counted."""

from __future__ import annotations

import base64
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from retain.apps.drawing import clock, score, size
from retain.apps.imagine.curve import History, Moment, Moments, Point
from retain.apps.imagine.errors import Errors, Frames, squares
from retain.apps.imagine.pairs import Pair, Waiting
from retain.apps.imagine.pictures import Film, film
from retain.apps.journal import dropped_frames, moment
from retain.apps.running import RESULTS, Footage
from retain.memory.clips.config import ClipShape
from retain.memory.clips.windows import fitted
from retain.pipeline.frame import Frame
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.results import Novelty, Prediction, Reference
from retain.pipeline.stage import StatValue

FILM = "imagine.mp4"
KEPT_STRIPS = 8
LEANED = 500
"""References that are counted by name; of more the rare ones are forgotten."""


class Recorder(Footage):
    """A sink; what it holds is bounded.

    ``results.jsonl`` has a line per frame: ``{"stream", "seq", "pts", "time_base", "seconds",
    "results": {"novelty": {...}, "prediction": {...}, "plain": {...}}}``. Frames that a model made
    have ``"synthetic": true`` beside them and are the mean of its samples, base64 of uint8
    [N, h, w, C] as ``shape`` says.

    what   novelty, predict or fill
    shape  of the model's clips
    """

    def __init__(self, folder: Path, what: str, shape: ClipShape) -> None:
        super().__init__()
        self.folder, self.what, self.shape = folder, what, shape
        self.size = (0, 0)
        self.curve, self.moments = History(), Moments()
        self.errors, self.waiting = Errors(), Waiting()
        self.clips = self.unguided = self.made = 0
        """Clips judged, those of them without references, and frames that were made."""
        self.last: Novelty | None = None
        self.strips: deque[list[Pair]] = deque(maxlen=KEPT_STRIPS)
        """The newest stretches that were made, for the report."""
        self.leaned: Counter[tuple[str, float, float]] = Counter()
        """How often which reference was shown: where it is from, from when to when."""
        self._held: deque[Frames] = deque(maxlen=shape.frames)
        self._lines = (folder / RESULTS).open("wb")
        self._encoder = msgspec.json.Encoder()
        self._film = Film(folder / FILM)

    def process(self, packet: Packet) -> None:
        frame, told = packet.frame, packet.results
        self.size = (frame.width, frame.height)
        image = fitted(frame.image, self.shape)
        if frame.discontinuity:
            self._held.clear()
        self._held.append(image)
        novelty, guided, plain = (told.get(name) for name in ("novelty", "prediction", "plain"))
        if isinstance(novelty, Novelty):
            self._note(frame, novelty)
        pair = self.waiting.saw(frame.seq, image, frame.discontinuity)
        if self.what != "fill":
            self._show(frame, image, novelty if isinstance(novelty, Novelty) else None, pair)
        if isinstance(guided, Prediction):
            self._take(guided, plain if isinstance(plain, Prediction) else None, image)
        self._line(packet)
        self.count(frame)

    def close(self) -> None:
        """Finish the files. Safe to call twice."""
        for pair in self.waiting.left():  # what comes after the end
            if self.what == "predict":
                self._film.add_pair(pair, "last frame held")
        self.waiting = Waiting()
        self._lines.close()
        self._film.close()

    def short(self) -> str:
        """A sentence where the stream was too short for anything to be told of it; else empty."""
        need = self.shape.frames
        if self.what == "fill":
            return "" if self.frames > 1 else "A single frame has no hole that could be filled."
        if self.clips:
            return ""
        return (
            f"The source has {self.frames} frames, none of them {need} in a row: a clip of these "
            f"weights is {need} frames long."
        )

    def stats(self) -> Mapping[str, StatValue]:
        return {"lines": self.frames, "clips": self.clips, "made": self.made}

    def facts(self) -> dict[str, Any]:
        """For summary.json."""
        moments = [
            {"seconds": round(m.seconds, 3), "seq": m.seq, "score": m.score}
            for m in self.moments.best
        ]
        return {
            "sees": str(self.shape),
            "clips": self.clips,
            "clips_without_references": self.unguided,
            "new": moments,
            "frames_made": self.made,
            **self.errors.facts(),
            "memory_bytes": self.last.nbytes if self.last else 0,
        }

    def line(self, elapsed_s: float, stats: GraphStats) -> str:
        """How far it is, for a person."""
        dropped = dropped_frames(stats)
        words = [f"{clock(self.footage_s)} seen, {self.frames} frames"]
        if self.last is not None:
            new = f", {self.moments.count} new" if self.moments.count else ""
            words.append(f"novelty {score(self.last.score)}{new}")
            words.append(f"holding {self.last.clips} clips, {size(self.last.nbytes)}")
        if self.made:
            words.append(f"{self.made} frames made")
        return " · ".join(words + ([f"{dropped} dropped"] if dropped else []))

    def _note(self, frame: Frame, told: Novelty) -> None:
        self.last = told
        self.clips += 1
        self.unguided += not told.references
        self._lean(told.references)
        self.curve.add(Point(frame.seconds, frame.seq, told.score, told.level, told.new))
        self.moments.count += told.new
        if self.moments.wants(told):
            picture = film([(image, False) for image in self._held])
            self.moments.add(
                Moment(
                    frame.seconds,
                    told.start_s,
                    frame.seq,
                    told.score,
                    told.level,
                    picture,
                    told.references,
                )
            )

    def _show(self, frame: Frame, image: Frames, told: Novelty | None, pair: Pair | None) -> None:
        if pair is None:
            if self.what == "novelty":
                self._film.add_frame(frame.image, image, told, frame.seconds)
            return
        self._judge(pair)
        self._film.add_pair(pair, "last frame held")
        if self.strips:
            self.strips[-1].append(pair)

    def _take(self, guided: Prediction, plain: Prediction | None, image: Frames) -> None:
        self.made += int(guided.made.sum())
        self._lean(guided.references)
        if guided.purpose == "continue":
            self.waiting.predicted(guided, plain, image)
            if not self.strips or self.strips[-1]:
                self.strips.append([])
            return
        pairs = self.waiting.filled(guided, plain)
        for pair in pairs:
            if pair.made:
                self._judge(pair)
            self._film.add_pair(pair, "interpolated")
        self.strips.append(pairs)

    def _judge(self, pair: Pair) -> None:
        if pair.truth is None:
            return
        simple = "linear" if self.what == "fill" else "held"
        found = {"guided": pair.guided, simple: pair.simple}
        if pair.plain is not None:
            found["plain"] = pair.plain
        errors = {arm: squares(made, pair.truth) for arm, made in found.items()}
        # To fill a hole needs no references, so those filled without count as well.
        self.errors.add(pair.ahead, errors, bool(pair.references), needed=self.what != "fill")

    def _lean(self, references: tuple[Reference, ...]) -> None:
        self.leaned.update((r.stream, r.start_s, r.end_s) for r in references)
        if len(self.leaned) > 2 * LEANED:
            self.leaned = Counter(dict(self.leaned.most_common(LEANED)))

    def _line(self, packet: Packet) -> None:
        results: dict[str, Any] = {}
        for name, told in packet.results.items():
            if isinstance(told, Prediction):
                results[name] = _made(told)
            elif isinstance(told, Novelty):
                results[name] = msgspec.structs.asdict(told)
        self._lines.write(self._encoder.encode(moment(packet.frame) | {"results": results}) + b"\n")


def _made(told: Prediction) -> dict[str, Any]:
    mean = told.frames.astype("f4").mean(0).round().astype("u1")
    return {
        "purpose": told.purpose,
        "synthetic": told.made.tolist(),
        "seqs": told.seqs.tolist(),
        "seconds": [round(float(s), 6) for s in told.seconds],
        "samples": len(told.frames),
        "shape": mean.shape,
        "frames": base64.b64encode(mean.tobytes()).decode(),
        "references": [msgspec.structs.asdict(one) for one in told.references],
    }
