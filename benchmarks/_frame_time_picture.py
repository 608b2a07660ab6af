"""A frame's milliseconds as bars, one for each app, by part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_INK, _PAPER, _FAINT = (30, 32, 38), (255, 255, 255), (110, 115, 125)
_TONES = (
    (150, 150, 150), (70, 130, 220), (226, 120, 60), (90, 180, 160), (170, 120, 200),
    (200, 70, 100), (130, 170, 90), (230, 190, 60), (90, 100, 160), (190, 150, 120),
)  # fmt: skip
_LEFT, _WIDE, _ROW, _BAR = 120, 900, 86, 30


def draw(apps: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Every bar is as long: shares of its own whole, which stands at its end."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_LEFT + _WIDE + 120, 50 + _ROW * len(apps)), _PAPER)
    pen = ImageDraw.Draw(image)
    font, small = (ImageFont.load_default(size) for size in (15, 12))
    pen.text((_LEFT, 14), "Where a frame's CPU time goes, one thread", _INK, font)
    for line, (app, parts) in enumerate(apps.items()):
        whole, y, x = sum(parts.values()), 50 + _ROW * line, float(_LEFT)
        pen.text((_LEFT - 12, y + _BAR / 2), app, _INK, font, "rm")
        pen.text((_LEFT + _WIDE + 10, y + _BAR / 2), f"{whole:.1f} ms", _INK, font, "lm")
        place = float(_LEFT)
        for (part, ms), colour in zip(parts.items(), _TONES, strict=False):
            wide = _WIDE * max(ms, 0) / whole
            pen.rectangle((x, y, x + wide, y + _BAR), colour)
            x += wide
            text = f"{part} {ms:.1f}"
            pen.rectangle((place, y + _BAR + 10, place + 10, y + _BAR + 20), colour)
            pen.text((place + 15, y + _BAR + 15), text, _FAINT, small, "lm")
            place += pen.textlength(text, small) + 32
    image.save(path, quality=85, method=6)
