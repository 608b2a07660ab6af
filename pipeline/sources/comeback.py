"""Cameras and live addresses that are connected again whenever they go away."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from retain.pipeline.errors import RetainError, SourceError, SourceFault
from retain.pipeline.frame import Frame
from retain.pipeline.redact import redact
from retain.pipeline.sources.camera import CameraSource
from retain.pipeline.sources.common import Sampler, integer, is_url, names_file, number, text
from retain.pipeline.sources.connection import Connection
from retain.pipeline.sources.credentials import Secrets
from retain.pipeline.sources.lifecycle import Backoff, Lifecycle
from retain.pipeline.sources.liveness import LiveTimes
from retain.pipeline.sources.video import VideoSource
from retain.pipeline.stage import SourceInfo, StatValue

log = logging.getLogger(__name__)

_STUCK = 3
"""Times ``timeout`` without a picture: the thread that reads is left to itself."""
_MOST_STUCK = 4
"""So many threads may hang in drivers before no further one is started."""


_NO_CAMERA = frozenset((SourceFault.NOT_FOUND, SourceFault.DENIED))


class ComebackSource:
    """A camera or an address that is connected again when it fails, ends, stalls or freezes.

    source    as in CameraSource and VideoSource; ``${NAME}`` and ``${file:/path}`` in an address
              are filled in when it is connected (``credentials.py``)
    timeout   seconds that connecting, and then each read, may take
    attempts  failures in a row after which it gives up; 0: never
    patient   whether the first connection is tried again as well
    frozen_s  seconds of byte-identical pictures after which it is connected anew; 0: never
    stream, fps, limit   as in VideoSource

    A thread of its own reads each connection and keeps the newest picture; a slower consumer finds
    that one and the others count as ``dropped``. Frames go on in ``seq`` and pts over reconnects
    (``LiveTimes``); the first after one has ``discontinuity`` set. An http address that names a
    file, or turns out to be one, is read once, as by VideoSource.
    """

    FIRST_S, MOST_S = 0.5, 30.0
    """Bounds of the waits between tries, in seconds."""

    def __init__(
        self,
        source: str,
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        timeout: float = 10.0,
        attempts: int = 0,
        patient: bool = True,
        frozen_s: float = 30.0,
    ) -> None:
        self.source = text("source", source)
        self.name = redact(self.source)
        self.stream = text("stream", stream)
        self.timeout = number("timeout", timeout, 0.1, 3600)
        self.frozen_s = number("frozen_s", frozen_s, 0, 86_400)
        self._fps = fps
        self._out = Sampler(0, limit)
        self._choice = Sampler(fps)
        self._times = LiveTimes(self.timeout)
        self._secrets = Secrets()
        self._backoff = Backoff(random.Random(), self.FIRST_S, self.MOST_S)
        attempts = integer("attempts", attempts, 0)
        fatal = frozenset() if is_url(self.source) else _NO_CAMERA
        self._life = Lifecycle(self._backoff, time.monotonic, attempts, patient, fatal)
        self._news = threading.Condition()
        """Guards everything below, and what the connections share above."""
        self._keeper: threading.Thread | None = None
        self._run: Connection | None = None
        self._stuck: list[threading.Thread] = []
        self._info: SourceInfo | None = None
        self._finite: VideoSource | None = None
        self._newest: Frame | None = None
        self._fault: RetainError | None = None
        self._stop = self._ended = False
        self._gap = False
        """The next frame kept is the first after a gap, whatever became of those before it."""
        self._told = False
        """Whether the log says last that it is away."""
        self._skipped = self._offered = self._dropped = 0
        self._past: dict[str, int] = {}
        """What former connections counted themselves."""

    def open(self) -> SourceInfo:
        """Wait for the connection. Raises SourceError when it was given up, UsageError at once."""
        if names_file(self.source):
            self._finite = self._plain()
            return self._open_finite()
        with self._news:
            if self._keeper is None and not self._stop:
                self._keeper = threading.Thread(
                    target=self._keep, name=f"keeper of {self.name}", daemon=True
                )
                self._keeper.start()
            self._news.wait_for(lambda: self._info or self._fault or self._stop)
            if self._fault is not None and self._info is None:
                raise self._fault
            if self._info is None:
                raise SourceError(
                    SourceFault.TIMEOUT, f"{self.name!r} was closed before it was connected."
                )
            if self._info.kind == "live":
                return self._info
        return self._open_finite()

    def frames(self) -> Iterator[Frame]:
        """Newest frames until closed. Raises SourceError when the source was given up."""
        if self._info is None and self._finite is None and not self._stop:
            self.open()
        if self._finite is not None:
            yield from self._finite_frames(self._finite)
            return
        try:
            while (frame := self._take()) is not None:
                self._out.keep(frame.pts, frame.time_base)
                yield replace(frame, seq=self._out.kept - 1)
                if self._out.full:
                    return
        finally:
            self.close()

    def _take(self) -> Frame | None:
        """The newest frame not yet taken; None once closed."""
        with self._news:
            self._news.wait_for(lambda: self._newest or self._fault or self._stop or self._ended)
            if self._stop:
                return None
            newest, self._newest = self._newest, None
            if newest is None and self._fault is not None:
                if isinstance(self._fault, SourceError):
                    self._fault.decoded = self._out.kept
                raise self._fault
            return newest

    def close(self) -> None:
        """Stop. Whoever waits returns at once; a read under way ends in its own thread."""
        with self._news:
            self._stop = True
            run, finite = self._run, self._finite
            self._news.notify_all()
        if run is not None:
            run.leave()
        if finite is not None:
            finite.close()

    # The keeper's thread: one connection after the other.

    def _keep(self) -> None:
        delay: float | None = 0.0
        while delay is not None:
            with self._news:
                self._news.wait_for(lambda: self._stop, timeout=delay)
                if self._stop:
                    return
                self._life.connecting()
                self._times.reconnect()
                self._gap = self._offered > 0
            error, run = self._once()
            with self._news:
                if self._stop or self._finite is not None:
                    return
                before = self._life.last_cause
                delay = self._life.lost(error, run is not None and run.frozen)
                if delay is None:
                    self._ended = run is not None and run.whole
                    self._fault = None if self._ended else error
                    self._news.notify_all()
            if not self._ended:
                self._tell(error, before, delay)

    def _tell(self, error: RetainError, before: str, delay: float | None) -> None:
        """One line when it goes away and when the reason changes; none per try, and none for a
        connection that keeps breaking for one reason."""
        if delay is not None and (self._life.in_a_row == 1 or str(error) != before):
            self._told = True
            log.warning("%s Trying again.", error)
        else:
            log.debug("%s: try %d failed: %s", self.name, self._life.in_a_row, error)

    def _once(self) -> tuple[RetainError, Connection | None]:
        """One connection from beginning to end, and why it ended."""
        self._stuck = [thread for thread in self._stuck if thread.is_alive()]
        if len(self._stuck) >= _MOST_STUCK:
            return SourceError(
                SourceFault.STALLED,
                f"{self.name!r}: {_MOST_STUCK} threads hang in reading it.",
                hint="Restart the camera, or this program.",
            ), None
        try:
            run = Connection(self, self._inner())
        except RetainError as error:
            return self._secrets.cleaned(error), None
        with self._news:
            self._run = run
            if self._stop:
                return self._silent(), None
        run.thread.start()
        with self._news:
            while not self._stop and run.ended is None:
                waited = time.monotonic() - run.heard
                if waited > _STUCK * self.timeout:
                    break
                if waited > self.timeout / 2:
                    self._life.quiet()
                self._news.wait(self.timeout / 2)
            self._run = None
            ended = run.ended
            for what, count in run.counts().items():
                self._past[what] = self._past.get(what, 0) + count
        run.leave()
        if ended is None and not self._stop:
            self._stuck.append(run.thread)
        return ended or self._silent(), run

    def _silent(self) -> SourceError:
        return SourceError(
            SourceFault.STALLED,
            f"{self.name!r} gave no picture for {_STUCK * self.timeout:g} s.",
            hint="Check the camera and the network.",
        )

    def _inner(self) -> VideoSource | CameraSource:
        if not is_url(self.source):
            return CameraSource(self.source, self.stream, timeout=self.timeout)
        address = self._secrets.expand(self.source)
        inner = VideoSource(address, self.stream, timeout=self.timeout)
        inner.name = self.name  # what it logs
        return inner

    # Called by the thread that reads a connection (``connection.Owner``).

    def opened(self, run: Connection, info: SourceInfo) -> bool:
        """Whether to go on reading."""
        with self._news:
            if self._run is not run:
                return False
            if self._info is None:
                self._info = replace(info, description=self._secrets.clean(info.description))
                if info.kind == "finite":  # it has a beginning, and is read from there
                    self._finite = self._plain()
            self._news.notify_all()
            return self._finite is None

    def chosen(self, run: Connection, pts: int, time_base: Fraction) -> int | None:
        """The time of a picture in ticks of ``LiveTimes``; None when it is not wanted."""
        with self._news:
            if self._run is not run:
                return None
            waited = self._life.picture()
            run.heard = now = time.monotonic()
            told, self._told = self._told, False
            pts = self._times.next(pts, time_base, now)
            assert self._times.time_base is not None
            wanted = self._choice.keep(pts, self._times.time_base)
            self._skipped += not wanted
        if waited is not None and told:
            log.warning("%r gives pictures, after %.1f s without.", self.name, waited)
        return pts if wanted else None

    def offer(self, run: Connection, frame: Frame, pts: int) -> None:
        with self._news:
            if self._run is not run:
                return
            assert self._times.time_base is not None
            gap = frame.discontinuity or self._gap
            if self._newest is not None:
                self._dropped += 1
                gap = gap or self._newest.discontinuity
            self._gap = False
            self._newest = replace(
                frame, pts=pts, time_base=self._times.time_base, discontinuity=gap
            )
            self._offered += 1
            self._news.notify_all()

    def over(self, run: Connection, error: RetainError) -> None:
        with self._news:
            run.ended = self._secrets.cleaned(error)
            self._news.notify_all()

    # A finite file at an address.

    def _plain(self) -> VideoSource:
        address = self._secrets.expand(self.source)
        plain = VideoSource(address, self.stream, self._fps, self._out.limit, self.timeout)
        plain.name = self.name
        return plain

    def _open_finite(self) -> SourceInfo:
        assert self._finite is not None
        try:
            info = self._finite.open()
        except RetainError as error:
            raise self._secrets.cleaned(error) from None
        return replace(info, description=self._secrets.clean(info.description))

    def _finite_frames(self, finite: VideoSource) -> Iterator[Frame]:
        try:
            yield from finite.frames()
        except RetainError as error:
            raise self._secrets.cleaned(error) from None

    def stats(self) -> Mapping[str, StatValue]:
        """captured = delivered + dropped + skipped by ``fps`` + at most one in hand; the rest is
        told in ``docs/sources.md``."""
        if self._finite is not None:
            return self._finite.stats()
        with self._news:
            life, times = self._life, self._times
            counts = dict(self._past)
            for what, count in (self._run.counts() if self._run else {}).items():
                counts[what] = counts.get(what, 0) + count
            lost = counts.pop("dropped", 0)
            repaired = counts.pop("repaired_times", 0)
            return {
                "state": life.state.value,
                "captured": self._skipped + self._offered + lost,
                "dropped": self._dropped + lost,
                "skipped": self._skipped,
                "delivered": self._out.kept,
                "connects": life.connects,
                "reconnects": max(0, life.connects - 1),
                "failures": life.failures,
                "stalls": life.stalls,
                "frozen": life.frozen,
                "time_standing": times.standing,
                "repaired_times": times.repaired + repaired,
                "down_s": round(life.down_s, 3),
                "last_cause": life.last_cause,
                **counts,
            }
