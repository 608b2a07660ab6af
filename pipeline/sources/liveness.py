"""Is what a camera sends alive: times that go on over reconnects, and pictures that change."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from retain.pipeline.course import onward
from retain.pipeline.frame import Image

_FEW = 5
"""Pictures within which time must have moved: bursts after a pause begin with a few close ones."""
_COARSE_S = 0.01
"""Seconds: where a tick is longer, one per picture is a rate and not a clock that crawls."""


class LiveTimes:
    """Presentation times of one stream over all its connections: strictly rising.

    The first connection's times are kept as they are, and its time base for good. A later
    connection goes on where the last one ended, by as much as passed in between on this host's
    clock. Where time stands still for ``still_s`` seconds while pictures come, times are counted on
    by their arrival until it moves again. ``standing`` counts those episodes, ``repaired`` the
    pictures whose time was changed (the first of a later connection included).
    """

    def __init__(self, still_s: float) -> None:
        self._still_s = still_s
        self.time_base: Fraction | None = None
        self.repaired = self.standing = 0
        self._last: int | None = None
        self._seen = 0
        """Last time that the connection told, in ticks of ``time_base``."""
        self._arrived_s = 0.0
        self._offset: int | None = 0
        """None: to be found with the first picture of a new connection."""
        self._anchor = (0.0, 0)
        self._since = 0
        self._stands = False

    def reconnect(self) -> None:
        """The next picture is the first of another connection."""
        if self._last is not None:
            self._offset = None
        self._stands, self._since = False, 0

    def next(self, pts: int, time_base: Fraction, arrived_s: float) -> int:
        """The time, in ticks of ``self.time_base``, for a picture at ``pts`` ticks of its own."""
        base = self.time_base = self.time_base or time_base
        seen = pts if time_base == base else round(pts * time_base / base)
        last = self._last
        if last is not None:
            on = onward(last * base, arrived_s - self._arrived_s, base)
            if self._offset is None or self._still(seen, on - last, arrived_s):
                self.repaired += 1
                self._offset = on - seen
        out = seen + (self._offset or 0)
        if last is not None and out <= last:
            self.repaired += 1
            out = last + 1
        self._seen, self._arrived_s, self._last = seen, arrived_s, out
        return out

    def _still(self, seen: int, passed: int, arrived_s: float) -> bool:
        """Whether time stands still as of this picture."""
        assert self.time_base is not None
        if self._stands:
            self._stands = 2 * (seen - self._seen) < passed
            self._since = 0
            return self._stands
        if self._since == 0:
            self._anchor = self._arrived_s, self._seen
        self._since += 1
        began_s, first = self._anchor
        crawl = self._since if self.time_base < _COARSE_S else 0
        if seen - first > max(crawl, self._still_s / 100 / self.time_base):
            self._since = 0
        elif self._since >= _FEW and arrived_s - began_s >= self._still_s:
            self.standing += 1
            self._stands = True
        return self._stands


class Frozen:
    """Notices ``after_s`` seconds of byte-identical pictures; 0: never."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._first: tuple[Image, float] | None = None
        self._same = 0

    def sees(self, image: Image, now_s: float) -> bool:
        """Whether the picture has stood for that long (three of them at least)."""
        if not self._after_s:
            return False
        if self._first is None or not _equal(image, self._first[0]):
            self._first, self._same = (image, now_s), 0
        self._same += 1
        return self._same > 2 and now_s - self._first[1] >= self._after_s


def _equal(a: Image, b: Image) -> bool:
    """Most pictures differ in a few samples already; only those that do not are compared whole."""
    return np.array_equal(a[::31, ::17], b[::31, ::17]) and np.array_equal(a, b)
