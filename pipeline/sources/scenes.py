"""Pictures for synthetic streams: frame number in, RGB out, cheap enough for long soak tests.

Each factory takes (size, seed, rate, cut, objects) and gives ``draw(k)``, which returns uint8
[H, W, 3]. ``draw`` depends on its arguments only, so frames may be drawn in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from retain.pipeline.frame import Image

Draw = Callable[[int], Image]
Size = tuple[int, int]


def texture(size: Size, seed: tuple[int, ...]) -> Image:
    """Smooth colour noise with fine grain and a few flat patches, uint8 [H, W, 3]."""
    width, height = size
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((3, 90.0), (9, 45.0), (27, 20.0)):
        coarse = rng.random((cells + 2, cells + 2, 3), np.float32) - 0.5
        picture += weight * _enlarged(coarse, size)
    picture += rng.uniform(70, 185, 3).astype(np.float32)
    for _ in range(4):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = 1 + width // 8, 1 + height // 8
        picture[y : y + h, x : x + w] = rng.uniform(20, 235, 3)
    picture += rng.normal(0, 3, (height, width, 1)).astype(np.float32)
    return picture.clip(0, 255).astype(np.uint8)


def _enlarged(coarse: np.ndarray, size: Size) -> np.ndarray:
    """Bilinear enlargement of float [C, C, 3] to [H, W, 3]."""

    def along(length: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
        at = np.linspace(0, cells - 1.001, length, dtype=np.float32)
        low = at.astype(np.int64)
        return low, at - low

    x, fx = along(size[0], coarse.shape[1])
    y, fy = along(size[1], coarse.shape[0])
    rows = coarse[y] + (coarse[y + 1] - coarse[y]) * fy[:, None, None]
    wide: np.ndarray = rows[:, x] + (rows[:, x + 1] - rows[:, x]) * fx[None, :, None]
    return wide


def there_and_back(position: float, length: int) -> int:
    """Reflect ``position`` into 0..length, as a ball between two walls."""
    if length <= 0:
        return 0
    phase = position % (2 * length)
    return round(phase if phase <= length else 2 * length - phase)


def still(size: Size, seed: int, rate: Fraction, cut: Fraction, objects: int) -> Draw:
    """One picture for ever."""
    picture = texture(size, (seed, 0))
    return lambda k: picture


def pan(size: Size, seed: int, rate: Fraction, cut: Fraction, objects: int) -> Draw:
    """A window that travels over a larger picture, a quarter of its width per second."""
    width, height = size
    wide = texture((2 * width, height + height // 4), (seed, 0))
    per_frame = width / 4 / float(rate)

    def draw(k: int) -> Image:
        x = there_and_back(k * per_frame, width)
        y = there_and_back(k * per_frame / 5, height // 4)
        return np.ascontiguousarray(wide[y : y + height, x : x + width])

    return draw


def bounce(size: Size, seed: int, rate: Fraction, cut: Fraction, objects: int) -> Draw:
    """Textured discs that cross a textured ground and bounce off its edges."""
    width, height = size
    ground = texture(size, (seed, 0))
    rng = np.random.default_rng((seed, 1))
    discs = []
    for number in range(objects):
        side = max(1, round(min(size) * rng.uniform(0.2, 0.4)))
        skin = texture((side, side), (seed, 2, number))
        skin = (skin // 2 + rng.integers(0, 128, 3)).astype(np.uint8)
        away = np.arange(side) - (side - 1) / 2
        mask = (away[:, None] ** 2 + away**2 <= (side / 2) ** 2)[:, :, None]
        start = rng.uniform(0, 2 * max(size), 2)
        speed = rng.uniform(0.2, 0.6, 2) * min(size) / float(rate)
        discs.append((side, skin, mask, start, speed))

    def draw(k: int) -> Image:
        picture = ground.copy()
        for side, skin, mask, start, speed in discs:
            x = there_and_back(float(start[0] + k * speed[0]), width - side)
            y = there_and_back(float(start[1] + k * speed[1]), height - side)
            np.copyto(picture[y : y + side, x : x + side], skin, where=mask)
        return picture

    return draw


def scenes(size: Size, seed: int, rate: Fraction, cut: Fraction, objects: int) -> Draw:
    """Long scenes with hard cuts every ``cut`` seconds: by turns still and slowly panning."""
    per_scene = max(1, round(cut * rate))
    number, current = -1, still(size, seed, rate, cut, objects)

    def draw(k: int) -> Image:
        nonlocal number, current
        if k // per_scene != number:
            number = k // per_scene
            kind = pan if number % 2 else still
            # the scene's number goes into the seed, far from the seeds a person would type
            current = kind(size, seed + (number << 40), rate, cut, objects)
        return current(k % per_scene)

    return draw


SCENES: dict[str, Callable[[Size, int, Fraction, Fraction, int], Draw]] = {
    "bounce": bounce,
    "still": still,
    "pan": pan,
    "scenes": scenes,
}
