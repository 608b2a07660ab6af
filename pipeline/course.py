"""Numbers and times of a stream go on, whoever gives it. Pure: no thread and no clock."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import msgspec

from retain.pipeline.frame import Frame


class Last(msgspec.Struct, frozen=True, array_like=True):
    """Where a stream had come: number and time of its last frame, and when that arrived."""

    seq: int
    pts: int
    ticks: int
    per: int
    """``ticks`` / ``per`` seconds are one tick of ``pts``."""
    at_ns: int
    """``time.monotonic_ns`` of this host."""


def onward(ended: Fraction, passed_s: float | Fraction, time_base: Fraction) -> int:
    """The tick of ``time_base`` at which a stream that ended at ``ended`` seconds goes on, when
    ``passed_s`` seconds have passed on this host: a later one in any case."""
    return int(ended / time_base) + max(1, round(passed_s / time_base))


class Course:
    """One stream, given by one source after the other, each of which may begin anew.

    What a later one gives is moved behind what came before where it is not: in number to the next,
    in time by what passed on this host meanwhile.
    """

    def __init__(self, last: Last | None = None) -> None:
        self._last = last
        self._seq = self._pts = 0
        """Added to what the present source gives."""
        self._turning = last is not None

    def turn(self) -> bool:
        """The next frame is another source's first. Returns whether there was one before."""
        self._turning = self._last is not None
        return self._turning

    def moved(self, seq: int, pts: int, base: Fraction, at_ns: int) -> tuple[int, int]:
        """Number and time of a frame in the whole stream; it arrived at ``at_ns``."""
        last = self._last
        if self._turning and last is not None:
            ended = last.pts * Fraction(last.ticks, last.per)
            passed = Fraction(at_ns - last.at_ns, 10**9)
            self._seq = max(0, last.seq + 1 - seq)
            self._pts = onward(ended, passed, base) - pts if pts * base <= ended else 0
        self._turning = False
        seq, pts = seq + self._seq, pts + self._pts
        self._last = Last(seq, pts, base.numerator, base.denominator, at_ns)
        return seq, pts

    def follow(self, frame: Frame) -> Frame:
        """The frame with its number and time in the whole stream; the first after a turn says that
        there is a gap."""
        gap = frame.discontinuity or self._turning
        seq, pts = self.moved(frame.seq, frame.pts, frame.time_base, frame.t_arrival_ns)
        return replace(frame, seq=seq, pts=pts, discontinuity=gap)
