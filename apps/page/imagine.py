"""What the page of `retain imagine` knows: how new things are, and what was made beside what came.
Bounded."""

from __future__ import annotations

from collections import OrderedDict, deque

import cv2
import numpy as np

from retain.apps.imagine.errors import squares
from retain.apps.imagine.pairs import Frames, Pair, Waiting
from retain.apps.imagine.pictures import row
from retain.apps.imagine.run import SCOPE
from retain.apps.page.section import Json, Recent, Section
from retain.memory.clips.config import ClipShape
from retain.memory.clips.windows import fitted
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Novelty, Prediction, Reference

FIRST = 10**9
"""Pictures are asked for like frames; their numbers begin where no frame's will."""
KEPT = 64
SHOWN = 12
"""Frames of a prediction that are shown."""
CELL = 64
"""Pixels of one of them."""


def about() -> Json:
    """What is fixed, beside what every page says of itself."""
    return {"doing": f"Imagining; a magenta edge marks what a model made. {SCOPE}"}


def describe(packet: Packet, preview: Image) -> Json:
    """Whether something new just happened."""
    told = packet.results.get("novelty")
    return {"new": told.new, "novelty": told.score} if isinstance(told, Novelty) else {}


class Curve(Recent):
    """(seconds, seq, score, level, new, with references, without) of the last clips."""

    name = "novelty"

    def observe(self, packet: Packet) -> None:
        told = packet.results.get("novelty")
        if isinstance(told, Novelty):
            frame = packet.frame
            values = (told.score, told.level, told.new, told.guided, told.alone)
            rounded = (round(v, 6) if isinstance(v, float) else v for v in values)
            self.add((round(frame.seconds, 4), frame.seq, *rounded))


class Recalled(Section):
    """What the memory holds, and what the last clip was compared with."""

    name = "recalled"
    every_s = 0.25

    def __init__(self) -> None:
        super().__init__()
        self._last: Novelty | None = None
        self._seen = self._new = 0
        self._newest: deque[float] = deque(maxlen=4)

    def observe(self, packet: Packet) -> None:
        told = packet.results.get("novelty")
        if not isinstance(told, Novelty):
            return
        self._last = told
        self._seen += 1
        if told.new:
            self._new += 1
            self._newest.append(packet.frame.seconds)
        self.version += 1

    def view(self, since: int) -> Json:
        if (told := self._last) is None:
            return {"byte_budget": 0}
        return {
            "clips": told.clips,
            "nbytes": told.nbytes,
            "byte_budget": told.byte_budget,
            "seen": self._seen,
            "new": self._new,
            "newest": list(self._newest),
            "references": _spans(told.references),
        }


class Made(Section):
    """The last prediction, or the last holes that were filled, and the truth as it comes. A new
    prediction is shown once its first frame has come: till then the one before stands judged."""

    name = "made"
    every_s = 0.1

    def __init__(self) -> None:
        super().__init__()
        self._waiting = Waiting()
        self._shape: ClipShape | None = None
        self._pairs: list[Pair] = []
        self._coming: list[Pair] = []
        self._purpose = ""
        self._pictures: OrderedDict[int, bytes] = OrderedDict()
        self._next = FIRST
        self._view: Json = {"rows": []}

    def observe(self, packet: Packet) -> None:
        frame, told = packet.frame, packet.results
        guided, plain = told.get("prediction"), told.get("plain")
        if isinstance(guided, Prediction) and self._shape is None:
            self._shape = ClipShape(1, *guided.frames.shape[2:])
        if self._shape is None:
            return
        image = fitted(frame.image, self._shape)
        pair = self._waiting.saw(frame.seq, image, frame.discontinuity)
        if pair is not None:
            if self._coming:
                self._pairs, self._coming = self._coming, []
            self._pairs = [pair if p.seq == pair.seq else p for p in self._pairs]
            self._show()
        if isinstance(guided, Prediction):
            self._take(guided, plain if isinstance(plain, Prediction) else None, image)

    def _take(self, guided: Prediction, plain: Prediction | None, image: Frames) -> None:
        self._purpose = guided.purpose
        if guided.purpose == "continue":
            self._waiting.predicted(guided, plain, image)
            self._coming = self._waiting.left()[:SHOWN]
            if self._pairs:
                return
            self._pairs = self._coming
        else:
            self._pairs = self._waiting.filled(guided, plain)[:SHOWN]
        self._show()

    def _show(self) -> None:
        pairs = self._pairs
        if not pairs:
            return
        simple = "last frame held" if self._purpose == "continue" else "interpolated"
        rows: list[tuple[str, list[tuple[Frames | None, bool]]]] = [
            ("what came", [(p.truth, False) for p in pairs]),
            ("with references", [(p.guided, p.made) for p in pairs]),
        ]
        if pairs[0].plain is not None:
            rows.append(("without", [(p.plain, p.made) for p in pairs]))
        rows.append((simple, [(p.simple if p.made else p.guided, False) for p in pairs]))
        self._view = {
            "purpose": self._purpose,
            "seconds": [pairs[0].seconds, pairs[-1].seconds],
            "rows": [[name, self._keep(_jpeg(row(film, CELL)))] for name, film in rows],
            "errors": _errors(pairs, simple),
            "references": _spans(pairs[0].references),
        }
        self.version += 1

    def _keep(self, picture: bytes) -> int:
        self._pictures[self._next] = picture
        self._next += 1
        while len(self._pictures) > KEPT:
            self._pictures.popitem(last=False)
        return self._next - 1

    def view(self, since: int) -> Json:
        return self._view

    def picture(self, seq: int) -> bytes | None:
        return self._pictures.get(seq)


def _jpeg(image: Image) -> bytes:
    """With colours in full: thin edges are what it is about."""
    full = [
        cv2.IMWRITE_JPEG_QUALITY,
        92,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), full)
    assert done
    return bytes(data.tobytes())


def _errors(pairs: list[Pair], simple: str) -> Json:
    """Root mean squares of what can be judged, by row."""
    judged = [(p, p.truth) for p in pairs if p.made and p.truth is not None]
    if not judged:
        return {}
    arms = {"with references": [squares(p.guided, t) for p, t in judged]}
    arms["without"] = [squares(p.plain, t) for p, t in judged if p.plain is not None]
    arms[simple] = [squares(p.simple, t) for p, t in judged]
    return {name: round(float(np.sqrt(np.mean(v))), 2) for name, v in arms.items() if v}


def _spans(references: tuple[Reference, ...]) -> list[list[str | float]]:
    return [[r.stream, round(r.start_s, 3), round(r.end_s, 3)] for r in references]


def sections() -> list[Section]:
    return [Curve(), Recalled(), Made()]
