"""The timeline of scores: a bounded history of it, and its drawing as inline SVG."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from retain.apps.drawing import clock, score
from retain.pipeline.frame import Frame
from retain.pipeline.results import Route, State

_RANK: dict[State, int] = {"discard": 0, "blurred": 1, "clear": 2}


class Point(NamedTuple):
    """One frame's decision, or the most remarkable of several."""

    seconds: float
    seq: int
    score: float
    low: float
    high: float
    state: State
    lost: int = 0
    """Frames missing before this one."""

    @staticmethod
    def of(frame: Frame, route: Route, lost: int = 0) -> Point:
        score, low, high = (round(v, 6) for v in (route.score, route.low, route.high))
        seconds = round(frame.seconds, 3)
        return Point(seconds, frame.seq, score, low, high, route.state, lost)


class History:
    """All points of a stream in at most ``room``: when full, neighbours merge.

    Of merged points the strongest decision stays, then the highest score, so no kept frame hides
    behind a discarded one and peaks survive; ``lost`` adds up.
    """

    def __init__(self, room: int = 800) -> None:
        assert room >= 2
        self.room = room - room % 2
        self.stride = 1
        self._points: list[Point] = []
        self._filled = 0
        """Points that went into the last one."""

    def add(self, point: Point) -> None:
        if self._points and self._filled < self.stride:
            self._points[-1] = _merged(self._points[-1], point)
            self._filled += 1
            return
        if len(self._points) == self.room:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [_merged(a, b) for a, b in pairs]
            self.stride *= 2
        self._points.append(point)
        self._filled = 1

    @property
    def points(self) -> list[Point]:
        return list(self._points)

    def __len__(self) -> int:
        return len(self._points)


def _merged(a: Point, b: Point) -> Point:
    def strength(p: Point) -> tuple[int, float]:
        return _RANK[p.state], p.score if math.isfinite(p.score) else -math.inf

    return max(a, b, key=strength)._replace(lost=a.lost + b.lost)


class Mark(NamedTuple):
    """A kept frame on the timeline, linked to ``href``."""

    seconds: float
    score: float
    tier: State
    text: str
    href: str


W, H = 1120, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 12, 14, 34


class Axes:
    """Where a time and a value lie in the drawing. ``label`` names the values."""

    def __init__(self, start: float, end: float, top: float, label: str, low: float = 0.0) -> None:
        self.start, self.end = start, max(end, start + 1e-3)
        self.label = label
        self.step = nice_step(top - low if top > low else 1.0, 5)
        self.low = self.step * math.floor(low / self.step + 1e-9)
        self.top = max(self.step * math.ceil(top / self.step - 1e-9), self.low + self.step)

    def x(self, seconds: float) -> float:
        share = (seconds - self.start) / (self.end - self.start)
        return round(LEFT + share * (W - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = min(max((value - self.low) / (self.top - self.low), 0.0), 1.0)
        return round(H - BOTTOM - share * (H - TOP - BOTTOM), 1)


def _axes(points: Sequence[Point], marks: Sequence[Mark]) -> Axes:
    times = [p.seconds for p in points] + [m.seconds for m in marks]
    tops = [v for p in points for v in (p.score, p.high) if math.isfinite(v)]
    return Axes(min(times, default=0.0), max(times, default=1.0), max(tops, default=1.0), "score")


def nice_step(span: float, ticks: int) -> float:
    """A step of 1, 2 or 5 times a power of ten that cuts ``span`` into about ``ticks``."""
    raw = span / ticks
    power = 10.0 ** math.floor(math.log10(raw))
    return next((m * power for m in (1, 2, 5) if m * power >= raw * 0.999), 10 * power)


_TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600)


def timeline_svg(points: Sequence[Point], marks: Sequence[Mark]) -> str:
    """Score and both thresholds over time, the kept frames on it, losses along the bottom."""
    axes = _axes(points, marks)
    floor = axes.y(0)
    parts = [*grid(axes), _band(axes, points)]
    for kind in ("high", "low", "score"):
        parts.append(f'<path class="line {kind}" d="{_path(axes, points, kind)}"/>')
    most = max((p.lost for p in points), default=0)
    for p in points:
        if p.lost:
            tall = 4 + 10 * math.log1p(p.lost) / math.log1p(most)
            parts.append(
                f'<rect class="lost" x="{axes.x(p.seconds) - 1:g}" y="{floor - tall:.1f}" '
                f'width="2" height="{tall:.1f}"><title>{p.lost} frames missing before '
                f"{clock(p.seconds)}</title></rect>"
            )
    for mark in marks:
        x, y = axes.x(mark.seconds), axes.y(mark.score if math.isfinite(mark.score) else 0)
        shape = (
            f'<circle cx="{x}" cy="{y}" r="5"/>'
            if mark.tier == "clear"
            else f'<path d="M{x} {y - 6:g}l6 6l-6 6l-6 -6z"/>'
        )
        parts.append(
            f'<a href="{escape(mark.href)}" class="mark {mark.tier}">'
            f"<title>{escape(mark.text)}</title>{shape}</a>"
        )
    rows = [(p.seconds, _sentence(p)) for p in points]
    return drawing(axes, parts, rows, "Score and thresholds over time")


def drawing(
    axes: Axes, parts: Sequence[str], readings: Sequence[tuple[float, str]], title: str
) -> str:
    """The SVG of ``parts``. ``readings``: what is said about a time under the pointer."""
    floor = axes.y(axes.low)
    cursor = f'<line class="cursor" x1="0" x2="0" y1="{TOP}" y2="{floor}" hidden=""/>'
    rows = [[axes.x(seconds), text] for seconds, text in readings]
    data = escape(json.dumps(rows, separators=(",", ":"), ensure_ascii=False))
    return (
        f'<svg class="timeline" viewBox="0 0 {W} {H}" role="img" '
        f'aria-label="{title}" data-points="{data}">{"".join(parts)}{cursor}</svg>'
    )


def _sentence(p: Point) -> str:
    value, low, high = (score(v) for v in (p.score, p.low, p.high))
    return (
        f"{clock(p.seconds)} · score {value} · Blurred from {low} · Clear from {high} · {p.state}"
    )


def grid(axes: Axes) -> Iterable[str]:
    """Lines and numbers of the values, times along the bottom, the name of the values."""
    digits = max(0, -math.floor(math.log10(axes.step) + 1e-9))
    for i in range(round(axes.low / axes.step), round(axes.top / axes.step) + 1):
        y = axes.y(i * axes.step)
        yield f'<line class="grid" x1="{LEFT}" x2="{W - RIGHT}" y1="{y}" y2="{y}"/>'
        text = f"{i * axes.step:.{digits}f}"
        yield f'<text class="tick" x="{LEFT - 8}" y="{y + 4:g}" text-anchor="end">{text}</text>'
    span = axes.end - axes.start
    step = next((s for s in _TIME_STEPS if span / s <= 10), 86_400 * math.ceil(span / 864_000))
    at = math.ceil(axes.start / step - 1e-9) * step
    while at <= axes.end:
        label = clock(at) if step < 1 else clock(at).rpartition(".")[0]
        yield (
            f'<text class="tick" x="{axes.x(at)}" y="{H - BOTTOM + 18}" '
            f'text-anchor="middle">{label}</text>'
        )
        at += step
    yield f'<text class="tick" x="{W - RIGHT}" y="{H - 2}" text-anchor="end">stream time</text>'
    yield f'<text class="tick" transform="translate(12 {H // 2}) rotate(-90)">{axes.label}</text>'


def _runs(points: Sequence[Point], *names: str) -> Iterable[list[Point]]:
    """Stretches without an undefined value or a step back in time."""
    run: list[Point] = []
    for p in points:
        good = all(math.isfinite(getattr(p, name)) for name in names)
        if run and (not good or p.seconds < run[-1].seconds):
            yield run
            run = []
        if good:
            run.append(p)
    if run:
        yield run


def _path(axes: Axes, points: Sequence[Point], name: str) -> str:
    lines = []
    for run in _runs(points, name):
        lines.append(
            "M" + "L".join(f"{axes.x(p.seconds):g} {axes.y(getattr(p, name)):g}" for p in run)
        )
    return "".join(lines)


def _band(axes: Axes, points: Sequence[Point]) -> str:
    areas = []
    for run in _runs(points, "low", "high"):
        over = [f"{axes.x(p.seconds):g} {axes.y(p.high):g}" for p in run]
        under = [f"{axes.x(p.seconds):g} {axes.y(p.low):g}" for p in reversed(run)]
        areas.append("M" + "L".join(over + under) + "z")
    return f'<path class="band" d="{"".join(areas)}"/>'
