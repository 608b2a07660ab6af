"""The picture of docs/bytes.md: quality over bytes held, a panel for each memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _subjects import Outcome, Subject
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 420, 300, 62, 24, 62, 44
COLUMNS = 3
INK, PALE, FAINT, LINE = "#222222", "#c9ced6", "#6b7280", "#2266aa"


def draw(curves: Sequence[tuple[Subject, list[list[Outcome]]]], path: Path) -> None:
    """Points are means over streams; pale lines are the streams."""
    lines = math.ceil(len(curves) / COLUMNS)
    image = Image.new("RGB", (WIDTH * min(COLUMNS, len(curves)), HEIGHT * lines), "white")
    pen = ImageDraw.Draw(image)
    for number, (subject, curve) in enumerate(curves):
        row, column = divmod(number, COLUMNS)
        _panel(pen, WIDTH * column, HEIGHT * row, subject, curve)
    image.save(path, quality=85, method=6)


def _panel(
    pen: ImageDraw.ImageDraw, x0: int, y0: int, subject: Subject, curve: list[list[Outcome]]
) -> None:
    font, small = ImageFont.load_default(15), ImageFont.load_default(12)
    held = np.array([np.mean([one.nbytes for one in point]) for point in curve])
    every = [[one.quality for one in point] for point in curve]
    low, high = min(map(min, every)), max(map(max, every))
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    ends = held.min() / 1.4, held.max() * 1.4

    def x(nbytes: float) -> float:
        share = math.log(nbytes / ends[0]) / math.log(ends[1] / ends[0])
        return x0 + LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(quality: float) -> float:
        return y0 + HEIGHT - FOOT - (quality - low) / (high - low) * (HEIGHT - TOP - FOOT)

    pen.text((x0 + LEFT, y0 + 12), subject.name, INK, font)
    pen.text((x0 + LEFT, y0 + 34), subject.unit, FAINT, small)
    for value in np.linspace(low + room, high - room, 3):
        pen.line((x0 + LEFT - 4, y(value), x0 + LEFT, y(value)), INK)
        pen.text((x0 + LEFT - 8, y(value)), f"{value:.3g}", FAINT, small, "rm")
    corner = x0 + LEFT, y0 + HEIGHT - FOOT
    pen.line((x0 + LEFT, y0 + TOP, *corner), INK)
    pen.line((*corner, x0 + WIDTH - RIGHT, y0 + HEIGHT - FOOT), INK)
    for nbytes in _ticks(*ends):
        pen.line((x(nbytes), y0 + HEIGHT - FOOT, x(nbytes), y0 + HEIGHT - FOOT + 5), INK)
        pen.text((x(nbytes), y0 + HEIGHT - FOOT + 14), _size(nbytes), FAINT, small, "mm")
    points = [(x(b), y(float(np.mean(q)))) for b, q in zip(held, every, strict=True)]
    across = [px for px, _ in points]
    for one in zip(*every, strict=True):
        pen.line([(px, y(quality)) for px, quality in zip(across, one, strict=True)], PALE, 2)
    pen.line(points, LINE, 2)
    if len(points) == 1:
        for quality in every[0]:
            pen.line((across[0] - 12, y(quality), across[0] + 12, y(quality)), PALE, 2)
    for px, py in points:
        pen.ellipse((px - 4, py - 4, px + 4, py + 4), LINE)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2, 3, 5 and 7 times powers of ten; fewer where there are many."""
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**k for k in tens for m in (1, 2, 3, 5, 7)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside[:: 1 + len(inside) // 7]


def _size(nbytes: float) -> str:
    return f"{nbytes / 1e6:g} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:g} kB"
