"""A film of colours, a watch of it, and an encoder that knows the colours by their words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from retain.apps import watch as watching
from retain.models.encoders.pixels import Pixels
from retain.pipeline.frame import Image

RATE = 10
"""Frames a second."""


SCENE = 40
"""Frames of a scene."""


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "grey": (90,) * 3}


def shot(k: int) -> Image:
    """Scene after scene, each of one colour, with a disc that wanders."""
    ground = list(COLOURS.values())[k // SCENE % len(COLOURS)]
    image = np.full((96, 128, 3), ground, np.uint8)
    cv2.circle(image, (20 + 2 * (k % SCENE), 48), 12, (250, 240, 120), -1)
    return image


class Words(Pixels):
    """Reads names of colours into the space of its pictures."""

    @property
    def name(self) -> str:
        return "openclip:Words/of-colour"

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        grounds = [np.full((96, 128, 3), COLOURS[text], np.uint8) for text in texts]
        return self.encode(grounds)

    def known(self, text: str) -> float:
        return sum(letter.isascii() for letter in text) / len(text)

    def fits(self, text: str) -> bool:
        return len(text) < 20


def watched(video: Path, out: Path, **changes: object) -> Path:
    options = {"source": str(video), "out": out, "fps": 5.0, "encoder": "pixels"} | changes
    given = watching.WatchOptions(**options, page=False, runner="inline")  # type: ignore[arg-type]
    watching.watch(given, lambda done: None)
    return out
