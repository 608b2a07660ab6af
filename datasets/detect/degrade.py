"""Frames as a real camera spoils them: shaken, out of focus, too dark, something in front.

Works on any frame, so a clean one can teach a detector what it should have seen in its copy. The
scale follows measurements on real sequences with a small COCO detector: strengths 0.42 to 1 cost
it most of what it finds ("strong"), 0.2 to 0.5 about half ("mild").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import CLEAN, Clip, Degradation, Kind, Sample, Truth
from retain.pipeline.errors import UsageError, nearest
from retain.pipeline.frame import Image

KINDS: tuple[Kind, ...] = ("motion", "defocus", "dark", "bars")
_PER_SIDE = 416.0
"""Lengths below are pixels of a frame whose longer side has so many."""
_SHAKE_PX = 45.0
_RADIUS_PX = 11.0
_DARKEST = 0.04
"""Gain of the light at strength 1."""
_COVERED = 0.65
"""Share of the frame behind bars at strength 1."""
_READ_NOISE = 4.0
"""Grey levels."""
_ELECTRONS = 4.0
"""Per grey level, which sets the shot noise."""


@dataclass(frozen=True, slots=True)
class Preset:
    """How often and how much frames are spoilt."""

    share: float
    """Of the frames that may be."""
    burst: float
    """Mean length in frames."""
    low: float
    high: float
    """Range of strengths."""


PRESETS = {
    "clean": Preset(0.0, 1.0, 0.0, 0.0),
    "mild": Preset(0.34, 3.0, 0.2, 0.5),
    "strong": Preset(0.34, 3.0, 0.42, 1.0),
}


def preset(name: str) -> Preset:
    """Raises UsageError for a name that is none."""
    if name not in PRESETS:
        raise UsageError(f"There is no preset {name!r}.", hint=nearest(name, PRESETS))
    return PRESETS[name]


def plan(
    frames: int,
    rng: np.random.Generator,
    how: Preset,
    kinds: Sequence[Kind] = KINDS,
    spared: int = 5,
) -> tuple[Degradation, ...]:
    """What happens to each of ``frames``: bursts with geometric lengths, one kind and strength
    each, with clean frames between them. The first ``spared`` frames stay clean."""
    out = [CLEAN] * frames
    if how.share <= 0:
        return tuple(out)
    gap = how.burst * (1 - how.share) / how.share
    at = spared + int(rng.geometric(1 / max(gap, 1.0))) - 1
    while at < frames:
        kind = kinds[int(rng.integers(len(kinds)))]
        strength = float(rng.uniform(how.low, how.high))
        length = int(rng.geometric(1 / how.burst))
        for place in range(min(length, frames - at)):
            out[at + place] = Degradation(kind, strength, place)
        at += length + int(rng.geometric(1 / max(gap, 1.0)))
    return tuple(out)


def degrade(image: Image, kind: Kind, strength: float, rng: np.random.Generator) -> Image:
    """A spoilt copy of uint8 [H, W, 3] RGB, same size.

    kind      ``motion``: the camera shakes, up to 45 pixels of 416; ``defocus``: a disc of up to
              11 pixels radius; ``dark``: down to 4 % of the light, with shot and read noise;
              ``bars``: something opaque before up to 65 % of the frame; ``none``: a plain copy
    strength  0 (next to nothing) to 1

    Raises ValueError for another kind or strength.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is from 0 to 1, not {strength!r}")
    if kind not in _WAYS:
        raise ValueError(f"kind is one of {', '.join(_WAYS)}, not {kind!r}")
    return _WAYS[kind](image, strength, rng)


def _none(image: Image, strength: float, rng: np.random.Generator) -> Image:
    return image.copy()


def _motion(image: Image, strength: float, rng: np.random.Generator) -> Image:
    import cv2

    length = 1 + strength * _SHAKE_PX * _unit(image)
    kernel = _streak(length, float(rng.uniform(0, np.pi)), float(rng.uniform(-0.5, 0.5)))
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.uint8)


def _streak(length: float, angle: float, bend: float) -> NDArray[np.float32]:
    """A kernel along a bent line of ``length`` pixels, sum 1, centroid at its centre so that boxes
    stay where they are."""
    t = np.linspace(-0.5, 0.5, 8 * int(np.ceil(length)) + 1) * length
    off = bend * (t * t / length - length / 12)
    x, y = t * np.cos(angle) - off * np.sin(angle), t * np.sin(angle) + off * np.cos(angle)
    half = int(np.ceil(max(np.abs(x).max(), np.abs(y).max()))) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dx - (x - left)) * np.abs(1 - dy - (y - top))
            np.add.at(kernel, (top + half + dy, left + half + dx), weight.astype(np.float32))
    return np.asarray(kernel / kernel.sum(), np.float32)


def _defocus(image: Image, strength: float, rng: np.random.Generator) -> Image:
    import cv2

    kernel = _disc(round(0.5 + strength * _RADIUS_PX * _unit(image), 2))
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.uint8)


@lru_cache(maxsize=64)
def _disc(radius: float) -> NDArray[np.float32]:
    """The picture of a point out of focus, sum 1, with a soft edge of one pixel."""
    half = int(np.ceil(radius + 0.5))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _dark(image: Image, strength: float, rng: np.random.Generator) -> Image:
    gain = _DARKEST**strength
    light = image.astype(np.float32) * np.float32(gain)
    spread = np.sqrt(light / _ELECTRONS + _READ_NOISE**2)
    light += spread * rng.standard_normal(light.shape, np.float32)
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)


def _bars(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Railings, leaves, passers-by: blotchy stripes at an angle."""
    height, width = image.shape[:2]
    angle = float(rng.uniform(-0.5, 0.5)) + (np.pi / 2) * float(rng.random() < 0.25)
    period = float(rng.uniform(28, 90)) * _unit(image)
    y, x = np.ogrid[:height, :width]
    along = (x * np.cos(angle) + y * np.sin(angle)) / period + float(rng.random())
    covered = (along % 1.0) < max(0.02, strength * _COVERED)
    out = image.copy()
    look = rng.integers(20, 200, 3) + rng.normal(0, 10, (height // 8 + 1, width // 8 + 1, 3))
    coarse = np.clip(look, 0, 255).astype(np.uint8)
    texture = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)[:height, :width]
    out[covered] = texture[covered]
    return out


def _unit(image: Image) -> float:
    return float(max(image.shape[:2]) / _PER_SIDE)


_WAYS = {"none": _none, "motion": _motion, "defocus": _defocus, "dark": _dark, "bars": _bars}


class Degraded:
    """Another Clip with some of its frames spoilt, the same ones for the same ``seed``.

    degraded  ``clean``, ``mild`` or ``strong``

    Raises UsageError for a preset that is none.
    """

    def __init__(self, clip: Clip, degraded: str = "strong", seed: int = 0) -> None:
        self._clip, self.seed = clip, seed
        self.name, self.names, self.rate = clip.name, clip.names, clip.rate
        self.cuts, self.notes, self.numbers = clip.cuts, clip.notes, clip.numbers
        rng = np.random.default_rng((seed, 1))
        self.degradations: tuple[Degradation, ...] = plan(len(clip), rng, preset(degraded))
        """What happens to each frame."""

    def __len__(self) -> int:
        return len(self._clip)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def truth(self, index: int) -> Truth:
        return self._clip.truth(index)

    def clean(self, index: int) -> Sample:
        """The frame as it was."""
        return self._clip[index]

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        sample, how = self._clip[index], self.degradations[index]
        if not how:
            return sample
        rng = np.random.default_rng((self.seed, 2, index))
        image = degrade(sample.image, how.kind, how.strength, rng)
        return replace(sample, image=image, degradation=how)
