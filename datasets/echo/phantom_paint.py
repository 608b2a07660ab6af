"""What the phantom's tissue reflects: painted once, at end-diastole, in heart coordinates."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.phantom_heart import Heart, S
from retain.datasets.echo.phantom_motion import LATERAL, SEPTAL, Floats

Plane = NDArray[np.float32]

X0, Z0 = -12.0, -6.0
PER_CM = 16.0
WIDE, TALL = 384, 416
CANVAS = np.array([X0, Z0, PER_CM])
BLOOD_DB = -90.0
"""Tissue's share of the signal inside blood; what blood itself gives is added later."""


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float]
) -> Plane:
    """Smooth random field of unit variance with ``cells`` (y, x) independent cells over ``shape``."""
    ny, nx = (max(2, round(c) + 1) for c in cells)
    coarse = rng.standard_normal((ny, nx), dtype=np.float32)
    field = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


class Painter:
    """A canvas of echo levels, dB against myocardium."""

    def __init__(self, level: float) -> None:
        self.db = np.full((TALL, WIDE), level, np.float32)

    def mask(self, outline: Floats) -> Plane:
        """Soft mask (0..1) of a polygon [N, 2] in heart coordinates."""
        pixels = (outline - (X0, Z0)) * PER_CM * 16
        out = np.zeros((TALL, WIDE), np.uint8)
        cv2.fillPoly(out, [np.round(pixels).astype(np.int32)], 255, cv2.LINE_AA, 4)
        return np.asarray(out, np.float32) / np.float32(255)

    def fill(self, outline: Floats, level: float | Plane) -> None:
        """Set the inside of a polygon to a level."""
        m = self.mask(outline)
        self.db += m * (level - self.db)

    def stroke(self, line: Floats, wide: float, level: float, add: bool = False) -> None:
        """Draw a line ``wide`` cm across; with ``add`` on top of what is there, in dB."""
        pixels = np.round((line - (X0, Z0)) * PER_CM * 16).astype(np.int32)
        out = np.zeros((TALL, WIDE), np.uint8)
        cv2.polylines(out, [pixels], False, 255, max(1, round(wide * PER_CM)), cv2.LINE_AA, 4)
        m = np.asarray(cv2.GaussianBlur(out, (0, 0), 1.2), np.float32) / np.float32(255)
        self.db += m * (level if add else level - self.db)


def paint(rng: np.random.Generator, heart: Heart, hard: float) -> Plane:
    """Amplitude of the tissue on the canvas, float32 [TALL, WIDE]; ``hard`` 0..1 scales the defects."""
    p = Painter(rng.uniform(-14, -4))
    p.db += rng.uniform(2, 5) * smooth_noise(rng, p.db.shape, (10, 8))
    walls = heart.at(0.0)
    outer, cavity = heart.epicardium(walls), heart.cavity(walls)
    atrium = heart.left_atrium(walls)
    _deep_tissue(rng, p, heart)
    _right_heart(rng, p, heart)
    _atrial_walls(rng, p, heart, atrium)
    p.fill(outer, _wall_levels(rng, heart, hard))
    if rng.random() < 0.7:
        span = outer[len(outer) // 2 + rng.integers(5, 30) :]
        p.stroke(span, rng.uniform(0.1, 0.25), rng.uniform(1, 6), add=True)
    p.db += rng.uniform(1, 3) * smooth_noise(rng, p.db.shape, (60, 55))
    p.fill(atrium, BLOOD_DB)
    _annulus(rng, p, heart)
    p.fill(cavity, BLOOD_DB)
    _inside(rng, p, heart)
    return np.power(np.float32(10), p.db / np.float32(20))


def _wall_levels(rng: np.random.Generator, heart: Heart, hard: float) -> Plane:
    """Level of the myocardium: each side has its own, with fading along it."""
    z = (np.arange(TALL) / PER_CM + Z0) / heart.length
    x = np.arange(WIDE) / PER_CM + X0
    apex = rng.normal(-2.0, 3.0)
    rows = []
    for mean, sd in ((1.5, 2.5), (-3.0, 3.0)):
        waves = smooth_noise(rng, (TALL, 1), (TALL / PER_CM / 2.5, 1))[:, 0]
        row = rng.normal(mean, sd) + (1.5 + 1.5 * hard) * waves
        if rng.random() < 0.25 + 0.35 * hard:
            at, wide = rng.uniform(0.1, 1.0), rng.uniform(0.1, 0.3)
            row = row - rng.uniform(5, 14) * np.exp(-(((z - at) / wide) ** 2))
        top = np.clip(1.0 - z / 0.35, 0.0, 1.0)
        rows.append(row * (1 - top) + apex * top)
    side = 1.0 / (1.0 + np.exp(-x / 0.6))
    level = rows[SEPTAL][:, None] * (1 - side) + rows[LATERAL][:, None] * side
    return np.asarray(level, np.float32)


def _deep_tissue(rng: np.random.Generator, p: Painter, heart: Heart) -> None:
    """Bright layered tissue behind the atria, often curved around their floor."""
    depth = heart.length + heart.atrium[0]
    half, sag = rng.uniform(3, 7), rng.uniform(-0.5, 2.0)
    x = np.linspace(-half, half, 21) + rng.normal(0.0, 0.8)
    top = depth + rng.uniform(-0.1, 0.3) - sag * (x / half) ** 2
    wavy = rng.normal(0, 0.15, x.shape)
    thick = rng.uniform(0.8, 3.0)
    level = rng.uniform(-4, 5)
    upper = np.stack([x, top + wavy], 1)
    lower = np.stack([x, top + thick * (1 - 0.5 * (x / half) ** 2)], 1)
    p.fill(np.concatenate([upper, lower[::-1]]), level)
    p.stroke(upper, rng.uniform(0.1, 0.3), rng.uniform(0, 5), add=True)
    # The lateral wall goes on below the annulus, round the atrium.
    strip = heart.left_atrium(heart.at(0.0))[41:]
    p.stroke(strip + (rng.uniform(0.2, 0.6), 0.0), rng.uniform(0.5, 1.5), level - rng.uniform(0, 5))


def _right_heart(rng: np.random.Generator, p: Painter, heart: Heart) -> None:
    """Right ventricle and atrium left of the septum, with a thin free wall."""
    if heart.ventricle <= 0:
        return
    z = np.linspace(rng.uniform(0.2, 0.4), 1.0, 25) * heart.length
    septum = -np.interp(z / heart.length, S, heart.outer[SEPTAL]) + np.interp(
        z / heart.length, S, heart.axis[0]
    )
    u = (z - z[0]) / (z[-1] - z[0])
    free = septum - heart.ventricle * np.sqrt(np.clip(u, 0, 1)) * (1 - 0.15 * u**3)
    tricuspid = rng.uniform(-0.8, 0.2)
    wall = np.stack([free, z + tricuspid], 1)
    room = np.concatenate([np.stack([septum + 0.1, z], 1), wall[::-1]])
    depth = heart.atrium[0] * rng.uniform(0.75, 1.1)
    a = np.linspace(0, 2 * math.pi, 40)
    reach = 0.5 * (septum[-1] - free[-1])
    mid = 0.5 * (septum[-1] + free[-1])
    ring = np.stack(
        [mid + reach * 1.1 * np.cos(a), heart.length + 0.5 * depth * (1 + np.sin(a))], 1
    )
    level, thick = rng.uniform(-9, -2), rng.uniform(0.25, 0.7)
    p.stroke(wall, 2 * thick, level)
    p.stroke(ring, 1.6 * thick, level - rng.uniform(-2, 4))
    p.fill(room, BLOOD_DB)
    p.fill(ring, BLOOD_DB)
    for _ in range(rng.integers(0, 4)):  # moderator band, trabeculae
        i = rng.integers(3, 14)
        f = rng.uniform(0.2, 0.9, 2)
        ends = [[septum[j] + f[k] * (free[j] - septum[j]), z[j]] for k, j in enumerate((i, i + 3))]
        p.stroke(np.array(ends), rng.uniform(0.15, 0.5), rng.uniform(-14, -5))


def _atrial_walls(rng: np.random.Generator, p: Painter, heart: Heart, atrium: Floats) -> None:
    """The septum between the atria and the thin wall around the left one."""
    level = rng.uniform(-7, 2)
    p.stroke(atrium, rng.uniform(0.3, 0.7), level - rng.uniform(0, 5))
    septal = atrium[:41]
    if rng.random() < 0.6:  # the thin middle of the atrial septum often shows nothing
        septal = septal[: rng.integers(8, 26)]
    p.stroke(septal - (0.25, 0.0), rng.uniform(0.4, 0.9), level + rng.uniform(0, 4))


def _annulus(rng: np.random.Generator, p: Painter, heart: Heart) -> None:
    for hinge, out in zip(heart.annulus(heart.at(0.0)), (-1, 1), strict=True):
        a = np.linspace(0, 2 * math.pi, 20)
        r = rng.uniform(0.25, 0.6)
        centre = hinge + (out * 0.8 * r, rng.uniform(-0.2, 0.3))
        ring = centre + r * np.stack([np.cos(a), rng.uniform(0.7, 1.4) * np.sin(a)], 1)
        p.fill(ring, rng.uniform(-3, 5))
    if heart.ventricle > 0 and rng.random() < 0.25:  # a great vessel cut across below the septum
        a = np.linspace(0, 2 * math.pi, 24)
        r = rng.uniform(0.4, 1.0)
        septal = heart.annulus(heart.at(0.0))[0]
        p.fill(
            septal
            + (-rng.uniform(0.4, 1.2), rng.uniform(0.6, 1.8))
            + r * np.stack([np.cos(a), np.sin(a)], 1),
            BLOOD_DB,
        )


def _inside(rng: np.random.Generator, p: Painter, heart: Heart) -> None:
    """Papillary muscles, false tendons, trabeculae: they move with the walls and belong to the cavity."""

    def spot(s: float, u: float) -> tuple[float, float]:
        side = SEPTAL if u < 0 else LATERAL
        half = float(np.interp(s, S, heart.inner[side]))
        return float(np.interp(s, S, heart.axis[0])) + u * half, s * heart.length

    for _ in range(rng.integers(0, 3)):
        s, side = rng.uniform(0.3, 0.65), rng.choice([1.0, 1.0, -1.0])
        line = np.array(
            [spot(s - rng.uniform(0.05, 0.2), side), spot(s + 0.1, side * rng.uniform(0.6, 0.85))]
        )
        p.stroke(line, rng.uniform(0.25, 0.8), rng.uniform(-12, -2))
    for _ in range(rng.poisson(6)):
        s = rng.uniform(0.03, 0.75) ** 1.3
        u = rng.uniform(-1, 1) if s < 0.3 else rng.choice([-1, 1]) * rng.uniform(0.55, 1.0)
        at = np.array([spot(s, u), spot(s + rng.uniform(0, 0.04), u * rng.uniform(0.9, 1))])
        p.stroke(at, rng.uniform(0.1, 0.3), rng.uniform(-14, 0))
    if rng.random() < 0.25:
        s = rng.uniform(0.15, 0.6)
        line = np.array([spot(s, -1.0), spot(s + rng.normal(0, 0.12), 1.0)])
        p.stroke(line, 0.1, rng.uniform(-16, -6))
