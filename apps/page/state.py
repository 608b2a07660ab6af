"""What the page knows, in sections. Each is bounded, whatever the length of the stream.

A section has a version that counts its changes; a client is sent the sections that changed since
the versions it has seen. A new panel is one section here and one module in ``static/panels``.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from retain.apps.drawing import REASONS, jpeg, shrink
from retain.apps.page.stages import table
from retain.apps.plots import History, Point
from retain.pipeline.frame import Image
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.results import Held, Route

Json = dict[str, Any]
Clock = Callable[[], float]

PREVIEW_WIDTH = 640
KEPT_WIDTH = 480
WATCHED_S = 1 / 15
UNWATCHED_S = 1.0


class Section:
    """One part of the page's state. ``view(since)`` is what a client at version ``since`` (-1 at
    first) is sent, at most every ``every_s``."""

    name = ""
    every_s = 0.0

    def __init__(self) -> None:
        self.version = 0

    def observe(self, packet: Packet) -> None:
        """Take note of a packet; called for each, so it must be cheap."""

    def view(self, since: int) -> Json:
        raise NotImplementedError


class About(Section):
    """What does not change while the page lives. ``session`` tells a restarted server."""

    name = "about"

    def __init__(self, title: str, source: str) -> None:
        super().__init__()
        self._view: Json = {
            "session": secrets.token_hex(8),
            "title": title,
            "source": source,
            "reasons": REASONS,
        }

    def view(self, since: int) -> Json:
        return self._view


class Latest(Section):
    """The newest picture and its decision: about 15 a second while somebody watches, else one."""

    name = "latest"

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.watchers = 0
        self._clock = clock
        self._at = float("-inf")
        self._image: Image | None = None
        self._jpeg: bytes | None = None
        self._view: Json = {"seq": None}

    def observe(self, packet: Packet) -> None:
        now = self._clock()
        if now - self._at < (WATCHED_S if self.watchers else UNWATCHED_S):
            return
        self._at = now
        self.version += 1
        frame, route = packet.frame, packet.results.get("route")
        self._image, self._jpeg = shrink(frame.image, PREVIEW_WIDTH), None
        self._view = {
            "version": self.version,
            "seq": frame.seq,
            "seconds": frame.seconds,
            "width": frame.width,
            "height": frame.height,
        }
        if isinstance(route, Route):
            self._view |= {
                name: getattr(route, name) for name in ("state", "reason", "score", "low", "high")
            }

    def view(self, since: int) -> Json:
        return self._view

    def picture(self) -> tuple[bytes, Json] | None:
        """The newest picture as JPEG with its view; encoded when first asked for."""
        if self._jpeg is None:
            if self._image is None:
                return None
            self._jpeg = jpeg(self._image)
            self._image = None
        return self._jpeg, self._view


class Points(Section):
    """The last ``room`` decisions; a client gets those it has not seen."""

    name = "points"

    def __init__(self, room: int = 600) -> None:
        super().__init__()
        self._recent: deque[Point] = deque(maxlen=room)

    def add(self, point: Point) -> None:
        self._recent.append(point)
        self.version += 1

    def view(self, since: int) -> Json:
        missing = min(self.version - max(since, 0), len(self._recent))
        fresh = since < 0 or self.version - since > missing
        newest = list(self._recent)[len(self._recent) - missing :]
        return {"fresh": fresh, "points": newest, "total": self.version}


class Whole(Section):
    """The whole stream's decisions in a bounded number of points."""

    name = "history"
    every_s = 2.0

    def __init__(self) -> None:
        super().__init__()
        self._history = History()

    def add(self, point: Point) -> None:
        self._history.add(point)
        self.version += 1

    def view(self, since: int) -> Json:
        return {"stride": self._history.stride, "points": self._history.points}


class Kept(Section):
    """What the memory holds, and a small picture of each entry that came while the page lived."""

    name = "held"

    def __init__(self, spare: int = 32) -> None:
        super().__init__()
        self._spare = spare
        self._held: Held | None = None
        self._pictures: dict[int, bytes] = {}
        self._left: OrderedDict[int, bytes] = OrderedDict()
        """Pictures of entries that have just left, for clients still showing them."""

    def observe(self, packet: Packet) -> None:
        held = packet.results.get("held")
        if not isinstance(held, Held):
            return
        before, self._held = self._held, held
        if before is not None and before.entries == held.entries:
            return
        self.version += 1
        frame = packet.frame
        if held.entries and held.entries[-1].seq == frame.seq:
            self._pictures[frame.seq] = jpeg(shrink(frame.image, KEPT_WIDTH))
        for seq in self._pictures.keys() - {entry.seq for entry in held.entries}:
            self._left[seq] = self._pictures.pop(seq)
        while len(self._left) > self._spare:
            self._left.popitem(last=False)

    def view(self, since: int) -> Json:
        held = self._held
        if held is None:
            return {"entries": []}
        entries = [
            {
                "seq": e.seq,
                "seconds": e.seconds,
                "tier": e.tier,
                "reason": e.reason,
                "score": e.score,
                "tokens": e.tokens,
                "nbytes": e.nbytes,
                "width": e.width,
                "height": e.height,
                "picture": e.seq in self._pictures,
            }
            for e in held.entries
        ]
        return {
            "entries": entries,
            "tokens": held.tokens,
            "token_budget": held.token_budget,
            "nbytes": held.nbytes,
            "byte_budget": held.byte_budget,
        }

    def picture(self, seq: int) -> bytes | None:
        return self._pictures.get(seq) or self._left.get(seq)


class Progress(Section):
    """How the run goes: its state in a word and a sentence, and every stage's numbers."""

    name = "run"
    every_s = 0.5

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._stats: Callable[[], GraphStats] | None = None
        self._samples: deque[tuple[float, GraphStats]] = deque(maxlen=4)
        self._finished: Json = {}
        self._first = self._last = float("nan")
        self._frames = self._seen = 0

    def attach(self, stats: Callable[[], GraphStats]) -> None:
        self._stats = stats

    def observe(self, packet: Packet) -> None:
        if not self._frames:
            self._first = packet.frame.seconds
        self._last = packet.frame.seconds
        self._frames += 1
        held = packet.results.get("held")
        self._seen = held.seen if isinstance(held, Held) else self._frames
        self.version += 1

    def finish(self, message: str, report: bool, failed: bool) -> None:
        state = self.stats.state if self.stats else "done"
        word = "failed" if failed or state == "failed" else "finished"
        self._finished = {"state": word, "message": message, "report": report}
        self.version += 1

    @property
    def stats(self) -> GraphStats | None:
        return self._samples[-1][1] if self._samples else None

    def sample(self, force: bool = False) -> None:
        """Ask the run for its numbers, at most once a second."""
        now = self._clock()
        if self._stats is None or (not force and self._ended()):
            return
        if force or not self._samples or now - self._samples[-1][0] >= 1.0:
            self._samples.append((now, self._stats()))
            self.version += 1

    def _ended(self) -> bool:
        return bool(self._finished) or (
            self.stats is not None and self.stats.state in ("done", "failed")
        )

    def view(self, since: int) -> Json:
        stats = self.stats
        uptime = stats.uptime_s if stats else 0.0
        span = self._last - self._first
        shown = {
            "state": _word(stats, self._frames),
            "message": "",
            "report": False,
            "frames": self._frames,
            "seen": self._seen,
            "seconds": self._last,
            "uptime_s": uptime,
            "speed": span / uptime if uptime else None,
            "stages": table(list(self._samples)),
        }
        return shown | self._finished


def _word(stats: GraphStats | None, frames: int) -> str:
    if stats is not None and stats.state in ("stopping", "done", "failed"):
        return {"stopping": "finishing", "done": "finished", "failed": "failed"}[stats.state]
    return "running" if frames else "connecting"


class PageState:
    """Everything the page shows. ``observe`` is for the run's thread, the rest for the server's."""

    def __init__(self, title: str, source: str, clock: Clock = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._seq = -1
        self.latest = Latest(clock)
        self.points, self.whole, self.kept = Points(), Whole(), Kept()
        self.progress = Progress(clock)
        self.sections: list[Section] = [
            About(title, source),
            self.progress,
            self.latest,
            self.points,
            self.whole,
            self.kept,
        ]

    def observe(self, packet: Packet) -> None:
        with self._lock:
            for section in self.sections:
                section.observe(packet)
            route, frame = packet.results.get("route"), packet.frame
            if isinstance(route, Route):
                lost = max(frame.seq - self._seq - 1, 0) if self._seq >= 0 else 0
                point = Point.of(frame, route, lost)
                self.points.add(point)
                self.whole.add(point)
            self._seq = frame.seq

    def watch(self, change: int) -> None:
        """A client came (+1) or went (-1)."""
        with self._lock:
            self.latest.watchers += change

    def finish(self, message: str, report: bool, failed: bool) -> None:
        self.progress.sample(force=True)
        with self._lock:
            self.progress.finish(message, report, failed)

    def patch(self, seen: dict[str, tuple[int, float]]) -> Json:
        """Sections that changed since ``seen`` (name -> version, time sent), which is updated."""
        self.progress.sample()
        now = self._clock()
        changed: Json = {}
        with self._lock:
            for section in self.sections:
                version, sent = seen.get(section.name, (-1, float("-inf")))
                if section.version != version and now - sent >= section.every_s:
                    changed[section.name] = section.view(version)
                    seen[section.name] = section.version, now
        return changed

    def preview(self) -> tuple[bytes, Json] | None:
        with self._lock:
            return self.latest.picture()

    def picture(self, seq: int) -> bytes | None:
        with self._lock:
            return self.kept.picture(seq)
