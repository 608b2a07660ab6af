"""All that a model is handed on one picture, to look at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from retain.apps.drawing import clock
from retain.apps.summary import BACKGROUND, COLOURS, FAINT, TEXT

if TYPE_CHECKING:
    from PIL.Image import Image as Drawn

    from retain.memory.context import Context

CELL, GAP, CAPTION, FOOT = 208, 10, 26, 40
ACROSS = 6


def sheet(chosen: Context) -> Drawn:
    """RGB. Pictures in order of time, at sizes in proportion, each over its time and tokens."""
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(14), ImageFont.load_default(13)
    shown = chosen.pictures
    scale = min(CELL / max(p.width for p in shown), CELL / max(p.height for p in shown))
    high = math.ceil(max(p.height for p in shown) * scale)
    columns = min(ACROSS, len(shown))
    rows = math.ceil(len(shown) / columns)
    width = max(columns, 4) * (CELL + GAP) + GAP
    step = high + CAPTION + GAP
    drawn = Image.new("RGB", (width, rows * step + GAP + FOOT), BACKGROUND)
    pen = ImageDraw.Draw(drawn)
    for number, picture in enumerate(shown):
        x = GAP + number % columns * (CELL + GAP)
        y = GAP + number // columns * step
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        small_one = Image.fromarray(picture.image()).resize(size, Image.Resampling.LANCZOS)
        drawn.paste(small_one, (x + (CELL - size[0]) // 2, y + high - size[1]))
        middle = y + high + CAPTION // 2
        pen.text((x + 2, middle), clock(picture.seconds), TEXT, font, anchor="lm")
        said = f"{picture.tier}, {picture.tokens} tokens"
        pen.text((x + CELL - 2, middle), said, COLOURS[picture.tier], small, anchor="rm")
    foot = (
        f"{len(shown)} of {chosen.held} frames held, {chosen.demoted} made smaller; "
        f"{chosen.tokens:,} of {chosen.budget:,} tokens of {chosen.family}"
    )
    pen.text((GAP + 2, rows * step + GAP + FOOT // 2 - 4), foot, FAINT, font, anchor="lm")
    return drawn
