"""Webcams through OpenCV. The driver may block for ever; the caller never does."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame, Image
from retain.pipeline.sources.common import RisingTimes, Sampler, denied, integer, number, text
from retain.pipeline.stage import SourceInfo, StatValue

_MICRO = Fraction(1, 1_000_000)


class CameraSource:
    """A local camera: ``0``, ``1`` ... or ``/dev/video0``.

    timeout        seconds that opening, and then each picture, may take
    width, height  pixels to ask the camera for; 0 leaves its default
    fps, limit, stream   as in VideoSource

    A thread of its own reads the camera and keeps the newest picture; a slower consumer finds that
    one and the others count as ``dropped``. Cameras give no times, so pts is the moment of arrival
    in microseconds since the first picture.
    """

    def __init__(
        self,
        source: str = "0",
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        timeout: float = 10.0,
        width: int = 0,
        height: int = 0,
    ) -> None:
        self.source = text("source", source)
        if not re.fullmatch(r"\d{1,3}|/dev/video\d+", self.source):
            raise UsageError(
                f"{self.source!r} is not a camera.", hint="Write 0 for the first one, 1 ..."
            )
        self.stream = text("stream", stream)
        self.timeout = number("timeout", timeout, 0.1, 3600)
        self._want = integer("width", width, 0), integer("height", height, 0)
        self.index = int(self.source.removeprefix("/dev/video"))
        self.sampler = Sampler(fps, limit)
        """Chooses the frames; whoever wraps this source may put another one here."""
        self._news = threading.Condition()
        self._newest: tuple[int, Image] | None = None
        self._opened: SourceInfo | None = None
        self._fault: SourceError | None = None
        self._stop = False
        self._captured = 0
        self._dropped = 0

    def open(self) -> SourceInfo:
        """Start the camera and wait for its first picture. Raises SourceError."""
        self._check_device()
        threading.Thread(target=self._read, name=f"camera {self.source}", daemon=True).start()
        with self._news:
            self._news.wait_for(
                lambda: self._opened or self._fault or self._stop, timeout=self.timeout
            )
            if self._fault is None and self._opened is None:
                self._fault = SourceError(
                    SourceFault.TIMEOUT,
                    f"The camera {self.source!r} gave no picture within {self.timeout:g} s.",
                    hint="Unplug it and plug it in again, or raise the source option timeout.",
                )
        if self._opened is None:
            self.close()
            assert self._fault is not None
            raise self._fault
        return self._opened

    def _check_device(self) -> None:
        """Where cameras are device files, say precisely what is wrong with this one."""
        if not sys.platform.startswith("linux"):
            return
        device = Path(f"/dev/video{self.index}")
        if not device.exists():
            there = sorted(str(path) for path in Path("/dev").glob("video*"))
            raise SourceError(
                SourceFault.NOT_FOUND,
                f"There is no camera {self.source!r} (no {device}).",
                hint=f"Cameras here: {', '.join(there)}." if there else "No camera is connected.",
            )
        if not os.access(device, os.R_OK | os.W_OK):
            raise denied(device)

    def _read(self) -> None:
        """The reader thread: open, then keep the newest picture until told to stop."""
        import cv2

        capture = cv2.VideoCapture(self.index)
        try:
            if not capture.isOpened():
                self._fail(
                    SourceFault.REFUSED,
                    f"The camera {self.source!r} cannot be opened.",
                    "Another program may be using it, or it is not a camera.",
                )
                return
            for option, value in zip(
                (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT), self._want, strict=True
            ):
                if value:
                    capture.set(option, value)
            last = time.monotonic()
            while not self._stop:
                good, picture = capture.read()
                now = time.monotonic()
                if good and picture is not None and picture.size:
                    last = now
                    self._offer(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), capture)
                elif now - last > self.timeout:
                    return  # the consumer's own clock says so
                else:
                    time.sleep(0.01)
        except cv2.error as error:
            self._fail(SourceFault.BROKEN, f"The camera {self.source!r} failed: {error.err}.", "")
        finally:
            capture.release()

    def _offer(self, image: Image, capture: Any) -> None:
        import cv2

        with self._news:
            if self._opened is None:
                height, width = image.shape[:2]
                rate = float(capture.get(cv2.CAP_PROP_FPS))
                self._opened = SourceInfo(
                    kind="live",
                    description=f"camera {self.source} ({width}x{height})",
                    width=width,
                    height=height,
                    fps=rate if 0 < rate < 1000 else 0.0,
                )
            self._captured += 1
            self._dropped += self._newest is not None
            self._newest = time.monotonic_ns(), image
            self._news.notify_all()

    def _fail(self, fault: SourceFault, what: str, hint: str) -> None:
        with self._news:
            self._fault = SourceError(fault, what, hint=hint)
            self._news.notify_all()

    def frames(self) -> Iterator[Frame]:
        """Newest pictures until closed. Raises SourceError(STALLED) when none comes in time."""
        if self._opened is None:
            self.open()
        times, started = RisingTimes(1, 2**62), -1
        try:
            while (arrival := self._take()) is not None:
                stamp, image = arrival
                started = stamp if started < 0 else started
                pts = times.next((stamp - started) // 1000)
                if not self.sampler.keep(pts, _MICRO):
                    continue
                seq = self.sampler.kept - 1
                yield Frame(self.stream, seq, pts, _MICRO, image, t_arrival_ns=stamp)
                if self.sampler.full:
                    return
        finally:
            self.close()

    def _take(self) -> tuple[int, Image] | None:
        """The newest picture not yet taken; None once closed."""
        with self._news:
            self._news.wait_for(
                lambda: self._newest or self._fault or self._stop, timeout=self.timeout
            )
            if self._stop:
                return None
            if self._newest is not None:
                newest, self._newest = self._newest, None
                return newest
        fault = self._fault or SourceError(
            SourceFault.STALLED,
            f"The camera {self.source!r} gave no picture for {self.timeout:g} s.",
            hint="It may have been unplugged.",
        )
        fault.decoded = self.sampler.kept
        raise fault

    def close(self) -> None:
        """Stop. The reader thread frees the camera as soon as its driver returns."""
        with self._news:
            self._stop = True
            self._news.notify_all()

    def stats(self) -> Mapping[str, StatValue]:
        """captured = delivered + dropped + skipped by ``fps`` + at most one in hand."""
        return {
            "captured": self._captured,
            "dropped": self._dropped,
            "delivered": self.sampler.kept,
        }
