"""Where the time of a core goes, by resolution, frames sampled and model, as a picture."""

from __future__ import annotations

from pathlib import Path

import msgspec
from _scale_measure import ENCODERS, SIZES, Costs
from _scale_model import Plan, predict

RATES = (0.2, 0.5, 1.0, 2.0, 5.0, 25.0)
COLOURS = {
    "decode": (70, 130, 220),
    "encode": (226, 120, 60),
    "convert": (130, 170, 90),
    "remember": (90, 180, 160),
    "report": (170, 120, 200),
    "parent": (150, 150, 150),
    "network": (200, 70, 100),
    "GPU": (230, 190, 60),
}
_INK, _PAPER, _FAINT = (30, 32, 38), (255, 255, 255), (110, 115, 125)
_CELL, _ROW, _LEFT, _TOP = 86, 46, 70, 92


def draw(costs: Costs, plan: Plan, path: Path) -> None:
    """A panel for each encoder: a cell's colour is its bottleneck, as strong as its share; the
    number is CPU seconds for an hour of video."""
    from PIL import Image, ImageDraw, ImageFont

    panel = _LEFT + _CELL * len(RATES) + 24
    height = _TOP + _ROW * len(SIZES) + 62
    image = Image.new("RGB", (panel * len(ENCODERS), height), _PAPER)
    pen = ImageDraw.Draw(image)
    font, small = (ImageFont.load_default(size) for size in (15, 12))
    seen: dict[str, None] = {}
    for column, model in enumerate(ENCODERS):
        x0 = column * panel
        pen.text((x0 + _LEFT, 14), model, _INK, font)
        pen.text((x0 + _LEFT, 40), "frames sampled a second", _FAINT, small)
        for place, fps in enumerate(RATES):
            pen.text((x0 + _LEFT + _CELL * (place + 0.5), _TOP - 14), f"{fps:g}", _INK, small, "mm")
        pen.text((x0 + _LEFT - 10, _TOP - 14), "lines", _FAINT, small, "rm")
        for line, lines in enumerate(SIZES):
            y = _TOP + _ROW * line
            pen.text((x0 + _LEFT - 10, y + _ROW / 2), f"{lines}", _INK, small, "rm")
            for place, fps in enumerate(RATES):
                one = msgspec.structs.replace(plan, height=lines, fps=fps, model=model)
                found = predict(costs, one)
                seen[found.bottleneck] = None
                share = found.parts.get(found.bottleneck, found.cpu_s) / found.cpu_s
                colour = COLOURS[found.bottleneck]
                tone = tuple(round(255 - (255 - c) * (0.25 + 0.75 * share)) for c in colour)
                x = x0 + _LEFT + _CELL * place
                pen.rectangle((x + 1, y + 1, x + _CELL - 2, y + _ROW - 2), tone)
                text = f"{found.cpu_s:,.0f} s"
                pen.text((x + _CELL / 2, y + _ROW / 2), text, _INK, font, "mm")
    x = _LEFT
    for name in [name for name in COLOURS if name in seen]:
        pen.rectangle((x, height - 40, x + 18, height - 24), COLOURS[name])
        pen.text((x + 26, height - 32), name, _INK, small, "lm")
        x += 110
    said = f"CPU seconds for an hour of video in clips of {60 * plan.item_h:g} min"
    pen.text((x + 10, height - 32), said + "; the colour is the bottleneck", _FAINT, small, "lm")
    image.save(path, quality=80, method=6)
