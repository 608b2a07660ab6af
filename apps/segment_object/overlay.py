"""``overlay.mp4``: the frames with every object tinted and outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.apps.drawing import clock
from retain.apps.segment_object.files import COLOURS, Label
from retain.apps.video import TimedVideo
from retain.models.gdkvm.place import outlines
from retain.pipeline.frame import Frame, Image

FILL = 0.35
"""How much of its colour an object's pixels take."""
MAX_HEIGHT = 1080


class Overlay:
    """Writes the video frame by frame; the first sets its size."""

    def __init__(self, path: Path) -> None:
        self._video = TimedVideo(path)
        self._size = (0, 0)

    def add(self, frame: Frame, label: Label, names: Sequence[str]) -> None:
        """Append a frame. ``label``: uint8 [H, W], k + 1 where the object of ``names[k]`` is."""
        if self._size == (0, 0):
            scale = min(1.0, MAX_HEIGHT / frame.height)
            self._size = (
                max(2, int(frame.width * scale) // 2 * 2),
                max(2, int(frame.height * scale) // 2 * 2),
            )
        picture = draw(frame.image, label, names)
        if picture.shape[1::-1] != self._size:
            picture = np.asarray(cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA))
        self._video.add(_told(picture, clock(frame.seconds), bool(label.any())), frame.seconds)

    def close(self) -> None:
        """Finish the file. Safe to call twice."""
        self._video.close()


def draw(image: Image, label: Label, names: Sequence[str]) -> Image:
    """``image`` (uint8 [H, W, 3]) with its objects tinted and outlined, as a copy."""
    picture = image.copy()
    thick = max(1, round(image.shape[0] / 300))
    for value in range(1, len(names) + 1):
        inside = label == value
        if not inside.any():
            continue
        colour = COLOURS[(value - 1) % len(COLOURS)]
        picture[inside] = (picture[inside] * (1 - FILL) + np.array(colour) * FILL).astype(np.uint8)
        cv2.polylines(picture, outlines(label, value), True, colour, thick, cv2.LINE_AA)
    return picture


def _told(picture: Image, when: str, seen: bool) -> NDArray[np.uint8]:
    """The time in a corner, and that nothing is seen where that is so."""
    text = when if seen else f"{when}  not seen"
    size = max(0.4, picture.shape[0] / 900)
    for colour, thick in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        at = (10, picture.shape[0] - 12)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, thick, cv2.LINE_AA)
    return picture
