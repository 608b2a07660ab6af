"""Curves of `retain eval onlinex`: quality and pose error against the number of the frame."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retain.apps.plots import nice_step

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from retain.models.onlinex.evaluate import Result

WIDTH, HEIGHT = 1200, 470
_LEFT, _TOP, _BOTTOM, _GAP = 62, 46, 44, 80
_SCALE = 2
"""Drawn so much larger, then made smaller: smooth lines."""
_COLOURS = (
    (31, 95, 168), (200, 62, 50), (72, 145, 72), (148, 88, 172), (210, 140, 30), (80, 160, 170),
    (120, 120, 120), (30, 30, 30),
)  # fmt: skip
_BANDS = 2
"""Rows whose uncertainty is drawn too, or all would be grey."""
Curve = tuple[NDArray[np.int_], NDArray[np.float64]]
"""Numbers of frames [T] and values [rooms, T]."""


def plot(found: Mapping[str, Result], path: Path, trained: int) -> None:
    """Views and poses, a panel each: means over rooms, and two standard errors around the first
    two rows. A line marks ``trained``, the longest sequences of training."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (_SCALE * WIDTH, _SCALE * HEIGHT), "white")
    draw = ImageDraw.Draw(picture, "RGBA")
    wide = (WIDTH - 2 * _LEFT - _GAP) / 2
    colours = dict(zip(found, cycle(_COLOURS)))
    for left, name, title, factor in (
        (_LEFT, "psnr", "PSNR of views from between the frames, dB", 1.0),
        (_LEFT + wide + _GAP, "translation", "distance from the true place, cm", 100.0),
    ):
        panel = _Panel(draw, left, wide, curves(found, name, factor), colours)
        panel.axes(title, trained)
        panel.lines()
    panel.names()
    picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(path, quality=90)


def curves(found: Mapping[str, Result], name: str, factor: float) -> dict[str, Curve]:
    """Of one measure, by row."""
    from retain.models.onlinex.evaluate import AT
    from retain.models.onlinex.study import LEVELS

    out = {}
    for row, result in found.items():
        if name == "translation" and row == LEVELS[1]:
            continue  # nothing but zeros
        values = factor * np.asarray(getattr(result, name))
        out[row] = np.asarray(AT if name == "psnr" else range(values.shape[1])), values
    return out


class _Panel:
    """Axes and what is drawn in them."""

    def __init__(
        self,
        draw: ImageDraw,
        left: float,
        wide: float,
        curves: Mapping[str, Curve],
        colours: Mapping[str, tuple[int, int, int]],
    ) -> None:
        self._draw, self._left, self._wide = draw, left, wide
        self._curves, self._colours = curves, colours
        means = np.concatenate([values.mean(0) for _, values in curves.values()])
        self._step = nice_step(float(np.ptp(means)) or 1.0, 5)
        self._low = self._step * float(np.floor(means.min() / self._step))
        self._high = self._step * float(np.ceil(means.max() / self._step))
        self._last = max(int(frames[-1]) for frames, _ in curves.values())

    def axes(self, title: str, trained: int) -> None:
        s, small = _SCALE, _font(13)
        for value in np.arange(self._low, self._high + self._step / 2, self._step).tolist():
            start, end = self._at(0, value), self._at(self._last, value)
            self._draw.line([start, end], fill=(228, 228, 228), width=s)
            self._draw.text((start[0] - 8 * s, start[1]), f"{value:.6g}", "black", small, "rm")
        for frame in range(0, self._last + 1, 8):
            x, y = self._at(frame, self._low)
            self._draw.text((x, y + 14 * s), str(frame), "black", small, "mm")
        x, y = self._at(self._last, self._low)
        self._draw.text((x, y + 32 * s), "frame", "black", small, "rm")
        line = [self._at(trained, self._low), self._at(trained, self._high)]
        self._draw.line(line, fill=(170, 170, 170), width=s)
        self._draw.text((line[1][0] + 5 * s, line[1][1]), "training ends", (110, 110, 110), small)
        self._draw.text((s * self._left, 10 * s), title, "black", _font(15))

    def lines(self) -> None:
        for i, (row, (frames, values)) in enumerate(self._curves.items()):
            colour = self._colours[row]
            mean = values.mean(0)
            if i < _BANDS:
                error = 2 * values.std(0, ddof=1) / np.sqrt(len(values))
                over = [self._at(*pair) for pair in zip(frames, mean + error, strict=True)]
                under = [self._at(*pair) for pair in zip(frames, mean - error, strict=True)]
                self._draw.polygon([*over, *under[::-1]], fill=(*colour, 38))
            points = [self._at(*pair) for pair in zip(frames, mean, strict=True)]
            self._draw.line(points, fill=colour, width=2 * _SCALE, joint="curve")

    def names(self) -> None:
        """Of the rows, in the corner where curves of errors are not."""
        for i, (row, colour) in enumerate(self._colours.items()):
            x, y = _SCALE * (self._left + 14), _SCALE * (_TOP + 24 + 19 * i)
            line = [(x, y), (x + 24 * _SCALE, y)]
            self._draw.line(line, fill=colour, width=3 * _SCALE)
            self._draw.text((x + 32 * _SCALE, y), row, "black", _font(13), "lm")

    def _at(self, frame: float, value: float) -> tuple[float, float]:
        part = min(max((value - self._low) / (self._high - self._low), 0.0), 1.0)
        x = self._left + self._wide * frame / self._last
        y = HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * part
        return _SCALE * x, _SCALE * y


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(_SCALE * size)
