"""The phantom's heart: its shape, its pose before the probe, its outlines and its exact volumes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.phantom_motion import (
    LATERAL,
    S_COUNT,
    S_MIN,
    S_STEP,
    SEPTAL,
    Floats,
    Walls,
    disks,
)

S = S_MIN + S_STEP * np.arange(S_COUNT)


@dataclass(frozen=True, slots=True)
class Pose:
    """Apex (cm across, cm deep), tilt (rad), mirror (-1: lateral wall left), shear of the base."""

    x: float
    depth: float
    tilt: float
    mirror: float
    shear: float

    def array(self) -> Floats:
        """As ``origins`` takes it."""
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        return np.array([self.x, self.depth, c, s, self.mirror, self.shear])

    def place(self, points: Floats) -> Floats:
        """Heart coordinates [N, 2] to probe coordinates [N, 2], cm."""
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        x, z = points[:, 0], points[:, 1] + self.shear * points[:, 0]
        across, down = self.mirror * x, z
        return np.stack([self.x + c * across - s * down, self.depth + s * across + c * down], 1)


@dataclass(frozen=True, slots=True)
class Heart:
    """A heart at end-diastole and how it contracts. Lengths in cm."""

    length: float
    inner: Floats
    """Half-widths of the cavity, [2, S_COUNT]."""
    outer: Floats
    """Half-widths to the outer surface of the myocardium."""
    axis: Floats
    """Centre line, [1, S_COUNT]."""
    wall: float
    """Thickness at the apex."""
    shortening: float
    narrowing: float
    """Radial, at c = 1, where the wall moves normally."""
    regional: Floats
    """How much of the narrowing each place does, [2, S_COUNT]."""
    atrium: tuple[float, float, float]
    """Depth, half-width, sideways shift of the left atrium."""
    ventricle: float
    """Width of the right ventricle; 0 in a two-chamber view."""
    squeeze: float
    """How much of that width goes at end-systole."""

    def at(self, c: float) -> Walls:
        """The walls at contraction ``c``."""
        inner = self.inner * (1.0 - c * self.narrowing * self.regional)
        shortening = c * self.shortening
        grown = inner**2 + (self.outer**2 - self.inner**2) / (1.0 - shortening)
        return Walls(inner, np.sqrt(grown), shortening)

    def cavity(self, walls: Walls) -> Floats:
        """Outline of the cavity [N, 2] in heart coordinates, septal annulus first, lateral last."""
        return self._outline(walls.inner, walls.shortening, 0.0)

    def epicardium(self, walls: Walls) -> Floats:
        """Outline of cavity and myocardium together."""
        return self._outline(walls.outer, walls.shortening, -self.wall / self.length)

    def _outline(self, table: Floats, shortening: float, top: float) -> Floats:
        s = top + (1.0 - top) * np.linspace(0.0, 1.0, 81) ** 2
        z = s * self.length * np.where(s > 0, 1.0 - shortening, 1.0)
        axis = np.interp(s, S, self.axis[0])
        left = np.stack([axis - np.interp(s, S, table[SEPTAL]), z], 1)
        right = np.stack([axis + np.interp(s, S, table[LATERAL]), z], 1)
        return np.concatenate([left[::-1], right[1:]])

    def left_atrium(self, walls: Walls) -> Floats:
        """Outline of the left atrium, from the mitral plane down."""
        depth, half, shift = self.atrium
        left, right = self.annulus(walls)
        base = self.length * (1.0 - walls.shortening)
        deep = self.length + depth
        mid = 0.5 * (left[0] + right[0])
        u = np.linspace(0.0, 1.0, 41)
        wide = half * (1.0 + 0.25 * walls.shortening)
        edge = 0.5 * (right[0] - left[0])
        # Narrow at the annulus, widest a little below the middle, round at the bottom.
        profile = edge * (1 - u) ** 3 + wide * np.sqrt(
            np.clip(1 - (2 * u - 1) ** 4, 0, 1)
        ) * np.sqrt(u)
        centre = mid + shift * u
        z = base + (deep - base) * u
        sides = [np.stack([centre - profile, z], 1), np.stack([centre + profile, z], 1)]
        return np.concatenate([sides[0], sides[1][::-1]])

    def annulus(self, walls: Walls) -> tuple[Floats, Floats]:
        """Hinges of the mitral leaflets: septal, lateral; heart coordinates."""
        outline = self.cavity(walls)
        return outline[0], outline[-1]

    def volume(self, c: float, pose: Pose) -> float:
        """Cavity volume by single-plane disks, ml."""
        outline = pose.place(self.cavity(self.at(c)))
        base = 0.5 * (outline[0] + outline[-1])
        apex = outline[np.hypot(*(outline - base).T).argmax()]
        return disks(outline, apex, base)

    def contracting(self, ef: float, pose: Pose) -> Heart:
        """The same heart, narrowing as far as the wanted ejection fraction (0..1) needs."""
        low, high = 0.0, 0.85
        wanted = (1.0 - ef) * self.volume(0.0, pose)
        heart = self
        for _ in range(18):
            heart = replace(self, narrowing=0.5 * (low + high))
            if heart.volume(1.0, pose) > wanted:
                low = heart.narrowing
            else:
                high = heart.narrowing
        return heart


def profile(s: NDArray[np.floating[Any]], power: float, widest: float, annulus: float) -> Floats:
    """Half-width of a bullet, 1 at ``widest``: a superelliptic cap, then narrowing."""
    cap = np.clip(1.0 - np.clip(s / widest, 0.0, 1.0), 0.0, 1.0)
    above = (1.0 - cap**power) ** (1.0 / power)
    below = 1.0 - (1.0 - annulus) * (np.clip(s - widest, 0.0, None) / (1.0 - widest)) ** 2
    below = np.maximum(below, annulus - 0.1)
    return np.where(s < widest, np.where(s > 0, above, 0.0), below)


def draw_heart(rng: np.random.Generator, low_ef: bool) -> Heart:
    """A heart; its narrowing is still to be set by ``contracting``."""
    length = rng.normal(8.6, 0.9)
    half = length * rng.uniform(0.24, 0.36) * (rng.uniform(1.0, 1.15) if low_ef else 1.0)
    thick = rng.choice([rng.uniform(0.65, 1.1), rng.uniform(1.1, 1.6)], p=[0.85, 0.15])
    power, widest = rng.uniform(1.6, 2.3), rng.uniform(0.45, 0.7)
    annulus = rng.uniform(0.62, 0.88)
    inner, outer = np.empty((2, S_COUNT)), np.empty((2, S_COUNT))
    top = thick * rng.uniform(0.5, 1.0)
    for side in (SEPTAL, LATERAL):
        w = half * rng.uniform(0.88, 1.12)
        p, m = power + rng.normal(0, 0.12), float(np.clip(widest + rng.normal(0, 0.06), 0.4, 0.8))
        body = profile(S, p, m, annulus + rng.normal(0, 0.04))
        for order in (1, 2, 3):
            size = rng.normal(0, 0.035 / order)
            body = body * (
                1 + size * np.sin(math.pi * order * np.clip(S, 0, 1) + rng.uniform(0, 6))
            )
        inner[side] = w * body
        h = thick * rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.1) * np.sin(3 * S))
        shell = profile((S * length + top) / (length + top), p, m, annulus + 0.05)
        outer[side] = np.maximum((w + h) * shell, np.where(S > 0, inner[side] + 0.55 * h, 0.0))
    bend = rng.normal(0, 0.02) * length
    axis = bend * np.sin(math.pi * np.clip(S, 0.0, 1.0))[None]
    regional = _regional(rng, low_ef)
    deep = rng.uniform(2.8, 5.6)
    wide = 0.5 * half * annulus * rng.uniform(0.95, 1.3) + rng.uniform(0.8, 1.7)
    has_rv = rng.random() < 0.82
    return Heart(
        length=length,
        inner=inner,
        outer=outer,
        axis=axis,
        wall=top,
        shortening=0.0,
        narrowing=0.0,
        regional=regional,
        atrium=(deep, wide, rng.normal(0, 0.3)),
        ventricle=rng.uniform(2.2, 5.5) if has_rv else 0.0,
        squeeze=rng.uniform(0.1, 0.3),
    )


def _regional(rng: np.random.Generator, low_ef: bool) -> Floats:
    regional = np.ones((2, S_COUNT))
    if rng.random() < (0.5 if low_ef else 0.15):
        side = rng.integers(2)
        at, wide = rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.35)
        regional[side] -= rng.uniform(0.4, 1.0) * np.exp(-(((S - at) / wide) ** 2))
        if at < 0.3:
            regional[1 - side] -= rng.uniform(0.2, 0.9) * np.exp(-(((S - at) / wide) ** 2))
    # The atrial walls keep their place while the ventricle narrows above them.
    return regional * np.clip(1.0 - (S - 1.0) / 0.35, 0.0, 1.0)
