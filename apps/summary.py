"""The kept moments as a short video that any browser plays: H.264, yuv420p, index first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retain.apps.drawing import REASONS, clock, score
from retain.apps.video import video
from retain.memory.curvestream import Entry

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw

SECONDS_EACH = 1.2
FPS = 5
MIN_HEIGHT, MAX_HEIGHT, MAX_WIDTH = 480, 720, 1280
BAR = 64
"""Pixels under the picture, for the caption and the time line."""

BACKGROUND, TEXT, FAINT = (17, 19, 24), (232, 234, 240), (140, 146, 160)
COLOURS = {"clear": (78, 201, 140), "blurred": (240, 178, 72)}
RAIL = (52, 57, 68)


def write_summary(path: str | Path, entries: Sequence[Entry]) -> int:
    """Show each entry for 1.2 s, oldest first, in the file ``path`` (mp4). Returns the number of
    pictures; with none, no file is written.

    All are fitted into the shape of the largest one, 480 to 720 pixels high.
    """
    entries = [entry for entry in entries if entry.jpeg]
    if not entries:
        return 0
    width, height = _canvas(entries)
    span = entries[0].seconds, max(entry.seconds for entry in entries)
    with video(path, FPS) as written:
        for number, entry in enumerate(entries):
            still = np.asarray(_card(entry, (width, height), number, entries, span))
            written.add(still, round(SECONDS_EACH * FPS))
    return len(entries)


def _canvas(entries: Sequence[Entry]) -> tuple[int, int]:
    """Width and height for the picture, both even."""
    largest = max(entries, key=lambda entry: entry.width * entry.height)
    height = min(max(largest.height, MIN_HEIGHT), MAX_HEIGHT)
    width = largest.width * height / largest.height
    if width > MAX_WIDTH:
        width, height = MAX_WIDTH, max(2, round(height * MAX_WIDTH / width))
    return max(MIN_HEIGHT, 2 * round(width / 2)), 2 * round(height / 2)


def _card(
    entry: Entry,
    size: tuple[int, int],
    number: int,
    entries: Sequence[Entry],
    span: tuple[float, float],
) -> Picture:
    """One picture with what is to be said about it."""
    from PIL import Image, ImageDraw

    width, height = size
    card = Image.new("RGB", (width, height + BAR), BACKGROUND)
    picture = Image.fromarray(entry.image())
    scale = min(width / picture.width, height / picture.height)
    fitted = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    picture = picture.resize(fitted, Image.Resampling.BICUBIC)
    card.paste(picture, ((width - fitted[0]) // 2, (height - fitted[1]) // 2))
    pen = ImageDraw.Draw(card)
    _caption(pen, entry, f"{number + 1} of {len(entries)}", width, height)
    _rail(pen, entry, entries, span, width, height + BAR - 14)
    return card


def _caption(pen: ImageDraw, entry: Entry, count: str, width: int, top: int) -> None:
    from PIL import ImageFont

    large, small = ImageFont.load_default(22), ImageFont.load_default(15)
    middle, x = top + 24, 16.0
    pen.text((x, middle), clock(entry.seconds), TEXT, large, anchor="lm")
    x += pen.textlength(clock(entry.seconds), large) + 14
    word, colour = entry.tier.capitalize(), COLOURS[entry.tier]
    box = (x, middle - 12, x + pen.textlength(word, small) + 20, middle + 12)
    if entry.tier == "clear":
        pen.rounded_rectangle(box, 12, fill=colour)
        pen.text((x + 10, middle), word, BACKGROUND, small, anchor="lm")
    else:
        pen.rounded_rectangle(box, 12, outline=colour, width=2)
        pen.text((x + 10, middle), word, colour, small, anchor="lm")
    x = box[2] + 14
    why = f"{REASONS[entry.reason]}   ·   score {score(entry.score)}"
    pen.text((x, middle), why, FAINT, small, anchor="lm")
    pen.text((width - 16, middle), count, FAINT, small, anchor="rm")


def _rail(
    pen: ImageDraw,
    entry: Entry,
    entries: Sequence[Entry],
    span: tuple[float, float],
    width: int,
    y: int,
) -> None:
    """Where all kept moments lie in the stream, and where this one does."""
    start, end = span
    scale = (width - 32) / max(end - start, 1e-9)
    pen.rounded_rectangle((16, y - 1, width - 16, y + 1), 1, fill=RAIL)
    for other in entries:
        x = 16 + (other.seconds - start) * scale
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=COLOURS[other.tier])
    x = 16 + (entry.seconds - start) * scale
    pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=TEXT)
