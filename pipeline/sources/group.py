"""Many live streams as one source: a thread each, the newest frame of each, in fair turns."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from retain.pipeline.course import Course
from retain.pipeline.errors import RetainError, SourceError
from retain.pipeline.frame import Frame
from retain.pipeline.redact import redact
from retain.pipeline.sources.any import AnySource
from retain.pipeline.sources.common import integer
from retain.pipeline.stage import SourceInfo, StatValue
from retain.pipeline.streams import StreamSpec, load_streams

log = logging.getLogger(__name__)

WATCH_S = 1.0
"""How often the file is looked at."""
AGAIN_S = 30.0
"""After a failure that its source does not mend itself, a stream is opened anew."""
RATE_S = 5.0
"""Span that ``fps`` looks back on."""
MORE = "more"
"""Meta of a frame: how many frames of the same round follow it for certain."""


class GroupSource:
    """The streams that ``path`` names (``pipeline/streams.py``), each read by a thread of its own.

    Of every stream the newest frame waits in a slot of its own; ``frames`` takes them in turns, so
    a busy stream starves no other and a dead one holds nobody up. The file is looked at every
    second: streams are taken in, changed and let go as it says; a mistake in it is logged once and
    the streams stay as they were. A stream named again goes on in ``seq`` and time. Files are
    played as if live.

    round   frames taken together; each says in meta ``more`` how many of them follow
    """

    def __init__(self, path: str, round: int = 1) -> None:
        self._path = Path(path)
        self._round = integer("round", round, 1)
        self._news = threading.Condition()
        """Guards the readers' slots and everything below."""
        self._readers: dict[str, _Reader] = {}
        self._courses: dict[str, Course] = {}
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None
        self._seen: tuple[int, int] | None = None
        self._turn = ""
        """The stream that was served last."""

    def open(self) -> SourceInfo:
        """Start the readers. Raises UsageError when the file is wrong; waits for no camera."""
        self._seen = self._mark()
        self._take(load_streams(self._path).streams)
        self._watcher = threading.Thread(target=self._watch, name="streams file", daemon=True)
        self._watcher.start()
        return SourceInfo("live", f"{len(self._readers)} streams of {self._path.name}")

    def frames(self) -> Iterator[Frame]:
        """Frames of the streams in turn, until closed."""
        if self._watcher is None:
            self.open()
        while not self._stop.is_set():
            taken = self._next()
            for place, frame in enumerate(taken, 1):
                meta = {**frame.meta, MORE: len(taken) - place} if self._round > 1 else frame.meta
                yield replace(frame, meta=meta)

    def _next(self) -> list[Frame]:
        """Newest frames of the streams whose turn it is, one at least; none once closed."""
        with self._news:
            while not self._stop.is_set():
                names = sorted(self._readers)
                at = next((i for i, name in enumerate(names) if name > self._turn), 0)
                ready = [n for n in names[at:] + names[:at] if self._readers[n].newest is not None]
                if ready:
                    chosen = ready[: self._round]
                    self._turn = chosen[-1]
                    return [self._hand_out(name) for name in chosen]
                self._news.wait()
        return []

    def _hand_out(self, name: str) -> Frame:
        reader = self._readers[name]
        frame, reader.newest = reader.newest, None
        assert frame is not None
        reader.delivered += 1
        reader.age_ms = 1e3 * frame.age_s()
        reader.times.append(time.monotonic())
        return frame

    def close(self) -> None:
        with self._news:
            self._stop.set()
            readers = list(self._readers.values())
            self._news.notify_all()
        for reader in readers:
            reader.leave()

    def stats(self) -> Mapping[str, StatValue]:
        """``NAME.state``, ``NAME.captured``, ... of every stream: captured = delivered + dropped +
        at most one that waits. What the stream's own source lost before is ``NAME.lost``."""
        told: dict[str, StatValue] = {}
        with self._news:
            for name, reader in sorted(self._readers.items()):
                told |= {f"{name}.{key}": value for key, value in reader.stats().items()}
        return told

    # The watcher's thread.

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            mark = self._mark()
            if mark is None or mark == self._seen:
                continue
            self._seen = mark
            try:
                self._take(load_streams(self._path).streams)
            except RetainError as error:
                log.error("The streams stay as they were. %s", error)

    def _mark(self) -> tuple[int, int] | None:
        with suppress(OSError):  # between an editor's two steps there may be no file
            about = self._path.stat()
            return about.st_mtime_ns, about.st_size
        return None

    def _take(self, wanted: Mapping[str, StreamSpec]) -> None:
        """Let go what is not wanted any more, take in what is new."""
        with self._news:
            if self._stop.is_set():
                return
            gone = [n for n, reader in self._readers.items() if wanted.get(n) != reader.spec]
            left = [self._readers.pop(name) for name in gone]
            for reader in left:
                reader.current = False
            for name, spec in wanted.items():
                if name not in self._readers:
                    course = self._courses.setdefault(name, Course())
                    self._readers[name] = _Reader(name, spec, self._news, course)
                    self._readers[name].start()
        for reader in left:
            reader.leave()


class _Reader:
    """One stream: its source, the thread that reads it, the newest frame."""

    def __init__(
        self, name: str, spec: StreamSpec, news: threading.Condition, course: Course
    ) -> None:
        self.name, self.spec = name, spec
        self.newest: Frame | None = None
        self.current = True
        """Whether the group still wants its frames."""
        self.delivered = self.captured = self.dropped = 0
        self.age_ms = 0.0
        self.times: deque[float] = deque(maxlen=512)
        self._news, self._course = news, course
        self._began = self._heard = time.monotonic()
        self._patience_s = max(spec.timeout, 3 / spec.fps if spec.fps else 0.0)
        """Seconds without a picture after which it counts as stalled."""
        self._state, self._cause = "connecting", ""
        self._failures = 0
        self._source: AnySource | None = None
        self._left = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._keep, name=f"stream {self.name}", daemon=True).start()

    def leave(self) -> None:
        """Close without waiting."""
        self._left.set()
        source = self._source
        if source is not None:
            with suppress(Exception):
                source.close()

    def _keep(self) -> None:
        while not self._left.is_set():
            again = self._read()
            if not again or self._left.wait(AGAIN_S):
                return

    def _read(self) -> bool:
        """Read one source to its end; whether it is worth another try."""
        spec = self.spec
        source = AnySource(
            spec.source,
            stream=self.name,
            fps=spec.fps,
            timeout=spec.timeout,
            frozen_s=spec.frozen_s,
            pace=1.0,
        )
        self._source = source
        try:
            self._say("connecting")
            source.open()
            if self._left.is_set():
                source.close()
                return False
            self._read_frames(source)
            self._say("ended")
            return False
        except RetainError as error:
            self._say("failed", redact(str(error)))
            if not self._left.is_set():
                log.warning("%s: %s", self.name, redact(str(error)))
            return isinstance(error, SourceError)
        except Exception as error:  # its text may hold anything
            self._say("failed", f"Reading failed ({type(error).__name__}).")
            return True
        finally:
            with suppress(Exception):
                source.close()

    def _say(self, state: str, cause: str = "") -> None:
        with self._news:
            self._state = state
            self._failures += state == "failed"
            self._cause = cause or self._cause

    def _read_frames(self, source: AnySource) -> None:
        with self._news:
            self._course.turn()
        for frame in source.frames():
            with self._news:
                if not self.current:
                    return
                made = self._course.follow(frame)
                self.captured += 1
                if self.newest is not None:
                    self.dropped += 1
                    gap = made.discontinuity or self.newest.discontinuity
                    made = replace(made, discontinuity=gap)
                self._state, self._heard = "running", time.monotonic()
                self.newest = made
                self._news.notify_all()

    def stats(self) -> dict[str, StatValue]:
        """Under the group's lock."""
        now = time.monotonic()
        own: Mapping[str, StatValue] = self._source.stats() if self._source else {}
        state = self._state
        if state in ("running", "connecting") and own.get("state") in ("backoff", "stalled"):
            state = str(own["state"])
        if state == "running" and now - self._heard > self._patience_s:
            state = "stalled"
        while self.times and now - self.times[0] > RATE_S:
            self.times.popleft()
        span = min(RATE_S, max(now - self._began, 1.0))
        return {
            "state": state,
            "captured": self.captured,
            "delivered": self.delivered,
            "dropped": self.dropped,
            "lost": int(own.get("dropped", 0)),
            "fps": round(len(self.times) / span, 2),
            "age_ms": round(self.age_ms, 1),
            "silent_s": round(now - self._heard, 1),
            "reconnects": int(own.get("reconnects", 0)),
            "failures": self._failures + int(own.get("failures", 0)),
            "cause": self._cause or str(own.get("last_cause", "")),
        }
