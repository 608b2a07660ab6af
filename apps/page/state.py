"""What the page knows, in sections. Each is bounded, whatever the length of the stream.

A section has a version that counts its changes; a client is sent the sections that changed since
the versions it has seen. A new panel is one section (in ``memory.py``, ``heart.py``, ``scene.py``,
``detect.py`` or ``imagine.py``, which ``_sections`` lists) and one module in ``static/panels``,
listed in ``panels.js``.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Literal

from retain.apps.drawing import jpeg, shrink
from retain.apps.page import detect, everything, heart, imagine, memory, objects, scene, words
from retain.apps.page.section import Clock, Json, Section
from retain.apps.page.stages import table
from retain.pipeline.frame import Image
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.results import Held

View = Literal[
    "watch", "segment", "object", "text", "scene", "detect", "imagine", "everything", "console"
]
"""Kinds of pages: which results travel decides which sections and panels there are."""

PREVIEW_WIDTH = 640
WATCHED_S = 1 / 15
UNWATCHED_S = 1.0


_OF = {
    "segment": heart,
    "object": objects,
    "text": words,
    "scene": scene,
    "detect": detect,
    "imagine": imagine,
    "everything": everything,
}
"""What a kind of page knows; the others are of memories."""


def _sections(view: View) -> list[Section]:
    """What a page of this kind has beside the sections that every page has."""
    if view == "segment":
        return [heart.Curve(), heart.Beats()]
    if view == "object":
        return objects.sections()
    if view == "text":
        return words.sections()
    if view == "scene":
        return scene.sections()
    if view == "detect":
        return detect.sections()
    if view == "imagine":
        return imagine.sections()
    if view == "everything":
        return everything.sections()
    return [memory.Points(), memory.Whole(), memory.Kept()]


class About(Section):
    """What does not change while the page lives. ``session`` tells a restarted server."""

    name = "about"

    def __init__(self, title: str, source: str, view: View) -> None:
        super().__init__()
        self._view: Json = {
            "session": secrets.token_hex(8),
            "title": title,
            "source": source,
            "view": view,
        } | _OF.get(view, memory).about()

    def add(self, **more: str) -> None:
        """Before anybody looks."""
        self._view |= more

    def view(self, since: int) -> Json:
        return self._view


class Latest(Section):
    """The newest picture and its results: about 15 a second while somebody watches, else one."""

    name = "latest"

    def __init__(self, clock: Clock, describe: Callable[[Packet, Image], Json]) -> None:
        super().__init__()
        self.watchers = 0
        self._clock = clock
        self.describe = describe
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
        frame = packet.frame
        self._image, self._jpeg = shrink(frame.image, PREVIEW_WIDTH), None
        self._view = {
            "version": self.version,
            "seq": frame.seq,
            "seconds": frame.seconds,
            "width": frame.width,
            "height": frame.height,
        } | self.describe(packet, self._image)

    def view(self, since: int) -> Json:
        return self._view

    def newest(self) -> tuple[bytes, Json] | None:
        """The newest picture as JPEG with its view; encoded when first asked for."""
        if self._jpeg is None:
            if self._image is None:
                return None
            self._jpeg = jpeg(self._image)
            self._image = None
        return self._jpeg, self._view


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

    def __init__(
        self, title: str, source: str, clock: Clock = time.monotonic, view: View = "watch"
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self.kind = view
        self.about = About(title, source, view)
        self.latest = Latest(clock, _OF.get(view, memory).describe)
        self.progress = Progress(clock)
        self.sections = [
            self.about,
            self.progress,
            self.latest,
            *_sections(view),
        ]

    def show_from(self, min_score: float) -> None:
        """For a page of detect, before its first packet: show boxes without a track from
        ``min_score`` on."""
        self.latest.describe = partial(detect.describe, min_score=min_score)
        for section in self.sections:
            if isinstance(section, detect.FromScore):
                section.min_score = min_score

    def observe(self, packet: Packet) -> None:
        with self._lock:
            for section in self.sections:
                section.observe(packet)

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
            return self.latest.newest()

    def picture(self, seq: int) -> bytes | None:
        with self._lock:
            return next(filter(None, (part.picture(seq) for part in self.sections)), None)
