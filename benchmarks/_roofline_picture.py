"""The roofline as a picture: what the machine can do, and where each kernel is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roofline import Point, Roofs

_INK, _PAPER, _FAINT, _GRID = (30, 32, 38), (255, 255, 255), (110, 115, 125), (232, 234, 238)
_ROOF = {"core's cache": (70, 130, 220), "shared cache": (90, 180, 160), "memory": (226, 120, 60)}
_SINGLE, _DOUBLE = (30, 32, 38), (170, 120, 200)
_X, _Y = (0.1, 1000.0), (0.3, 200.0)
"""Operations to a byte, and GFLOP/s, from and to."""
_LEFT, _TOP, _WIDE, _HIGH = 70, 54, 720, 470
_LIST = 430


def draw(roofs: Roofs, points: Sequence[Point], path: Path) -> None:
    """Both axes logarithmic. A kernel is a number in a circle; a line leads up to its own roof."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_LEFT + _WIDE + _LIST, _TOP + _HIGH + 64), _PAPER)
    pen = ImageDraw.Draw(image)
    font, small = (ImageFont.load_default(size) for size in (15, 12))
    pen.text((_LEFT, 16), "What a kernel reaches on one thread, and what it could", _INK, font)
    for exponent in range(-1, 4):
        x = _at(10.0**exponent, 1.0)[0]
        pen.line((x, _TOP, x, _TOP + _HIGH), _GRID)
        pen.text((x, _TOP + _HIGH + 8), f"{10.0**exponent:g}", _FAINT, small, "mt")
    for value in (1, 10, 100):
        y = _at(1.0, value)[1]
        pen.line((_LEFT, y, _LEFT + _WIDE, y), _GRID)
        pen.text((_LEFT - 8, y), f"{value}", _FAINT, small, "rm")
    middle = _LEFT + _WIDE / 2
    pen.text((middle, _TOP + _HIGH + 28), "operations to a byte", _FAINT, small, "mt")
    pen.text((8, _TOP - 8), "GFLOP/s", _FAINT, small, "lb")
    for name, bandwidth in roofs.bandwidth.items():
        knee = roofs.single / bandwidth
        first = max(_X[0], 1e9 * _Y[0] / bandwidth)
        ends = [_at(first, first * bandwidth / 1e9), _at(knee, roofs.single / 1e9)]
        pen.line(ends, _ROOF[name], 3)
    for peak, colour in ((roofs.single, _SINGLE), (roofs.double, _DOUBLE)):
        knee = peak / max(roofs.bandwidth.values())
        pen.line([_at(knee, peak / 1e9), _at(_X[1], peak / 1e9)], colour, 3)
    for number, point in enumerate(points, 1):
        x, y = _at(point.kernel.intensity, point.kernel.flops / point.seconds / 1e9)
        least, _ = roofs.floor(point.kernel)
        pen.line([(x, y), _at(point.kernel.intensity, point.kernel.flops / least / 1e9)], _FAINT)
        colour = _DOUBLE if point.kernel.wide else _SINGLE
        pen.ellipse((x - 10, y - 10, x + 10, y + 10), colour)
        pen.text((x, y), f"{number}", _PAPER, small, "mm")
    _legend(pen, roofs, points, small)
    image.save(path, quality=85, method=6)


def _legend(pen: object, roofs: Roofs, points: Sequence[Point], font: object) -> None:
    x, y = _LEFT + _WIDE + 24, _TOP
    draw = pen.line, pen.text  # type: ignore[attr-defined]
    lines = [
        (_SINGLE, f"float32 products: {roofs.single / 1e9:.0f} GFLOP/s"),
        (_DOUBLE, f"float64 products: {roofs.double / 1e9:.0f} GFLOP/s"),
        *((_ROOF[name], f"{name}: {b / 1e9:.0f} GB/s") for name, b in roofs.bandwidth.items()),
    ]
    for colour, text in lines:
        draw[0]((x, y + 8, x + 22, y + 8), colour, 3)
        draw[1]((x + 30, y), text, _INK, font)
        y += 20
    y += 12
    for number, point in enumerate(points, 1):
        share = roofs.floor(point.kernel)[0] / point.seconds
        draw[1]((x, y), f"{number}", _FAINT, font)
        draw[1]((x + 30, y), point.kernel.name, _INK, font)
        draw[1]((x + _LIST - 40, y), f"{100 * share:.0f} %", _INK, font, "ra")
        y += 20
    draw[1]((x + 30, y + 8), "%: of its own roof", _FAINT, font)


def _at(intensity: float, rate: float) -> tuple[float, float]:
    across = math.log(intensity / _X[0]) / math.log(_X[1] / _X[0])
    up = math.log(rate / _Y[0]) / math.log(_Y[1] / _Y[0])
    return _LEFT + _WIDE * across, _TOP + _HIGH * (1 - up)
