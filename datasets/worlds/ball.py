"""A ball in a box: hidden gravity, restitution and drag."""

from __future__ import annotations

import numpy as np

from retain.datasets.worlds.config import BOX, SUBSTEPS
from retain.datasets.worlds.motion import (
    Array,
    Flags,
    Motion,
    Names,
    Simulator,
    between,
    disc,
    pull,
)

RADIUS = 1.7
GRAVITY = 0.3
"""The largest magnitude."""
DRAG = 0.1
SPEED = 1.0
"""The fastest that the first two frames show."""
SECTOR = np.pi / 6
"""Half the angle around straight up that only odd worlds use."""


def laws(uniform: Array, names: Names) -> Array:
    """f64[W, 4] as ``PARAMS``.

    Usual: any direction but the sector, and the root of a uniform magnitude, so that gravity is
    uniform over its disc.
    """
    away = between(SECTOR, 2 * np.pi - SECTOR, uniform[:, 0])
    away = np.where(names == "sector", between(-SECTOR, SECTOR, uniform[:, 0]), away)
    away = np.where(names == "up", 0.0, away)
    strong = between(1.0, 1.3, uniform[:, 1])
    size = GRAVITY * np.where(names == "strong", strong, np.sqrt(uniform[:, 1]))
    rest = between(0.4, 1.0, uniform[:, 2])
    return np.column_stack((size * np.sin(away), -size * np.cos(away), rest, DRAG * uniform[:, 3]))


def motion(
    law: Array, uniform: Array, radius: Array, frames: int, pace: float, flip: Flags
) -> Motion:
    """Semi-implicit Euler; behind a wall the restitution's share of the way is left."""
    velocity = disc(SPEED, uniform[..., 0], uniform[..., 1])
    low, high = radius[..., None], BOX - radius[..., None]
    step = pace * velocity
    middle = between(low + abs(step) / 2, high - abs(step) / 2, uniform[..., 2:4])
    h = pace / SUBSTEPS
    gravity, rest = law[:, None, :2], law[:, None, 2:3]
    keep = 1 - h * law[:, None, 3:4]
    place, speed = middle + step / 2, _launch(velocity, gravity, keep, h)
    centres = np.empty((*place.shape[:2], frames, 1, 2))
    hits = np.zeros(centres.shape[:-1], bool)
    centres[:, :, 0, 0], centres[:, :, 1, 0] = middle - step / 2, place
    for frame in range(2, frames):
        force = pull(gravity, flip, frame, frames)
        for _ in range(SUBSTEPS):
            speed = (speed + h * force) * keep
            place = place + h * speed
            over = np.maximum(low - place, 0) - np.maximum(place - high, 0)
            struck = over != 0
            place = place + (1 + rest) * over
            speed = np.where(struck, -rest * speed, speed)
            hits[:, :, frame, 0] |= struck.any(-1)
        centres[:, :, frame, 0] = place
    return Motion(centres, hits, np.broadcast_to(gravity, place.shape), np.ones((len(law), 1)))


def _launch(velocity: Array, gravity: Array, keep: Array, h: float) -> Array:
    """Velocity at the second frame with which the law, run backwards, meets the first.

    A substep back is v / keep - h g, so the way back is h (A v - h g B) with the sums below.
    """
    back = keep[..., None] ** -np.arange(float(SUBSTEPS))
    total, earlier = back.sum(-1), (np.cumsum(back, -1) - back).sum(-1)
    launched: Array = (SUBSTEPS * velocity + h * gravity * earlier) / total
    return launched


def _in_pixels(scale: float, pace: float) -> tuple[float, ...]:
    return scale * pace**2, scale * pace**2, 1.0, pace


SIMULATOR = Simulator(RADIUS, 4, 4, laws, motion, _in_pixels)
