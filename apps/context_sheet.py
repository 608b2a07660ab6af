"""All that a model is handed on one picture, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retain.apps.drawing import clock
from retain.apps.summary import BACKGROUND, COLOURS, FAINT, TEXT

if TYPE_CHECKING:
    from PIL.Image import Image as Drawn

    from retain.memory.context import Context, Picture

CELL, GAP, CAPTION, FOOT = 208, 10, 26, 40
STEP = CAPTION + GAP
ACROSS = 6


def sheet(chosen: Context) -> Drawn:
    """RGB. Pictures in order of time, the larger ones larger, each over its time and tokens."""
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(14), ImageFont.load_default(13)
    shown, sizes = chosen.pictures, _sizes(chosen.pictures)
    starts = range(0, len(shown), ACROSS)
    heights = [max(size[1] for size in sizes[start : start + ACROSS]) for start in starts]
    width = max(min(ACROSS, len(shown)), 3) * (CELL + GAP) + GAP
    drawn = Image.new("RGB", (width, sum(heights) + len(heights) * STEP + FOOT), BACKGROUND)
    pen = ImageDraw.Draw(drawn)
    y = GAP
    for start, high in zip(starts, heights, strict=True):
        for column, (picture, size) in enumerate(
            zip(shown[start : start + ACROSS], sizes[start : start + ACROSS], strict=True)
        ):
            x, middle = GAP + column * (CELL + GAP), y + high + CAPTION // 2
            fitted = Image.fromarray(picture.image()).resize(size, Image.Resampling.LANCZOS)
            drawn.paste(fitted, (x + (CELL - size[0]) // 2, y + high - size[1]))
            pen.text((x + 2, middle), clock(picture.seconds), TEXT, font, anchor="lm")
            said = f"{picture.tier}, {picture.tokens} tokens"
            pen.text((x + CELL - 2, middle), said, COLOURS[picture.tier], small, anchor="rm")
        y += high + STEP
    foot = (
        f"{len(shown)} of {chosen.held} frames held, {chosen.demoted} made smaller; "
        f"{chosen.tokens:,} of {chosen.budget:,} tokens of {chosen.family}"
    )
    pen.text((GAP + 2, y + FOOT // 2 - GAP), foot, FAINT, font, anchor="lm")
    return drawn


def _sizes(shown: Sequence[Picture]) -> list[tuple[int, int]]:
    """Width and height of each on the sheet; a quarter of the pixels is half as many here."""
    longest = max(max(p.width, p.height) for p in shown)
    scales = [CELL / (longest * max(p.width, p.height)) ** 0.5 for p in shown]
    return [
        (max(1, round(p.width * scale)), max(1, round(p.height * scale)))
        for p, scale in zip(shown, scales, strict=True)
    ]
