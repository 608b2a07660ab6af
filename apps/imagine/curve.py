"""The novelty over time: a bounded history of it, the moments that stood out, a drawing as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from retain.apps.detect.timeline import STEPS
from retain.apps.drawing import clock, score
from retain.pipeline.results import Novelty, Reference

ROOM = 800
SHOWN = 12
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1100, 240, 64, 16, 12, 26


class Point(NamedTuple):
    """A clip's novelty, or the highest of several."""

    seconds: float
    """When the clip ended."""
    seq: int
    score: float
    level: float
    new: bool


class History:
    """All points in at most ``ROOM``: when full, the lower of two neighbours goes."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._stride, self._filled = 1, 0

    def add(self, point: Point) -> None:
        if self.points and self._filled < self._stride:
            self.points[-1] = _higher(self.points[-1], point)
            self._filled += 1
            return
        if len(self.points) == ROOM:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [_higher(a, b) for a, b in pairs]
            self._stride *= 2
        self.points.append(point)
        self._filled = 1


def _higher(a: Point, b: Point) -> Point:
    return max(a, b, key=lambda p: (p.new, p.score if math.isfinite(p.score) else -math.inf))


@dataclass(frozen=True, slots=True)
class Moment:
    """When something new happened."""

    seconds: float
    start_s: float
    seq: int
    score: float
    level: float
    film: bytes = field(repr=False)
    """The clip as the model saw it, PNG."""
    references: tuple[Reference, ...] = ()


class Moments:
    """The most unusual ones, at most ``SHOWN``; of those that overlap the higher."""

    def __init__(self) -> None:
        self._best: list[Moment] = []
        self.count = 0

    @property
    def best(self) -> list[Moment]:
        """In order of time."""
        return sorted(self._best, key=lambda one: one.seq)

    def wants(self, told: Novelty) -> bool:
        """Whether it is worth making a picture for."""
        if not told.new:
            return False
        excess = told.score - told.level
        return len(self._best) < SHOWN or excess > min(map(_excess, self._best))

    def add(self, one: Moment) -> None:
        same = [m for m in self._best if one.start_s <= m.seconds and m.start_s <= one.seconds]
        if any(_excess(m) >= _excess(one) for m in same):
            return
        rest = [m for m in self._best if m not in same]
        self._best = sorted([*rest, one], key=_excess)[-SHOWN:]


def _excess(one: Moment) -> float:
    return one.score - one.level


def curve_svg(points: Sequence[Point], moments: Sequence[Moment]) -> str:
    """The curve with the level from which a score is unusual; dots are moments."""
    known = [p for p in points if math.isfinite(p.score)]
    if len(known) < 2:
        return ""
    start, end = known[0].seconds, known[-1].seconds
    values = [p.score for p in known] + [p.level for p in known if math.isfinite(p.level)]
    low, high = min(0.0, *values), max(0.0, *values)
    high += 1e-9 + 0.05 * (high - low)

    def x(seconds: float) -> float:
        share = (seconds - start) / max(end - start, 1e-9)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        share = (value - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    parts = []
    step = next((s for s in STEPS if (end - start) / s <= 10), STEPS[-1])
    for k in range(math.ceil(start / step), int(end / step) + 1):
        at = x(k * step)
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="tick" x="{at}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{clock(k * step)}</text>"
        )
    for value in sorted({low, 0.0, high}):
        at, word = y(value), score(value) if value else "0"
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{word}</text>'
        )
    levels = " ".join(f"{x(p.seconds)},{y(p.level)}" for p in known if math.isfinite(p.level))
    parts.append(f'<polyline class="level" points="{levels}"/>')
    line = " ".join(f"{x(p.seconds)},{y(p.score)}" for p in known)
    parts.append(f'<polyline class="score" points="{line}"/>')
    for one in moments:
        told = f"{clock(one.seconds)}: {score(one.score)}, usual up to {score(one.level)}"
        parts.append(
            f'<circle class="new" cx="{x(one.seconds)}" cy="{y(one.score)}" r="5">'
            f"<title>{told}</title></circle>"
        )
    return (
        f'<svg class="novelty" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Novelty over time, {len(moments)} moments stand out">{"".join(parts)}</svg>'
    )
