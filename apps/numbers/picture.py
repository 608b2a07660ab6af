"""The picture of docs/numbers.md: ratios to peers over time; machines change times more."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from retain.apps.numbers.page import full_names
from retain.apps.numbers.records import Record

FILE = "docs/pictures/numbers.webp"
LEGEND = (
    "a line: a row; numbers: of the newest record; black line: as good as the peer; red: a bar was "
    "missed; ring: from an old page"
)
COLUMNS = 5
_CELL_W, _CELL_H, _TOP = 250, 150, 54
_INK, _PAPER, _FAINT, _GRID = (30, 32, 38), (255, 255, 255), (110, 115, 125), (222, 224, 230)
_GOOD, _MISSED = (70, 130, 220), (210, 60, 50)


class Point(NamedTuple):
    at: float
    ratio: float
    missed: bool
    measured: bool
    """False: written down from an old page."""


Lines = dict[str, list[Point]]


def lines(every: Sequence[Record]) -> dict[str, Lines]:
    """By command, by row: its ratios over time. Quick looks do not count."""
    found: dict[str, Lines] = defaultdict(lambda: defaultdict(list))
    for record in every:
        for command, one in record.measured.items():
            if one.quick:
                continue
            at = datetime.fromisoformat(one.at).timestamp()
            for name, row in full_names(one.rows):
                if row.ratio is not None and 0 < row.ratio < math.inf:
                    name += f", {row.peer}"
                    point = Point(at, row.ratio, row.met is False, not one.source)
                    found[command][name].append(point)
    return {command: dict(found[command]) for command in sorted(found)}


def draw(every: Sequence[Record], path: Path) -> None:
    """A panel for each command that has peers, a line for each of its rows, times to the right."""
    from PIL import Image, ImageDraw, ImageFont

    panels = lines(every)
    rows = max(1, math.ceil(len(panels) / COLUMNS))
    image = Image.new("RGB", (COLUMNS * _CELL_W, _TOP + rows * _CELL_H), _PAPER)
    pen = ImageDraw.Draw(image)
    font, small = (ImageFont.load_default(size) for size in (14, 11))
    times = [p.at for panel in panels.values() for line in panel.values() for p in line]
    first, last = min(times, default=0.0), max(times, default=1.0)
    days = (f"{datetime.fromtimestamp(at, UTC):%d %b %Y}" for at in (first, last))
    span = " to ".join(days)
    pen.text((12, 8), f"times better than the peer of the same run, {span}", _INK, font)
    pen.text((12, 30), LEGEND, _FAINT, small)
    for k, (command, panel) in enumerate(panels.items()):
        x0, y0 = k % COLUMNS * _CELL_W + 12, _TOP + k // COLUMNS * _CELL_H
        title = command.removeprefix("retain ").removeprefix("bench ")
        while pen.textlength(title, font) > _CELL_W - 110:
            title = title[:-2] + "…"
        pen.text((x0, y0), title, _INK, font)
        pen.text((x0 + _CELL_W - 42, y0 + 3), _newest(panel), _FAINT, small, "ra")
        _panel(pen, small, (x0 + 38, y0 + 24, x0 + _CELL_W - 30, y0 + _CELL_H - 18), panel,
               (first, max(last, first + 1)))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=85, method=6)


def _newest(panel: Lines) -> str:
    last = max(p.at for line in panel.values() for p in line)
    ratios = [p.ratio for line in panel.values() for p in line if p.at == last]
    low, high = (f"{r:.0f}" if r >= 10 else f"{r:.2g}" for r in (min(ratios), max(ratios)))
    return low if low == high else f"{low} to {high}"


def _panel(
    pen: Any, small: Any, box: tuple[int, int, int, int], panel: Lines, span: tuple[float, float]
) -> None:
    left, top, right, bottom = box
    ratios = [p.ratio for line in panel.values() for p in line]
    low = math.floor(math.log10(min(*ratios, 0.999)) * 2 + 1e-9) / 2
    high = math.ceil(math.log10(max(*ratios, 1.001)) * 2 - 1e-9) / 2

    def place(at: float, ratio: float) -> tuple[float, float]:
        x = left + (at - span[0]) / (span[1] - span[0]) * (right - left)
        return x, bottom - (math.log10(ratio) - low) / (high - low) * (bottom - top)

    steps = (1, 3) if high - low < 2 else (1,)
    ticks = [
        step * 10.0**power for power in range(math.floor(low), math.ceil(high)) for step in steps
    ]
    for ratio in (*ticks, 10.0 ** math.floor(high)):
        if low - 0.03 <= math.log10(ratio) <= high + 1e-9:
            y = place(span[0], ratio)[1]
            pen.line((left, y, right, y), _INK if ratio == 1 else _GRID)
            pen.text((left - 5, y), f"{ratio:g}", _FAINT, small, "rm")
    for line in panel.values():
        line = sorted(line)
        spots = [place(p.at, p.ratio) for p in line]
        pen.line(spots, _GOOD, 1)
        for (x, y), p in zip(spots, line, strict=True):
            colour = _MISSED if p.missed else _GOOD
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), colour if p.measured else _PAPER, colour, 2)
