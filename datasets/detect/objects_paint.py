"""Looks of the procedural objects: coats, parts as sprites, backgrounds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.objects_kinds import Part

Pixels = NDArray[np.uint8]
_FINE = 2
"""Sprites are drawn so many times finer, then averaged."""


def noise(rng: np.random.Generator, height: int, width: int, cell: float) -> NDArray[np.float32]:
    """[height, width] smooth noise, about -1 to 1, with blobs of ``cell`` pixels and finer ones."""
    out = np.zeros((height, width), np.float32)
    weight = 1.0
    for _ in range(3):
        grid = rng.standard_normal((int(height / cell) + 3, int(width / cell) + 3), np.float32)
        out += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cell, weight = max(cell / 2.7, 1.0), weight * 0.55
    return out / 1.6


def colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """[3] RGB, of any hue, neither black nor white."""
    hue, value, depth = rng.random(), rng.uniform(60, 230), rng.uniform(0.1, 0.85)
    wheel = np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    return np.asarray(value * (1 - depth * (1 - np.clip(wheel, 0, 1))), np.float32)


@dataclass(frozen=True, slots=True)
class Coat:
    """Colours and a pattern of an object's surface."""

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    pattern: int
    period: float
    """In units of the object."""
    angle: float

    def paint(self, rng: np.random.Generator, side: int, unit: float) -> NDArray[np.float32]:
        """[side, side, 3] of a surface with ``unit`` pixels per unit."""
        y, x = np.mgrid[:side, :side].astype(np.float32) / (unit * self.period)
        u = x * np.cos(self.angle) + y * np.sin(self.angle)
        v = y * np.cos(self.angle) - x * np.sin(self.angle)
        wave = {
            0: noise(rng, side, side, max(2.0, unit * self.period)),
            1: np.sin(2 * np.pi * u),
            2: np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v) * 2,
            3: np.sin(2 * np.pi * u + 2 * np.sin(np.pi * v)),
        }[self.pattern]
        share = np.clip(0.5 + 0.9 * wave, 0, 1)[..., None].astype(np.float32)
        shade = 1 + 0.12 * noise(rng, side, side, max(2.0, unit / 2))[..., None]
        return np.asarray((self.first * share + self.second * (1 - share)) * shade, np.float32)


def draw_coat(rng: np.random.Generator) -> Coat:
    first = colour(rng)
    second = first * rng.uniform(0.4, 0.8) if rng.random() < 0.5 else colour(rng)
    return Coat(
        first,
        second.astype(np.float32),
        int(rng.integers(4)),
        float(rng.uniform(0.1, 0.4)),
        float(rng.uniform(0, np.pi)),
    )


@dataclass(frozen=True, slots=True)
class Sprite:
    """A part, painted."""

    pixels: Pixels
    """[h, w, 4] RGB times alpha, and alpha."""
    origin: tuple[float, float]
    """Where pixel (0, 0) has its centre, in units of the object."""
    unit: float
    """Pixels per unit."""
    part: Part


def paint(part: Part, coat: Coat, unit: float, rng: np.random.Generator) -> Sprite:
    """``part`` with ``unit`` pixels per unit of the object."""
    low, high = part.outline.min(0) - 2 / unit, part.outline.max(0) + 2 / unit
    width, height = (int(np.ceil(extent * unit)) + 1 for extent in high - low)
    canvas = np.zeros((height * _FINE, width * _FINE), np.uint8)
    # cv2 counts from the centre of the first fine pixel.
    dots = (part.outline - low) * unit * _FINE + (_FINE - 1) / 2
    cv2.fillPoly(canvas, [np.round(dots * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    alpha = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    side = max(width, height)
    surface = coat.paint(rng, side, unit)[:height, :width]
    inner = cv2.GaussianBlur(alpha, (0, 0), max(0.6, 0.05 * unit)).astype(np.float32) / 255
    light = np.linspace(1.12, 0.82, height, dtype=np.float32)[:, None]
    surface *= ((0.55 + 0.45 * inner) * light)[..., None]  # rounder: darker at the rim and below
    cover = alpha.astype(np.float32)[..., None] / 255
    rgb = np.clip(surface, 0, 255) * cover
    pixels = np.concatenate([rgb, alpha[..., None]], axis=2).round().astype(np.uint8)
    return Sprite(pixels, (float(low[0]), float(low[1])), unit, part)


def background(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """uint8 [height, width, 3]: ground with blobs, and things of many shapes and textures."""
    base, other = colour(rng), colour(rng)
    share = np.clip(0.5 + 0.5 * noise(rng, height, width, width / 5), 0, 1)[..., None]
    out = base * share + other * (1 - share)
    out += 14 * noise(rng, height, width, 9)[..., None] * rng.uniform(0.5, 1.5)
    for _ in range(int(rng.integers(25, 60))):
        coat = draw_coat(rng)
        size = int(rng.uniform(0.03, 0.2) * width)
        patch = coat.paint(rng, size, size / 2)
        form = np.zeros((size, size), np.uint8)
        t = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 10))))
        r = rng.uniform(0.4, 1.0, len(t)) * size / 2
        dots = np.column_stack([size / 2 + r * np.cos(t), size / 2 + r * np.sin(t)])
        cv2.fillPoly(form, [dots.astype(np.int32)], 255, cv2.LINE_AA)
        x, y = int(rng.integers(0, width - size)), int(rng.integers(0, height - size))
        cover = form[..., None].astype(np.float32) / 255 * rng.uniform(0.5, 1)
        region = out[y : y + size, x : x + size]
        region += cover * (patch - region)
    return np.asarray(np.clip(out, 0, 255), np.uint8)


def pole(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """[height, width, 4] premultiplied: something upright that stands before the scene."""
    coat = draw_coat(rng)
    surface = coat.paint(rng, max(width, height), float(width))[:height, :width]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    surface *= (1 - 0.45 * x * x)[None, :, None]
    ragged = 1 + 0.15 * noise(rng, height, 1, 30)
    alpha = np.clip((0.85 * ragged - np.abs(x)[None]) * width / 4, 0, 1)[..., None]
    rgba = np.concatenate([np.clip(surface, 0, 255) * alpha, 255 * alpha], axis=2)
    return np.asarray(rgba.round(), np.uint8)
