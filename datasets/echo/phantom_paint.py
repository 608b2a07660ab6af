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
    """Smooth random field of unit variance with about ``cells`` (y, x) independent cells."""
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
        pixels = (line - (X0, Z0)) * PER_CM
        margin = wide * PER_CM + 6
        low = np.clip(np.floor(pixels.min(0) - margin), 0, (WIDE, TALL)).astype(int)
        high = np.clip(np.ceil(pixels.max(0) + margin), 0, (WIDE, TALL)).astype(int)
        if (high - low).min() < 1:
            return
        out = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        at = np.round((pixels - low) * 16).astype(np.int32)
        cv2.polylines(out, [at], False, 255, max(1, round(wide * PER_CM)), cv2.LINE_AA, 4)
        m = np.asarray(cv2.GaussianBlur(out, (0, 0), 1.2), np.float32) / np.float32(255)
        part = self.db[low[1] : high[1], low[0] : high[0]]
        part += m * (np.float32(level) if add else np.float32(level) - part)


def paint(rng: np.random.Generator, heart: Heart, hard: float) -> Plane:
    """Amplitude of the tissue, float32 [TALL, WIDE]; ``hard`` (0..1) scales the defects."""
    p = Painter(rng.uniform(-34, -16) if rng.random() < 0.75 else rng.uniform(-15, -5))
    walls = heart.at(0.0)
    outer, cavity = heart.epicardium(walls), heart.cavity(walls)
    atrium = heart.left_atrium(walls)
    right = _right_outlines(rng, heart)
    _surroundings(rng, p, [outer, atrium, *right])
    _deep_tissue(rng, p, heart)
    for room in right:
        p.fill(room, BLOOD_DB)
    _right_heart(rng, p, right)
    _atrial_walls(rng, p, heart, atrium)
    p.fill(outer, _wall_levels(rng, heart, hard))
    if rng.random() < 0.6:
        span = outer[len(outer) // 2 + rng.integers(5, 30) :]
        p.stroke(span, rng.uniform(0.1, 0.25), rng.uniform(0, 6), add=True)
    grain = rng.uniform(25, 70)
    p.db += rng.uniform(0.5, 4) * smooth_noise(rng, p.db.shape, (grain, grain))
    p.fill(atrium, BLOOD_DB)
    _annulus(rng, p, heart)
    p.fill(cavity, BLOOD_DB)
    _inside(rng, p, heart)
    return np.asarray(np.power(np.float32(10), p.db / np.float32(20)), np.float32)


def _surroundings(rng: np.random.Generator, p: Painter, outlines: list[Floats]) -> None:
    """A fading shell of tissue round the heart, chest wall above, lung (nearly nothing) beyond."""
    z = np.arange(TALL, dtype=np.float32)[:, None] / PER_CM + Z0
    heart = np.max([p.mask(o) for o in outlines], axis=0)
    small = cv2.resize(heart, (WIDE // 4, TALL // 4), interpolation=cv2.INTER_AREA)
    reach = round(rng.uniform(0.3, 1.8) * PER_CM / 4) * 2 + 1
    grown = cv2.dilate(small, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    grown = cv2.GaussianBlur(grown, (0, 0), rng.uniform(0.3, 1.0) * PER_CM / 4)
    soft = np.asarray(cv2.resize(grown, (WIDE, TALL)), np.float32)
    level = rng.uniform(-10, -1) + rng.uniform(-0.4, 0.9) * (z - 4.0)
    level = level + rng.uniform(2, 4) * smooth_noise(rng, p.db.shape, (10, 8))
    p.db += soft * (np.minimum(level, 5.0) - p.db)
    chest = 1.0 / (1.0 + np.exp((z - rng.uniform(-1.0, 2.5)) / rng.uniform(0.4, 1.2)))
    level = rng.uniform(-14, -3) + rng.uniform(1, 4) * smooth_noise(rng, p.db.shape, (12, 9))
    p.db += chest * np.maximum(level - p.db, 0.0)


def _wall_levels(rng: np.random.Generator, heart: Heart, hard: float) -> Plane:
    """Level of the myocardium: each side has its own, with fading along it."""
    z = (np.arange(TALL) / PER_CM + Z0) / heart.length
    x = np.arange(WIDE) / PER_CM + X0
    apex = rng.normal(-1.5 - 4.5 * hard, 2 + 2 * hard)
    rows = []
    for mean, sd in ((0.5, 2.5), (-1.5 - 5.0 * hard, 2 + 3 * hard)):
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
    if rng.random() < 0.2:
        return
    depth = heart.length + heart.atrium[0]
    half, sag = rng.uniform(3, 7), rng.uniform(-0.5, 2.0)
    x = np.linspace(-half, half, 21) + rng.normal(-0.5, 1.0)
    top = depth + rng.uniform(-0.1, 0.3) - sag * (x / half) ** 2
    thick = rng.uniform(0.8, 3.5)
    level = rng.uniform(-5, 4)
    upper = np.stack([x, top + rng.normal(0, 0.15, x.shape)], 1)
    lower = np.stack([x, top + thick * (1 - 0.5 * (x / half) ** 2)], 1)
    layers = level + rng.uniform(1, 4) * smooth_noise(rng, p.db.shape, (70, 7))
    m = p.mask(np.concatenate([upper, lower[::-1]]))
    m = np.asarray(cv2.GaussianBlur(m, (0, 0), rng.uniform(0.1, 0.5) * PER_CM), np.float32)
    p.db += m * (layers - p.db)
    p.stroke(upper, rng.uniform(0.1, 0.3), rng.uniform(0, 5), add=True)
    # The lateral wall goes on below the annulus, round the atrium.
    strip = heart.left_atrium(heart.at(0.0))[41:] + np.array([rng.uniform(0.2, 0.6), 0.0])
    p.stroke(strip, rng.uniform(0.5, 2.0), level - rng.uniform(0, 4))


def _right_outlines(rng: np.random.Generator, heart: Heart) -> list[Floats]:
    """Right ventricle and right atrium, left of the septa; none in a two-chamber view."""
    if heart.ventricle <= 0:
        return []
    s = np.linspace(rng.uniform(0.15, 0.4), 1.0, 25)
    u = (s - s[0]) / (s[-1] - s[0])
    septum = np.interp(s, S, heart.axis[0]) - np.interp(s, S, heart.outer[SEPTAL])
    free = septum - heart.ventricle * np.sqrt(u) * (1 - 0.15 * u**3)
    z = s * heart.length
    tilt = rng.uniform(-0.8, 0.2) * u
    free_side = np.stack([free, z + tilt], 1)
    room = np.concatenate([np.stack([septum, z], 1), free_side[::-1]])
    depth = heart.atrium[0] * rng.uniform(0.75, 1.1)
    v = np.linspace(0.0, 1.0, 30)
    reach = 0.5 * (septum[-1] - free[-1])
    middle = 0.5 * (septum[-1] + free[-1]) - rng.uniform(0, 0.3) * v
    half = reach * (0.9 + 0.35 * np.sin(math.pi * v)) * np.sqrt(1 - v**4)
    down = heart.length + depth * v
    sides = np.stack([middle - half, down], 1), np.stack([middle + half, down], 1)
    return [room, np.concatenate([sides[0], sides[1][::-1]])]


def _right_heart(rng: np.random.Generator, p: Painter, right: list[Floats]) -> None:
    """The thin walls of the right heart, and what lies in its ventricle."""
    if not right:
        return
    room, atrium = right
    level, thick = rng.uniform(-22, -3), rng.uniform(0.25, 0.7)
    p.stroke(room[25:], thick, level)
    p.stroke(atrium[:30], 0.8 * thick, level - rng.uniform(-3, 4))
    for _ in range(rng.integers(0, 4)):  # moderator band, trabeculae
        i = rng.integers(3, 14)
        f = rng.uniform(0.1, 0.95, 2)[:, None]
        ends = room[[i, i + 3]] + f * (room[[49 - i, 46 - i]] - room[[i, i + 3]])
        p.stroke(ends, rng.uniform(0.15, 0.5), rng.uniform(-18, -5))


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
        centre = hinge + np.array([out * 0.8 * r, rng.uniform(-0.2, 0.3)])
        ring = centre + r * np.stack([np.cos(a), rng.uniform(0.7, 1.4) * np.sin(a)], 1)
        p.fill(ring, rng.uniform(-3, 5))
    if heart.ventricle > 0 and rng.random() < 0.25:  # a vessel cut across, below the septum
        a = np.linspace(0, 2 * math.pi, 24)
        septal = heart.annulus(heart.at(0.0))[0]
        centre = septal + np.array([-rng.uniform(0.4, 1.2), rng.uniform(0.6, 1.8)])
        p.fill(centre + rng.uniform(0.4, 1.0) * np.stack([np.cos(a), np.sin(a)], 1), BLOOD_DB)


def _inside(rng: np.random.Generator, p: Painter, heart: Heart) -> None:
    """Papillary muscles, tendons, trabeculae: they move with the walls, within the cavity label."""

    def spot(s: float, u: float) -> tuple[float, float]:
        half = float(np.interp(s, S, heart.inner[SEPTAL if u < 0 else LATERAL]))
        return float(np.interp(s, S, heart.axis[0])) + u * half, s * heart.length

    for _ in range(rng.integers(0, 3)):
        s, side = rng.uniform(0.3, 0.65), rng.choice([1.0, 1.0, -1.0])
        root = spot(s - rng.uniform(0.05, 0.2), side)
        line = np.array([root, spot(s + 0.1, side * rng.uniform(0.6, 0.85))])
        p.stroke(line, rng.uniform(0.25, 0.8), rng.uniform(-14, -2))
    for _ in range(rng.poisson(rng.choice([4, 14]))):
        s = rng.uniform(0.02, 0.85) ** 1.4
        u = rng.uniform(-1, 1) if s < 0.3 else rng.choice([-1, 1]) * rng.uniform(0.6, 1.0)
        at = np.array([spot(s, u), spot(s + rng.uniform(0, 0.05), u * rng.uniform(0.9, 1))])
        p.stroke(at, rng.uniform(0.06, 0.3), rng.uniform(-16, 0))
    if rng.random() < 0.25:
        s = rng.uniform(0.15, 0.6)
        line = np.array([spot(s, -1.0), spot(s + rng.normal(0, 0.12), 1.0)])
        p.stroke(line, 0.1, rng.uniform(-16, -6))
