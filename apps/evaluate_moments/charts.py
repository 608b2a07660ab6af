"""The report's drawings, as inline SVG: means with intervals by row, over a number, F1 by cost.

Ours is a filled blue disc, other causal rows small ink discs, rows that saw the whole stream or
wait for later frames hollow: told apart by shape as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from retain.apps.evaluate_moments.verdicts import Estimate, figure
from retain.apps.plots import nice_step

Kind = Literal["ours", "other", "offline"]

W = 380
VALUES, ROW, TOP, FOOT = 50, 20, 6, 22
LETTER, LABELS = 6.9, (120.0, 236.0)
"""Width of a letter, and the least and most that names may take."""
PLOT_H = 176


@dataclass(frozen=True, slots=True)
class Point:
    """A mean with its interval. ``x``: where the drawing has numbers along the bottom."""

    name: str
    value: Estimate
    kind: Kind = "other"
    best: bool = False
    x: float = math.nan

    @property
    def told(self) -> str:
        """What the point says under the pointer."""
        v = self.value
        span = f", 95 % {figure(v.low)} to {figure(v.high)}"
        return f"{self.name}: {figure(v.mean)}{span if v.values > v.streams else ''}"


class Axis:
    """Numbers on a stretch of the drawing from ``start`` to ``end``, pixels (which may fall)."""

    def __init__(
        self, values: Iterable[float], start: float, end: float, *, zero: bool = True
    ) -> None:
        known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(known), max(known)
        self.start, self.end = start, end
        self.low, self.high = 0.0, 1.0
        self.log = low > 0 and high > 1 and high / low > 30
        if self.log:
            self.low, self.high = math.floor(math.log10(low)), math.ceil(math.log10(high))
            self.ticks = [10.0**p for p in range(int(self.low), int(self.high) + 1)]
            return
        if zero and low >= 0 and high <= 1 and high > 0.5:
            low, high = 0.0, 1.0
        low = min(low, 0.0) if zero else low
        size = max(abs(low), abs(high))
        size = size if size > 1e-6 else 1.0
        step = nice_step(high - low if high - low > 1e-6 * size else size, 4)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        self.low, self.high = step * first, step * max(last, first + 1)
        self.ticks = [round(step * i, 10) for i in range(first, max(last, first + 1) + 1)]

    def at(self, value: float) -> float:
        """Pixels."""
        place = math.log10(value) if self.log else value
        share = min(max((place - self.low) / (self.high - self.low), 0.0), 1.0)
        return round(self.start + share * (self.end - self.start), 1)


def dots(points: Sequence[Point], title: str) -> str:
    """A row per point: its name, its interval and mean on a common scale, the mean in figures."""
    height = TOP + ROW * len(points) + FOOT
    floor = TOP + ROW * len(points)
    numbers = [n for p in points for n in (p.value.low, p.value.mean, p.value.high)]
    most = max(p.value.mean for p in points)
    longest = max(len(p.name) for p in points)
    left = min(max(LETTER * longest + 14, LABELS[0]), LABELS[1])
    axis = Axis(numbers, left, W - VALUES - 8)
    parts = []
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{floor}"/>')
        parts.append(_text(x, floor + 15, _tick(tick), "tick middle"))
    for i, point in enumerate(points):
        y = TOP + ROW * i + ROW / 2
        best = " best" if point.best else ""
        inside = _text(left - 12, y + 4, _short(point.name), "name end")
        if math.isfinite(point.value.mean):
            inside += _interval(axis, point.value, y)
            inside += _disc(axis.at(point.value.mean), y, point.kind)
        inside += _text(W - 2, y + 4, figure(point.value.mean, most), f"value end{best}")
        told = escape(point.told)
        parts.append(f'<g class="{point.kind}{best}"><title>{told}</title>{inside}</g>')
    return _svg(parts, height, title)


def curve(
    points: Sequence[Point], thin: Sequence[Sequence[tuple[float, float]]], title: str
) -> str:
    """Means over a number, with intervals; ``thin``: the same of single streams, as (x, y). A
    point of kind ``ours`` is the default."""
    left, floor = 52, TOP + PLOT_H
    across = Axis([p.x for p in points], left + 8, W - 24, zero=False)
    numbers = [n for p in points for n in (p.value.low, p.value.mean, p.value.high)]
    up = Axis([*numbers, *(y for line in thin for _, y in line)], floor, TOP + 4)
    parts = list(_frame(up, left))
    for p in points:
        parts.append(_text(across.at(p.x), floor + 15, _tick(p.x), "tick middle"))
    for line in thin:
        parts.append(
            f'<path class="thin" d="{_path([(across.at(x), up.at(y)) for x, y in line])}"/>'
        )
    middle = [(across.at(p.x), up.at(p.value.mean)) for p in points]
    parts.append(f'<path class="line" d="{_path(middle)}"/>')
    for (x, y), p in zip(middle, points, strict=True):
        whisker = _whisker(x, up.at(p.value.low), x, up.at(p.value.high))
        parts.append(
            f'<g class="{p.kind}"><title>{escape(p.told)}</title>{whisker}{_disc(x, y, p.kind)}</g>'
        )
    return _svg(parts, floor + FOOT, title)


def scatter(points: Sequence[Point], title: str, below: str) -> str:
    """Means over a number that spans decades, each with its name beside it."""
    wide, left, floor = 2 * W, 52, TOP + 1.5 * PLOT_H
    across = Axis([p.x for p in points], left + 8, wide - 320, zero=False)
    up = Axis([p.value.mean for p in points], floor, TOP + 8)
    parts = list(_frame(up, left, wide))
    for tick in across.ticks:
        parts.append(_text(across.at(tick), floor + 15, _tick(tick), "tick middle"))
    parts.append(_text(wide - 300, floor + 15, escape(below), "tick"))
    order = sorted(points, key=lambda p: -p.value.mean)
    heights = _apart([up.at(p.value.mean) for p in order], 16, TOP + 8, floor - 4)
    for p, beside in zip(order, heights, strict=True):
        x, y = across.at(p.x), up.at(p.value.mean)
        whisker = _whisker(x, up.at(p.value.low), x, up.at(p.value.high))
        lead = f'<path class="lead" d="M{x + 8} {y}L{wide - 308} {beside}"/>'
        name = _text(wide - 302, beside + 4, escape(p.name), "name")
        parts.append(
            f'<g class="{p.kind}"><title>{escape(p.told)}</title>{lead}{whisker}'
            f"{_disc(x, y, p.kind)}{name}</g>"
        )
    return _svg(parts, floor + FOOT, title, wide)


def _apart(places: Sequence[float], least: float, top: float, bottom: float) -> list[float]:
    """Rising ``places`` moved so that they are ``least`` apart and, where possible, inside."""
    out: list[float] = []
    for place in places:
        out.append(max(place, out[-1] + least) if out else max(place, top))
    over = out[-1] - bottom if out else 0.0
    for i in range(len(out) - 1, -1, -1):
        if over <= 0:
            break
        limit = out[i + 1] - least if i + 1 < len(out) else bottom
        out[i] = min(out[i], limit)
    return [round(place, 1) for place in out]


def _frame(up: Axis, left: float, wide: float = W) -> Iterable[str]:
    for tick in up.ticks:
        y = up.at(tick)
        yield f'<line class="grid" x1="{left}" x2="{wide - 4}" y1="{y}" y2="{y}"/>'
        yield _text(left - 6, y + 4, _tick(tick), "tick end")


def _interval(axis: Axis, value: Estimate, y: float) -> str:
    return _whisker(axis.at(value.low), y, axis.at(value.high), y)


def _whisker(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="whisker" d="M{x1} {y1}L{x2} {y2}"/>'


def _disc(x: float, y: float, kind: Kind) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{5.5 if kind == "ours" else 4}"/>'


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in places)


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _short(name: str, most: int = 32) -> str:
    return escape(name if len(name) <= most else name[: most - 1] + "…")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{text}</text>'


def _svg(parts: Sequence[str], height: float, title: str, wide: float = W) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {wide} {height}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
