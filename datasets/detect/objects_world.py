"""What goes on in a procedural video: who is where at a time, before any pixel is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import Size
from retain.datasets.detect.objects_blend import over
from retain.datasets.detect.objects_kinds import MAKERS, NAMES, STANDS, rubbish
from retain.datasets.detect.objects_paint import (
    Pixels,
    Sprite,
    background,
    draw_coat,
    paint,
    pole,
)

_WIDE = 320.0
"""Lengths and speeds below are pixels of a frame so wide."""
_SLOWEST, _FASTEST = 1.0, 260.0
_STILL = 6.0
"""Pixels a second; the last of what goes nowhere by itself."""
_REACH = 1.3
"""How far parts get from an object's centre, in its units."""
_PARALLAX = 1.5
"""Poles are nearer than the rest."""


@dataclass(frozen=True, slots=True)
class Wave:
    """centre + reach * sin(2 pi (hertz * t + phase))."""

    centre: float
    reach: float
    hertz: float
    phase: float

    def at(self, t: float) -> float:
        return self.centre + self.reach * float(np.sin(2 * np.pi * (self.hertz * t + self.phase)))

    def slope(self, t: float) -> float:
        turn = 2 * np.pi * self.hertz
        return self.reach * turn * float(np.cos(turn * t + 2 * np.pi * self.phase))


@dataclass(frozen=True, slots=True)
class Actor:
    """Something that moves: an object, or a distractor (``label`` -1)."""

    label: int
    sprites: tuple[Sprite, ...]
    x: Wave
    y: Wave
    size: Wave
    """Half its longer side in pixels."""
    lean: Wave
    """Radians."""
    strides: float
    """Per second."""
    faces: int
    """1, -1, or 0: where it goes."""

    def shape(self, t: float) -> Pixels:
        """[s, s, 4] premultiplied, the object's centre in its middle."""
        r = self.size.at(t)
        side = 2 * (int(np.ceil(_REACH * r)) + 2) + 1
        canvas = np.zeros((side, side, 4), np.uint8)
        flip = self.faces or (1 if self.x.slope(t) >= 0 else -1)
        whole = _turn(self.lean.at(t)) @ np.diag([flip, 1.0]) * r
        for sprite in self.sprites:
            part, cycle = sprite.part, self.strides * t
            swing = part.swing * np.sin(2 * np.pi * (cycle + part.phase))
            own = _turn(float(swing + 2 * np.pi * part.turn * cycle))
            pivot = np.array(part.pivot)
            place = whole @ (pivot + own @ (np.array(sprite.origin) - pivot)) + side // 2
            matrix = np.column_stack([whole @ own / sprite.unit, place])
            layer = cv2.warpAffine(sprite.pixels, matrix, (side, side), flags=cv2.INTER_LINEAR)
            over(canvas, layer, 0, 0)
        return canvas


def _turn(angle: float) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


@dataclass(frozen=True, slots=True)
class World:
    """A whole video, deterministic: what it holds depends on its random numbers alone."""

    size: Size
    ground: Pixels
    pan: tuple[Wave, Wave]
    """Of the camera, pixels."""
    actors: tuple[Actor, ...]
    """From the farthest to the nearest."""
    poles: tuple[tuple[float, Pixels], ...]
    """Left edge and looks."""
    grain: NDArray[np.int8]

    def camera(self, t: float) -> tuple[float, float]:
        return self.pan[0].at(t), self.pan[1].at(t)

    def backdrop(self, t: float) -> Pixels:
        x, y = self.camera(t)
        centre = (self.ground.shape[1] / 2 + x - 0.5, self.ground.shape[0] / 2 + y - 0.5)
        return np.asarray(cv2.getRectSubPix(self.ground, self.size, centre), np.uint8)

    def place(self, actor: Actor, t: float) -> tuple[float, float]:
        """Pixel of the actor's centre."""
        x, y = self.camera(t)
        return actor.x.at(t) - x, actor.y.at(t) - y

    def pole_at(self, left: float, t: float) -> int:
        return round(left - _PARALLAX * self.camera(t)[0])

    def speed(self, t: float) -> float:
        """Pixels a second of whatever is fastest in the picture."""
        x, y = self.pan[0].slope(t), self.pan[1].slope(t)
        own = (np.hypot(a.x.slope(t) - x, a.y.slope(t) - y) for a in self.actors)
        return float(max([_PARALLAX * np.hypot(x, y), *own]))


def make_world(rng: np.random.Generator, size: Size) -> World:
    """Two to five objects, distractors, mostly poles, a camera that pans."""
    width, height = size
    scale = width / _WIDE
    sway = rng.uniform(0, 45) * scale
    pan = (_wander(rng, 0.0, sway, scale, 40), _wander(rng, 0.0, sway / 3, scale, 15))
    margin = int(sway + 8 * scale) + 2
    ground = background(rng, width + 2 * margin, height + 2 * margin)
    labels = [int(rng.integers(len(NAMES))) for _ in range(int(rng.integers(2, 6)))]
    labels += [-1] * int(rng.integers(1, 4))
    rng.shuffle(labels)
    actors = tuple(_actor(rng, label, size, scale) for label in labels)
    poles = tuple(_pole(rng, size, scale) for _ in range(int(rng.integers(0, 3))))
    sigma = rng.uniform(0.5, 4)
    grain = np.clip(rng.normal(0, sigma, (256, 256, 3)), -60, 60).astype(np.int8)
    return World(size, ground, pan, actors, poles, grain)


def _wander(
    rng: np.random.Generator, centre: float, reach: float, scale: float, fastest: float
) -> Wave:
    """Back and forth over ``reach`` pixels at up to ``fastest`` a second."""
    speed = scale * float(np.exp(rng.uniform(np.log(1), np.log(fastest))))
    return Wave(centre, reach, speed / (2 * np.pi * max(reach, 1.0)), float(rng.random()))


def _actor(rng: np.random.Generator, label: int, size: Size, scale: float) -> Actor:
    width, height = size
    radius = float(np.exp(rng.uniform(np.log(14), np.log(58)))) * scale
    maker = MAKERS[NAMES[label]] if label >= 0 else rubbish
    coats = [draw_coat(rng) for _ in range(4)]
    unit = 1.25 * radius
    sprites = tuple(paint(part, coats[part.coat], unit, rng) for part in maker(rng))
    still = label >= 0 and NAMES[label] in STANDS
    top = _STILL if still else _FASTEST
    speed = scale * float(np.exp(rng.uniform(np.log(_SLOWEST), np.log(top))))
    far = float(rng.uniform(0.12, 0.5)) * width
    x = Wave(float(rng.uniform(0.2, 0.8)) * width, far, speed / (2 * np.pi * far), rng.random())
    rise = float(rng.uniform(0.03, 0.2)) * height
    y = _wander(rng, float(rng.uniform(0.25, 0.75)) * height, rise, scale, max(4.0, speed / 3))
    return Actor(
        label,
        sprites,
        x,
        y,
        Wave(
            radius,
            float(rng.uniform(0, 0.22)) * radius,
            float(rng.uniform(0.02, 0.2)),
            rng.random(),
        ),
        Wave(0.0, float(rng.uniform(0, 0.2)), float(rng.uniform(0.05, 0.5)), rng.random()),
        float(np.exp(rng.uniform(np.log(0.1), np.log(2.5)))),
        int(rng.choice([-1, 1])) if still else 0,
    )


def _pole(rng: np.random.Generator, size: Size, scale: float) -> tuple[float, Pixels]:
    width, height = size
    thick = max(3, int(rng.uniform(8, 34) * scale))
    return float(rng.uniform(-0.2, 1.2) * width), pole(rng, thick, height)
