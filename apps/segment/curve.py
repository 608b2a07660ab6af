"""The area curve of a run: read back from curve.csv around a moment, drawn as SVG."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from retain.apps.drawing import clock
from retain.apps.plots import BOTTOM, TOP, Axes, H, drawing, grid
from retain.apps.segment.words import area_text, volume_text
from retain.pipeline.results import Beat

SHOWN_S = 20.0
"""Seconds of a long curve that are drawn."""
MOST = 4000
"""Points that are drawn; at high frame rates the rest of the stretch is left out."""


class Size(NamedTuple):
    """One line of curve.csv."""

    seq: int
    seconds: float
    area: float
    volume: float
    unit: str
    flags: tuple[str, ...]


def read_curve(path: Path, around_s: float) -> list[Size]:
    """The lines of a curve.csv within ``SHOWN_S`` around a time, one line in memory beside them."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = (_size(line) for line in csv.DictReader(file))
        near = (size for size in lines if abs(size.seconds - around_s) <= SHOWN_S / 2)
        return [size for size, _ in zip(near, range(MOST), strict=False)]


def _size(line: dict[str, str]) -> Size:
    area, volume = (float(line[name]) if line[name] else math.nan for name in ("area", "volume"))
    flags = tuple(line["flags"].split())
    return Size(int(line["seq"]), float(line["seconds"]), area, volume, line["unit"], flags)


def curve_svg(sizes: Sequence[Size], beats: Iterable[Beat]) -> str:
    """Area over time with a band from ED to ES of each beat, and a mark for each doubtful frame."""
    unit = sizes[0].unit if sizes else "px"
    scale = 0.01 if unit == "mm" else 1.0
    areas = [size.area * scale for size in sizes if size.area == size.area]
    start, end = (sizes[0].seconds, sizes[-1].seconds) if sizes else (0.0, 1.0)
    label = "cm²" if unit == "mm" else "square pixels"
    low, top = min(areas, default=0.0), max(areas, default=1.0)
    room = 0.12 * (top - low)
    axes = Axes(start, end, top + room, label, max(low - room, 0.0))
    inside = [beat for beat in beats if start <= beat.ed_seconds <= end]
    parts = [_band(axes, beat) for beat in inside]
    parts += [*grid(axes), f'<path class="line cavity" d="{_path(axes, sizes, scale)}"/>']
    floor = axes.y(axes.low)
    parts += [
        f'<rect class="lost" x="{axes.x(size.seconds) - 1:g}" y="{floor - 8:g}" width="2" '
        f'height="8"><title>{escape(", ".join(size.flags))}</title></rect>'
        for size in sizes
        if size.flags
    ]
    for beat in inside:
        parts.append(_mark(axes, beat.ed_seconds, beat.ed_area * scale, "ED", -11))
        parts.append(_mark(axes, beat.es_seconds, beat.es_area * scale, "ES", 21))
    readings = [(size.seconds, _sentence(size)) for size in sizes]
    return drawing(axes, parts, readings, "Area of the left ventricle over time")


def _band(axes: Axes, beat: Beat) -> str:
    left, right = sorted((axes.x(beat.ed_seconds), min(axes.x(beat.es_seconds), axes.x(axes.end))))
    height = H - BOTTOM - TOP
    return f'<rect class="band" x="{left}" y="{TOP}" width="{right - left:.1f}" height="{height}"/>'


def _mark(axes: Axes, seconds: float, value: float, word: str, down: float) -> str:
    x, y = axes.x(seconds), axes.y(value)
    return (
        f'<circle class="{word.lower()}" cx="{x}" cy="{y}" r="5"/>'
        f'<text class="tick" x="{x}" y="{y + down:g}" text-anchor="middle">{word}</text>'
    )


def _path(axes: Axes, sizes: Sequence[Size], scale: float) -> str:
    """Broken where there is no area, or time runs backwards."""
    words, before = [], math.inf
    for size in sizes:
        if size.area != size.area:
            before = math.inf
            continue
        pen = "L" if size.seconds > before else "M"
        words.append(f"{pen}{axes.x(size.seconds):g} {axes.y(size.area * scale):g}")
        before = size.seconds
    return "".join(words)


def _sentence(size: Size) -> str:
    volume = volume_text(size.volume, size.unit)
    told = f"{clock(size.seconds)} · frame {size.seq} · {area_text(size.area, size.unit)}"
    return told + (f" · {volume}" if volume != "–" else "") + (" · doubtful" if size.flags else "")
