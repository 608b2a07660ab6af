"""``synthetic://``: streams made on the spot, with knobs for everything that goes wrong in life."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, inf
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from retain.pipeline.errors import SourceError, SourceFault, UsageError, nearest
from retain.pipeline.frame import MAX_SIDE, Frame
from retain.pipeline.sources.common import Sampler, text
from retain.pipeline.sources.scenes import SCENES
from retain.pipeline.stage import SourceInfo, StatValue

TICKS = 1000
"""Ticks per nominal frame interval: the time base is 1/(1000 rate), so that jitter is exact."""
_DEFAULT_FRAMES = 250

Span = tuple[Fraction, Fraction]
"""Start and end in seconds of presentation time."""


@dataclass(frozen=True)
class Knobs:
    """What may follow the ``?``. Times are seconds of presentation time from the first frame."""

    size: tuple[int, int] = (160, 120)
    """Width x height in pixels."""
    rate: Fraction = Fraction(25)
    frames: int = -1
    """Number of frame intervals; 0 never ends. Default 250, endless when live."""
    seconds: Fraction = Fraction(0)
    """The same as a duration."""
    seed: int = 0
    live: bool = False
    """Pace by the wall clock and call the stream live."""
    cut: Fraction = Fraction(8)
    """``scenes``: seconds per scene."""
    objects: int = 3
    """``bounce``: moving objects."""
    pause: tuple[Span, ...] = ()
    """``start:length``: no frames exist in that span; time goes on."""
    repeat: tuple[Span, ...] = ()
    """``start:length``: the picture freezes; frames and their times go on."""
    flash: tuple[Span, ...] = ()
    """``start:length``: the picture is white."""
    stall: tuple[tuple[Fraction, float], ...] = ()
    """``at:seconds``: for so long on the wall clock (``inf``: for ever) the open source is mute."""
    corrupt: Fraction | None = None
    """At this time the stream breaks: SourceError(BROKEN)."""
    burst: int = 1
    """Live: frames arrive in groups of so many."""
    jitter: Fraction = Fraction(0)
    """Frame times wander by up to this fraction (< 0.5) of an interval, either way."""

    @property
    def count(self) -> int:
        """Frame intervals in all; 0 means endless."""
        if self.seconds:
            return max(1, round(self.seconds * self.rate))
        if self.frames < 0:
            return 0 if self.live else _DEFAULT_FRAMES
        return self.frames


class SyntheticSource:
    """``synthetic://bounce?size=64x48&frames=100&seed=3``; names: bounce, still, pan, scenes.

    The pixels and times of frame k depend on the address alone, so two runs agree bit for bit
    (a live stream's arrival times excepted). ``Knobs`` lists what may be asked for; repeatable
    knobs (pause, repeat, flash, stall) may be given more than once.
    """

    def __init__(self, source: str, stream: str = "main", fps: float = 0.0, limit: int = 0) -> None:
        self.source = text("source", source)
        self.stream = text("stream", stream)
        self.name, self.knobs = parse(self.source)
        self._sampler = Sampler(fps, limit)
        self._closed = threading.Event()

    def open(self) -> SourceInfo:
        knobs = self.knobs
        width, height = knobs.size
        return SourceInfo(
            kind="live" if knobs.live else "finite",
            description=self.source,
            width=width,
            height=height,
            fps=float(knobs.rate),
            declared_frames=knobs.count,
            duration_s=float(knobs.count / knobs.rate),
        )

    def frames(self) -> Iterator[Frame]:
        """Raises SourceError(BROKEN) where ``corrupt`` says so."""
        knobs, sampler = self.knobs, self._sampler
        time_base = 1 / (knobs.rate * TICKS)
        draw = SCENES[self.name](knobs.size, knobs.seed, knobs.rate, knobs.cut, knobs.objects)
        white = np.full((knobs.size[1], knobs.size[0], 3), 255, np.uint8)
        started = time.monotonic()
        for k in self._ticks(started):
            now = k / knobs.rate
            if knobs.corrupt is not None and now >= knobs.corrupt:
                raise self._broken(now)
            if knobs.pause and _inside(now, knobs.pause):
                continue
            pts = k * TICKS + self._jitter(k)
            if not sampler.keep(pts, time_base):
                continue
            frozen = _inside(now, knobs.repeat)
            image = draw(ceil(frozen[0] * knobs.rate) if frozen else k)
            if _inside(now, knobs.flash):
                image = white
            yield Frame(self.stream, sampler.kept - 1, pts, time_base, image)
            if sampler.full:
                return

    def _ticks(self, started: float) -> Iterator[int]:
        """Frame numbers as they fall due. In a live stream those of a stall are lost."""
        knobs = self.knobs
        stalls = sorted(knobs.stall)
        k = 0
        while not self._closed.is_set() and (knobs.count == 0 or k < knobs.count):
            if stalls and k / knobs.rate >= stalls[0][0]:
                wait = stalls.pop(0)[1]
                self._closed.wait(None if wait == inf else wait)
                if knobs.live:
                    k = max(k, int((time.monotonic() - started) * knobs.rate))
                continue
            if knobs.live:
                due = float(k // knobs.burst * knobs.burst / knobs.rate)
                if self._closed.wait(max(0.0, started + due - time.monotonic())):
                    return
            yield k
            k += 1

    def _jitter(self, k: int) -> int:
        """Ticks by which frame k's time is off; a function of the seed and k alone."""
        reach = int(self.knobs.jitter * TICKS)
        if not reach or not k:
            return 0
        return int(np.random.default_rng((self.knobs.seed, k)).integers(-reach, reach + 1))

    def _broken(self, now: Fraction) -> SourceError:
        return SourceError(
            SourceFault.BROKEN,
            f"{self.source!r} broke at {float(now):g} s, as its knob 'corrupt' asks.",
            decoded=self._sampler.kept,
        )

    def close(self) -> None:
        self._closed.set()

    def stats(self) -> Mapping[str, StatValue]:
        return {"delivered": self._sampler.kept}


def parse(source: str) -> tuple[str, Knobs]:
    """The name and the knobs of a ``synthetic://`` address. Raises UsageError."""
    parts = urlsplit(source)
    name = parts.netloc + parts.path.rstrip("/")
    if parts.scheme != "synthetic" or name not in SCENES:
        raise UsageError(
            f"{source!r} is not a synthetic stream.",
            hint=f"Write synthetic://name. {nearest(name, SCENES)}",
        )
    given: dict[str, Any] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _READERS:
            raise UsageError(
                f"Synthetic streams have no knob {key!r}.", hint=nearest(key, _READERS)
            )
        try:
            read = _READERS[key][0](value)
        except (ValueError, ZeroDivisionError):
            raise UsageError(
                f"The knob {key}={value!r} of a synthetic stream makes no sense.",
                hint=f"Write it like {key}={_READERS[key][1]}.",
            ) from None
        given[key] = (*given.get(key, ()), read) if key in _REPEATABLE else read
    if "frames" in given and "seconds" in given:
        raise UsageError("Give a synthetic stream either frames or seconds, not both.")
    knobs = Knobs(**given)
    if knobs.burst > 1 and not knobs.live:
        raise UsageError("The knob 'burst' is about arrival, so it needs live=1.")
    return name, knobs


def _inside(now: Fraction, spans: tuple[Span, ...]) -> Span | None:
    for span in spans:
        if span[0] <= now < span[1]:
            return span
    return None


def _ranged(read: Callable[[str], Any], low: float, high: float) -> Callable[[str], Any]:
    def checked(value: str) -> Any:
        number = read(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return checked


def _size(value: str) -> tuple[int, int]:
    side = _ranged(int, 1, MAX_SIDE)
    width, height = value.lower().split("x")
    return side(width), side(height)


def _switch(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError
    return value == "1"


_time = _ranged(Fraction, 0, 1e9)


def _span(value: str) -> Span:
    start, length = value.split(":")
    return _time(start), _time(start) + _time(length)


def _stall(value: str) -> tuple[Fraction, float]:
    at, seconds = value.split(":")
    return _time(at), inf if seconds == "inf" else float(_time(seconds))


_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "size": (_size, "320x240"),
    "rate": (_ranged(Fraction, 0.001, 100_000), "25 or 30000/1001"),
    "frames": (_ranged(int, 0, 2**62), "1000"),
    "seconds": (_ranged(Fraction, 0.001, 1e9), "12.5"),
    "seed": (_ranged(int, 0, 2**62), "7"),
    "live": (_switch, "1"),
    "cut": (_ranged(Fraction, 0.001, 1e9), "8"),
    "objects": (_ranged(int, 0, 100), "3"),
    "pause": (_span, "4:2"),
    "repeat": (_span, "4:2"),
    "flash": (_span, "4:0.1"),
    "stall": (_stall, "4:2 or 4:inf"),
    "corrupt": (_time, "4"),
    "burst": (_ranged(int, 1, 10_000), "5"),
    "jitter": (_ranged(Fraction, 0, 0.499), "0.3"),
}
"""Knob: how to read it, and an example of it."""
_REPEATABLE = ("pause", "repeat", "flash", "stall")
