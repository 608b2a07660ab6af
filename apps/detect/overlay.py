"""``overlay.mp4``: the frames with their boxes and ids; in a comparison, the detector alone beside
the detector with its memory. H.264."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from retain.apps.detect.arms import Rows
from retain.apps.drawing import clock
from retain.apps.video import TimedVideo
from retain.pipeline.frame import Frame, Image
from retain.pipeline.results import Boxes

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

MIN_HEIGHT, MAX_HEIGHT, MAX_WIDTH = 360, 1080, 960
"""Of one picture: smaller ones are enlarged, larger ones shrunk."""
STRIP = 34
"""Pixels under the pictures, for the time and the counts."""
GAP = 4

PALETTE = (
    (98, 171, 255), (255, 196, 84), (126, 217, 126), (255, 133, 122), (199, 155, 255),
    (92, 219, 213), (255, 158, 205), (214, 214, 120), (160, 190, 220), (240, 160, 90),
)  # fmt: skip
"""RGB, by track; by class where there is none."""
MARK = (255, 61, 200)
"""Of what memory gave: the dashes, and the corner."""
BACKGROUND, TEXT, FAINT = (17, 19, 24), (232, 234, 240), (140, 146, 160)
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d",
     "Đ": "D", "ł": "l", "Ł": "L", "ı": "i", "þ": "th", "Þ": "Th", "ð": "d", "Ð": "D"}
)  # fmt: skip
"""Latin letters that are no other letter with a mark."""
RECALLED = 0.5
"""Share from memory from which a box is marked."""


class Overlay:
    """Writes the video frame by frame; its size is set by the first."""

    def __init__(self, path: Path) -> None:
        self._video = TimedVideo(path)
        self._size = (0, 0)
        """Of one picture, (height, width)."""

    def add(self, frame: Frame, panels: list[tuple[str, Boxes, Rows]]) -> None:
        """Append a frame. ``panels``: a title, boxes and those to draw, for each picture."""
        if not self._size[0]:
            self._size = fitting(frame.height, frame.width)
        pictures = [self._panel(frame, found, rows) for _, found, rows in panels]
        strips = [self._strip(frame, *panel) for panel in panels]
        columns = [np.concatenate(pair) for pair in zip(pictures, strips, strict=True)]
        ground = np.full((columns[0].shape[0], GAP, 3), BACKGROUND, np.uint8)
        parts = [columns[0]]
        for column in columns[1:]:
            parts += [ground, column]
        self._video.add(np.concatenate(parts, axis=1), frame.seconds)

    def close(self) -> None:
        """Finish the file. Safe to call twice."""
        self._video.close()

    def _panel(self, frame: Frame, found: Boxes, rows: Rows) -> Image:
        """The picture in the middle of a ground of the first one's size."""
        height, width = self._size
        scale = min(height / frame.height, width / frame.width)
        picture = draw(frame.image, found, rows, scale)[:height, :width]
        if picture.shape[:2] == (height, width):
            return picture
        ground = np.zeros((height, width, 3), np.uint8)
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        ground[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return ground

    def _strip(self, frame: Frame, title: str, found: Boxes, rows: Rows) -> Image:
        from PIL import Image, ImageDraw, ImageFont

        width = self._size[1]
        strip = Image.new("RGB", (width, STRIP), BACKGROUND)
        pen, font = ImageDraw.Draw(strip), ImageFont.load_default(14)
        pen.text((10, STRIP / 2), title, TEXT, font, anchor="lm")
        recalled = int((found.memory[rows] > RECALLED).sum())
        told = f"{len(rows)} box{'' if len(rows) == 1 else 'es'}"
        _right(pen, width, f"{told}  ·  {clock(frame.seconds)}", f"{recalled} from memory  ·  "
               if recalled else "")  # fmt: skip
        return np.asarray(strip)


def _right(pen: ImageDraw, width: int, text: str, marked: str) -> None:
    """Text flush right, what is ``marked`` before it."""
    from PIL import ImageFont

    font = ImageFont.load_default(14)
    pen.text((width - 10, STRIP / 2), text, FAINT, font, anchor="rm")
    left = width - 10 - pen.textlength(text, font)
    pen.text((left, STRIP / 2), marked, MARK, font, anchor="rm")


def fitting(height: int, width: int) -> tuple[int, int]:
    """The even height and width that a picture is drawn at."""
    scale = min(max(1.0, MIN_HEIGHT / height), MAX_HEIGHT / height, MAX_WIDTH / width)
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def draw(
    image: Image, found: Boxes, rows: Rows, scale: float = 1.0, named: Rows | None = None
) -> Image:
    """``image`` (uint8 [H, W, 3]) times ``scale`` with the ``rows`` of ``found`` on it. Boxes that
    come from memory by more than ``RECALLED`` are dashed, and say by how much. ``named``: those
    that say what they are; None: all."""
    height, width = image.shape[:2]
    size = max(2, round(width * scale)), max(2, round(height * scale))
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    same = size == (width, height)
    picture = np.array(image if same else cv2.resize(image, size, interpolation=way), np.uint8)
    thick = max(1, round(size[1] / 320))
    for row in rows[::-1]:  # the surest lies on top
        box = np.rint(found.boxes[row] * scale).astype(int)
        track, share = int(found.tracks[row]), float(found.memory[row])
        colour = PALETTE[(track if track >= 0 else int(found.labels[row])) % len(PALETTE)]
        recalled = share > RECALLED
        _outline(picture, box, colour, thick, dashed=recalled)
        if named is None or row in named:
            text = caption(found, int(row), drawn=True)
            _label(picture, box, text, MARK if recalled else colour)
    return picture


def caption(found: Boxes, row: int, drawn: bool = False) -> str:
    """What stands at a box; ``drawn``: in letters that OpenCV has.

    ``7 car 0.83``, with ``m 64 %`` behind it where memory has a part in it.
    """
    track, share = int(found.tracks[row]), float(found.memory[row])
    label = int(found.labels[row])
    name = found.names[label]
    if drawn:
        name = written(name) or f"class {label}"
    words = [str(track)] if track >= 0 else []
    words += [name, f"{found.scores[row]:.2f}"]
    return " ".join(words + ([f"m {100 * share:.0f} %"] if share > RECALLED else []))


def written(name: str) -> str:
    """``name`` in the letters that OpenCV can draw; empty where it has none. Marks are left out;
    page, report and files have the name itself.

    >>> written("Fußgänger"), written("łódź"), written("车")
    ('Fussganger', 'lodz', '')
    """
    apart = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    plain = "".join(letter for letter in apart if not unicodedata.combining(letter))
    return plain if plain.isascii() else ""


def _outline(
    picture: Image, box: np.ndarray, colour: tuple[int, int, int], thick: int, *, dashed: bool
) -> None:
    x0, y0, x1, y1 = (int(value) for value in box)
    if not dashed:
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, thick, cv2.LINE_AA)
        return
    for start, end in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)),
                       ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))):  # fmt: skip
        length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
        steps = max(1, min(200, round(length / (5 * thick))))
        points = np.linspace(start, end, steps + 1).round().astype(int)
        for k in range(0, steps, 2):
            first, last = (tuple(map(int, points[at])) for at in (k, k + 1))
            cv2.line(picture, first, last, MARK, thick, cv2.LINE_AA)


def _label(picture: Image, box: np.ndarray, text: str, colour: tuple[int, int, int]) -> None:
    """A tag over the box's upper edge, or under it at the top of the picture."""
    size = max(0.36, picture.shape[0] / 1500)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x = int(np.clip(box[0], 0, max(picture.shape[1] - width - 4, 0)))
    y = int(box[1]) if box[1] > height + base + 2 else int(max(box[1], 0)) + height + base + 4
    cv2.rectangle(picture, (x, y - height - base - 2), (x + width + 4, y), BACKGROUND, -1)
    place = (x + 2, y - base)
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
