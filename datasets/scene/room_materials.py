"""Colours, solid textures and pictures of procedural rooms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retain.datasets.planted import texture as draw_picture
from retain.datasets.scene.room_shade import LEVELS, MATERIAL_COLUMNS, WAVES

Array = NDArray[np.float64]

PLAIN_SHARE = 0.3
GLOSSY_SHARE = 0.1
PICTURE_PX = 96
_FREQUENCIES = (0.8, 14.0)
"""Of textures, cycles per metre."""


class Palette:
    """Materials as they are asked for; what it has drawn goes into the room's tables."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._materials: list[list[float]] = []
        self._textures: list[NDArray[np.float32]] = []
        self._images: list[NDArray[np.float32]] = []

    def surface(self, colour: Array, contrast: float = 1.0) -> int:
        """A material of a mean linear RGB ``colour``: textured or plain, sometimes glossy."""
        rng = self._rng
        plain = rng.random() < PLAIN_SHARE
        gloss = rng.uniform(0.1, 0.3) if rng.random() < GLOSSY_SHARE else 0.0
        return self._add(colour, -1 if plain else self._texture(contrast), -1, gloss, 0.0)

    def coloured(self, value: float = 0.35, contrast: float = 1.0) -> int:
        """A surface of any hue, about ``value`` bright."""
        return self.surface(hue(self._rng, value), contrast)

    def busy(self) -> int:
        """Textured for certain, with strong contrast."""
        return self._add(hue(self._rng, 0.45), self._texture(1.5), -1, 0.0, 0.0)

    def glow(self, colour: Array, strength: float) -> int:
        return self._add(colour, -1, -1, 0.0, strength)

    def picture(self, glow: float = 0.0) -> int:
        """For a flat box: a picture on its largest sides."""
        seed = int(self._rng.integers(2**31))
        self._images.append(_levels(draw_picture(seed, PICTURE_PX, PICTURE_PX)))
        return self._add(np.ones(3) * 0.8, -1, len(self._images) - 1, 0.0, glow)

    def tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Materials, textures and images as arrays; at least one of each."""
        textures = self._textures or [np.zeros((7, WAVES), np.float32)]
        images = self._images or [np.zeros((LEVELS, PICTURE_PX, PICTURE_PX, 3), np.float32)]
        return np.array(self._materials, np.float32), np.stack(textures), np.stack(images)

    def _add(self, colour: Array, texture: int, image: int, gloss: float, glow: float) -> int:
        row = [*np.clip(colour, 0.01, 0.95), texture, image, gloss, glow]
        assert len(row) == MATERIAL_COLUMNS
        self._materials.append([float(value) for value in row])
        return len(self._materials) - 1

    def _texture(self, contrast: float) -> int:
        """Cosines from 0.8 to 14 cycles per metre, amplitudes as 1 / sqrt(frequency); often with a
        grain, like wood: fewer waves along one direction."""
        rng = self._rng
        lowest, highest = np.log(_FREQUENCIES)
        size = np.exp(rng.uniform(lowest, highest, WAVES))
        ways = rng.standard_normal((WAVES, 3))
        if rng.random() < 0.4:
            axis = _unit(rng.standard_normal(3))
            ways -= 0.85 * (ways @ axis)[:, None] * axis
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        # Mostly lighter and darker, a little of other hues.
        tint = 1 + rng.uniform(0.0, 0.2) * rng.standard_normal((WAVES, 3))
        amplitude = 1 / np.sqrt(size)
        amplitude *= contrast * rng.uniform(0.22, 0.4) / np.sqrt(0.5 * (amplitude**2).sum())
        waves = np.concatenate(
            [ways.T * size, rng.random((1, WAVES)), (tint * amplitude[:, None]).T]
        )
        self._textures.append(waves.astype(np.float32))
        return len(self._textures) - 1


def hue(rng: np.random.Generator, value: float, strength: float = 0.33) -> Array:
    """A random linear RGB of mean ``value``."""
    colour = np.exp(strength * rng.standard_normal(3))
    return np.asarray(colour / colour.mean() * value * rng.uniform(0.7, 1.3))


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))


def _levels(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[LEVELS, S, S, 3] linear, each level the mean of four pixels of the one before."""
    level = (image.astype(np.float32) / 255) ** 2
    out = np.zeros((LEVELS, *level.shape), np.float32)
    for k in range(LEVELS):
        out[k, : len(level), : len(level)] = level
        level = (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]) / 4
    return out
