"""What varies between the phantom's clips besides the heart: machine, window, placement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from retain.datasets.echo.phantom_heart import Heart, Pose
from retain.datasets.echo.phantom_marks import draw_marks
from retain.datasets.echo.phantom_paint import Plane, smooth_noise
from retain.datasets.echo.phantom_render import LINES, ROWS, Look


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What a preset changes."""

    blood: tuple[float, float]
    haze: tuple[float, float]
    patch: float
    """sd of the patchy gain, dB."""
    shadow: float
    """Chance of each of two shadows."""
    edge: float
    """Chance that a side of the fan fades."""
    hard: float
    """0..1: how much of the walls is missing."""
    finish: float
    """Chance of each finish: blur, sharpening, median, compression, marks."""
    rough: float
    """How far the fan may be off its place, fraction of the side."""


DIFFICULTY = {
    "easy": Difficulty((-34, -24), (-30, -18), 1.5, 0.1, 0.2, 0.0, 0.1, 0.0),
    "default": Difficulty((-34, -17), (-26, 0), 3.0, 0.3, 0.7, 0.5, 0.3, 0.012),
    "poor": Difficulty((-24, -11), (-14, 3), 4.5, 0.6, 0.8, 1.0, 0.45, 0.02),
}


def draw_look(
    rng: np.random.Generator, level: Difficulty, size: int, half_angle: float, depth: float
) -> Look:
    """A machine and a window: half-angle (rad) and depth (cm) of the fan, side of the grid."""
    near = rng.uniform(0.6, 1.5)
    smoothing = (0.0, 0.0)
    if rng.random() < 0.75:
        smoothing = (rng.uniform(0.6, 2.8), rng.uniform(0.0, 1.4))
    some = level.finish
    return Look(
        half_angle=half_angle,
        start=rng.uniform(0.0, 0.06),
        depth_cm=depth,
        blood_db=rng.uniform(*level.blood),
        noise_db=rng.uniform(-60, -40),
        haze_db=rng.uniform(*level.haze),
        haze_reach=rng.uniform(0.12, 0.45),
        rings=tuple(
            (rng.uniform(0.02, 0.16), rng.uniform(0.004, 0.015), rng.uniform(-6, 6))
            for _ in range(rng.integers(0, 5))
        ),
        lateral=(near, near + rng.uniform(0.6, 3.2)),
        lobe=rng.uniform(0.0, 0.06),
        axial=rng.uniform(0.7, 1.5),
        compound=smoothing,
        range_db=rng.uniform(38, 65),
        myocardium=rng.uniform(0.38, 0.75),
        gamma=math.exp(rng.uniform(math.log(0.9), math.log(2.6))),
        beam_gain=_beam_gain(rng, level, half_angle, depth),
        persistence=rng.uniform(0.1, 0.5) if rng.random() < 0.5 else 0.0,
        blur=rng.uniform(0.35, 1.1) if rng.random() < 0.3 + some else 0.0,
        sharpen=rng.uniform(0.3, 1.2) if rng.random() < some * 0.6 else 0.0,
        median=bool(rng.random() < some * 0.5),
        jpeg=int(rng.integers(35, 95)) if rng.random() < some else 0,
        marks=draw_marks(rng, size, half_angle) if rng.random() < some * 0.5 else None,
        leaflet_db=rng.uniform(0, 12),
    )


def _beam_gain(rng: np.random.Generator, level: Difficulty, half: float, depth: float) -> Plane:
    r = ((np.arange(ROWS) + 0.5) / ROWS)[:, None]
    a = ((np.arange(LINES) + 0.5) / LINES * 2 - 1)[None] * half
    db = level.patch * smooth_noise(rng, (ROWS, LINES), (depth / 2.0, 6)).astype(np.float64)
    db += rng.uniform(-0.5, 0.1) * r * depth * 0.6
    db += np.interp(r, np.linspace(0, 1, 8), rng.normal(0, 2.0, 8))
    db += rng.uniform(0, 1.5) * smooth_noise(rng, (ROWS, LINES), (2, 40))
    for side in (-1, 1):
        if rng.random() < level.edge:
            start, deep = rng.uniform(0.3, 0.95) * half, rng.uniform(10, 40)
            fade = np.clip((side * a - start) / (half - start + 0.05), 0, 1)
            begin = rng.uniform(
                0.05, 0.5
            )  # chest wall fills the fan above; lung hides what is below
            db -= deep * fade * np.clip((r - begin) / rng.uniform(0.1, 0.4), 0, 1)
    for _ in range(2):
        if rng.random() < level.shadow:
            at, wide = rng.uniform(-half, half), rng.uniform(0.03, 0.14)
            begin = rng.uniform(0.02, 0.5)
            fall = np.clip((r - begin) / 0.1, 0, 1)
            db -= rng.uniform(5, 16) * np.exp(-(((a - at) / wide) ** 2)) * fall
    return np.asarray(10 ** (db / 20), np.float32)


def draw_pose(rng: np.random.Generator, heart: Heart) -> tuple[Pose, float, float]:
    """(pose, half-angle, depth in cm): a placement with nearly all of the cavity inside the fan."""
    for _ in range(60):
        half = math.radians(rng.uniform(30, 50) if rng.random() < 0.5 else rng.uniform(37, 47))
        part = rng.uniform(0.36, 0.72) if rng.random() < 0.4 else rng.uniform(0.36, 0.52)
        depth = float(np.clip(heart.length / part, 9.5, 22.0))
        top = rng.uniform(0.09, 0.34) * depth
        tilt = math.radians(float(np.clip(rng.normal(0, 9), -24, 24)))
        # The middle of the ventricle, not its apex, is what is kept near the middle of the fan.
        middle = rng.normal(0.05, 0.09) * depth
        mirror = -1.0 if rng.random() < 0.08 else 1.0
        x = middle + 0.5 * heart.length * math.sin(tilt)
        pose = Pose(x, top, tilt, mirror, rng.normal(0.0, 0.12))
        outline = pose.place(heart.cavity(heart.at(0.0)))
        angle, radius = np.arctan2(outline[:, 0], outline[:, 1]), np.hypot(*outline.T)
        outside = (np.abs(angle) > half) | (radius > 0.97 * depth)
        if outside.mean() < (0.12 if rng.random() < 0.15 else 0.01):
            return pose, half, depth
    return Pose(0.0, 0.2 * heart.length, 0.0, 1.0, 0.0), math.radians(42), heart.length / 0.5
