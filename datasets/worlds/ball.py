"""A ball in a box: hidden gravity, restitution and drag."""

from __future__ import annotations

import numpy as np

from retain.datasets.worlds.config import BOX, SUBSTEPS
from retain.datasets.worlds.motion import Array, Motion, between, disc

RADIUS = 1.7
GRAVITY = 0.3
"""The largest magnitude."""
DRAG = 0.1
SPEED = 1.0
"""The fastest that the first two frames show."""
SECTOR = np.pi / 6
"""Half the angle around straight up that only odd worlds use."""
LAW_DRAWS, STATE_DRAWS = 5, 4


def laws(uniform: Array, odd: Array | None) -> Array:
    """f64[W, 4] as ``PARAMS``, from uniform numbers [W, LAW_DRAWS].

    ``odd`` names a law per world (str[W]), None is the usual prior: any direction but the sector,
    magnitudes with the square root, so that gravity is uniform over its disc.
    """
    away = between(SECTOR, 2 * np.pi - SECTOR, uniform[:, 0])
    size = GRAVITY * np.sqrt(uniform[:, 1])
    if odd is not None:
        away = np.where(odd == "sector", between(-SECTOR, SECTOR, uniform[:, 0]), away)
        away = np.where(odd == "up", 0.0, away)
        size = np.where(odd == "strong", GRAVITY * between(1.0, 1.3, uniform[:, 1]), size)
    gravity = size[:, None] * np.stack((np.sin(away), -np.cos(away)), -1)
    rest = between(0.4, 1.0, uniform[:, 2])
    return np.column_stack((gravity, rest, DRAG * uniform[:, 3]))


def motion(
    law: Array, uniform: Array, radius: Array, frames: int, pace: float, flip: Array
) -> Motion:
    """Of W worlds' laws [W, 4], K clips from uniform numbers [W, K, STATE_DRAWS], radii [W, K].

    The first two frames follow from the state alone: whatever the law, they are the same. Then
    semi-implicit Euler; what passes a wall comes back with the restitution's share of the way.
    ``flip`` [W] says where gravity turns round half-way.
    """
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
        pull = np.where(flip[:, None, None] & (2 * frame > frames), -gravity, gravity)
        for _ in range(SUBSTEPS):
            speed = (speed + h * pull) * keep
            place = place + h * speed
            over = np.maximum(low - place, 0) - np.maximum(place - high, 0)
            struck = over != 0
            place = place + (1 + rest) * over
            speed = np.where(struck, -rest * speed, speed)
            hits[:, :, frame, 0] |= struck.any(-1)
        centres[:, :, frame, 0] = place
    held = np.broadcast_to(gravity, place.shape)
    return Motion(centres, hits, held, np.ones((len(law), 1)), np.zeros((*place.shape[:2], 0)))


def _launch(velocity: Array, gravity: Array, keep: Array, h: float) -> Array:
    """Velocity at the second frame with which the law, run backwards, meets the first.

    A substep back is v / keep - h g, so the way back is h (A v - h g B) with the sums below.
    """
    back = keep[..., None] ** -np.arange(float(SUBSTEPS))
    total, earlier = back.sum(-1), (np.cumsum(back, -1) - back).sum(-1)
    launched: Array = (SUBSTEPS * velocity + h * gravity * earlier) / total
    return launched
