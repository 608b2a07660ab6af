"""What the console knows of the streams: newest pictures, numbers, what each memory holds."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retain.apps.drawing import REASONS, jpeg, shrink
from retain.apps.page.memory import Kept
from retain.apps.page.section import Clock, Json, Section
from retain.apps.page.state import PageState
from retain.pipeline.errors import RetainError
from retain.pipeline.frame import Image
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.redact import redact
from retain.pipeline.results import Held, Route
from retain.pipeline.streams import StreamSpec, load_streams

WIDTH = 640
WATCHED_S, UNWATCHED_S = 0.5, 5.0
"""Seconds between two pictures of a stream that the console keeps."""
STATUS_S = 1.0


class AboutConsole(Section):
    """What does not change while the console lives."""

    name = "about"

    def __init__(self, title: str, source: str) -> None:
        super().__init__()
        self._view: Json = {
            "session": secrets.token_hex(8),
            "title": title,
            "source": source,
            "view": "console",
            "reasons": REASONS,
        }

    def view(self, since: int) -> Json:
        return self._view


class One:
    """One stream: its newest picture, its last decision, its memory."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.version = 0
        """Counts the pictures."""
        self.frames = 0
        self.at = float("-inf")
        self._age_ms = self._seconds = 0.0
        self._state = ""
        self._held: Held | None = None
        self._image: Image | None = None
        self._jpeg: bytes | None = None

    def observe(self, packet: Packet, now: float, every_s: float) -> None:
        self.kept.observe(packet)
        self.frames += 1
        held, route = packet.results.get("held"), packet.results.get("route")
        self._held = held if isinstance(held, Held) else self._held
        self._state = route.state if isinstance(route, Route) else self._state
        frame = packet.frame
        self._age_ms, self._seconds = 1e3 * frame.age_s(), frame.seconds
        if now - self.at >= every_s:
            self.at = now
            self.version += 1
            self._image, self._jpeg = shrink(frame.image, WIDTH), None

    def view(self) -> Json:
        held = self._held
        return {
            "picture": self.version,
            "frames": self.frames,
            "seconds": self._seconds,
            "done_age_ms": round(self._age_ms, 1),
            "route": self._state,
            "kept": len(held.entries) if held else 0,
            "kept_version": self.kept.version,
            "nbytes": held.nbytes if held else 0,
            "byte_budget": held.byte_budget if held else 0,
        }

    def newest(self) -> bytes | None:
        if self._jpeg is None and self._image is not None:
            self._jpeg, self._image = jpeg(self._image), None
        return self._jpeg


class Streams(Section):
    """All streams that the file names, in its order, with what their readers tell."""

    name = "streams"
    every_s = 0.5

    def __init__(
        self,
        file: Path,
        clock: Clock,
        watched: Callable[[], bool],
        stats: Callable[[], GraphStats | None],
    ) -> None:
        super().__init__()
        self.file = file
        self._clock, self._watched, self._stats = clock, watched, stats
        self.ones: dict[str, One] = {}
        self._specs: dict[str, StreamSpec] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._mistake = ""
        self._at = float("-inf")

    def observe(self, packet: Packet) -> None:
        every = WATCHED_S if self._watched() else UNWATCHED_S
        one = self.ones.setdefault(packet.frame.stream, One())
        one.observe(packet, self._clock(), every)
        self.version += 1

    def refresh(self) -> None:
        """Read what the file and the source say, at most every second."""
        now = self._clock()
        if now - self._at < STATUS_S:
            return
        self._at = now
        self.version += 1
        self._told = _by_stream(self._stats())
        try:
            self._specs, self._mistake = load_streams(self.file).streams, ""
        except RetainError as error:
            self._mistake = str(error)
            return
        for gone in self.ones.keys() - self._specs.keys():
            if now - self.ones[gone].at > UNWATCHED_S:
                del self.ones[gone]

    def view(self, since: int) -> Json:
        return {
            "mistake": self._mistake,
            "streams": [self._row(name, spec) for name, spec in self._specs.items()],
        }

    def _row(self, name: str, spec: StreamSpec) -> Json:
        told = self._told.get(name, {})
        one = self.ones.get(name)
        return {
            "name": name,
            "source": redact(spec.source),
            "wanted_fps": spec.fps,
            "state": "connecting",
            **told,
            **(one or One()).view(),
        }


def _by_stream(stats: GraphStats | None) -> dict[str, dict[str, Any]]:
    """What ``GroupSource`` says of its streams (``NAME.KEY``), by stream."""
    streams: dict[str, dict[str, Any]] = {}
    for node in stats.nodes if stats else ():
        for key, value in node.extra.items() if node.role == "source" else ():
            name, _, what = key.rpartition(".")
            streams.setdefault(name, {})[what] = value
    return streams


class ConsoleState(PageState):
    """Everything the console shows."""

    def __init__(self, title: str, file: Path, clock: Clock = time.monotonic) -> None:
        super().__init__(title, str(file), clock, view="console")
        self.streams = Streams(
            file, clock, lambda: self.latest.watchers > 0, lambda: self.progress.stats
        )
        about = AboutConsole(title, str(file))
        self.sections = [about, self.progress, self.streams]

    def patch(self, seen: dict[str, tuple[int, float]]) -> Json:
        self.progress.sample()
        with self._lock:
            self.streams.refresh()
        return super().patch(seen)

    def stream_picture(self, name: str, seq: int | None = None) -> bytes | None:
        """A JPEG: the newest of the stream, or one that its memory holds."""
        with self._lock:
            one = self.streams.ones.get(name)
            if one is None:
                return None
            return one.newest() if seq is None else one.kept.picture(seq)

    def stream_kept(self, name: str) -> Json:
        """What the stream's memory holds."""
        with self._lock:
            one = self.streams.ones.get(name)
            return one.kept.view(-1) if one else {"entries": []}
