"""Clips whose light changes as they go: what an object looked like at first stops being true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import Clip, Sample, Truth
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

_GAIN = 0.75
"""Largest change of the light's strength, as a power of e, at ``strength`` 1."""
_TINT = 0.3
"""The same for red against blue."""
_SHADE = 0.6
"""The same from one side of the picture to the other."""


class Relit:
    """Another Clip under a light that waxes, wanes, turns warm and cold, and wanders about.

    period_s  of the slowest change; the first frame is as it was
    strength  0 nothing, 1 as far as from daylight to a dim lamp
    seed      of the changes

    Truth does not change by it. Raises UsageError for options that are none.
    """

    def __init__(
        self, clip: Clip, strength: float = 1.0, period_s: float = 40.0, seed: int = 0
    ) -> None:
        if not 0 <= strength <= 2 or period_s <= 0 or seed < 0:
            raise UsageError("strength is from 0 to 2, period_s above 0, seed from 0.")
        self._clip, self._strength = clip, strength
        self.name, self.names, self.rate = f"{clip.name}-relit", clip.names, clip.rate
        self.cuts, self.notes, self.numbers = clip.cuts, clip.notes, clip.numbers
        rng = np.random.default_rng((seed, 7))
        self._hertz = rng.uniform(1, 2.5, 4) / period_s
        self._sign = rng.choice([-1.0, 1.0], 4)

    def __len__(self) -> int:
        return len(self._clip)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def truth(self, index: int) -> Truth:
        return self._clip.truth(index)

    def __getitem__(self, index: int) -> Sample:
        sample = self._clip[index]
        return replace(sample, image=self._lit(sample.image, sample.seconds))

    def _lit(self, image: Image, seconds: float) -> Image:
        wave = self._strength * self._sign * np.sin(2 * np.pi * self._hertz * seconds)
        height, width = image.shape[:2]
        y = np.linspace(-1, 1, height)[:, None]
        x = np.linspace(-1, 1, width)[None]
        light = np.exp(-_GAIN * abs(wave[0]) + _SHADE * (wave[1] * x + wave[2] * y) / 2)
        tint = np.exp(_TINT * wave[3] * np.array([1.0, 0.0, -1.0]))
        lit: NDArray[np.float64] = image * light[..., None] * tint
        return np.clip(lit + 0.5, 0, 255).astype(np.uint8)
