"""Two balls of one size that meet: hidden mass ratio and restitution.

No gravity; walls give back all speed. The first ball is the brighter one.
"""

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
    pointing,
)

RADIUS = 1.2
RATIO = 4.0
"""The largest mass ratio, either way."""
APART = (3.8, 4.8)
"""Distance of the centres in the second frame."""
MEETING = (1.0, 2.5)
"""Units of time from the second frame until they touch."""
GLANCE = np.deg2rad(40)
"""The largest angle between the line of centres then and at contact."""
DRIFT, OFFSET = 0.3, 0.3
"""The largest speed, and distance from the middle in the second frame, of their midpoint."""


def laws(uniform: Array, names: Names) -> Array:
    """f64[W, 2] as ``PARAMS``: the ratio's logarithm is uniform."""
    usual = between(-1.0, 1.0, uniform[:, 0])
    size = np.log(RATIO * between(1.0, 1.3, abs(usual))) / np.log(RATIO)
    power = np.where(names == "strong", np.copysign(size, usual), usual)
    return np.column_stack((RATIO**power, between(0.4, 1.0, uniform[:, 1])))


def motion(
    law: Array, uniform: Array, radius: Array, frames: int, pace: float, flip: Flags
) -> Motion:
    """Straight lines; an impulse along the line of centres where the balls touch."""
    mass = np.column_stack((np.sqrt(law[:, 0]), 1 / np.sqrt(law[:, 0])))
    place, speed = _approach(uniform, radius)
    low, high = radius[..., None, None], BOX - radius[..., None, None]
    centres = np.empty((*place.shape[:2], frames, 2, 2))
    hits = np.zeros(centres.shape[:-1], bool)
    centres[:, :, 0], centres[:, :, 1] = place - pace * speed, place
    h = pace / SUBSTEPS
    for frame in range(2, frames):
        for _ in range(SUBSTEPS):
            place = place + h * speed
            over = np.maximum(low - place, 0) - np.maximum(place - high, 0)
            place, speed = place + 2 * over, np.where(over != 0, -speed, speed)
            place, speed, met = _collide(place, speed, radius, mass, law[:, None, 1])
            hits[:, :, frame] |= (over != 0).any(-1) | met[..., None]
        centres[:, :, frame] = place
    return Motion(centres, hits, np.zeros((*place.shape[:2], 2)), mass)


def _approach(uniform: Array, radius: Array) -> tuple[Array, Array]:
    """Places and velocities f64[W, K, 2, 2] from which the balls touch after a known time."""
    line = 2 * np.pi * uniform[..., 0]
    apart = between(*APART, uniform[..., 1])[..., None] * pointing(line)
    normal = pointing(line + between(-GLANCE, GLANCE, uniform[..., 2]))
    time = between(*MEETING, uniform[..., 3])[..., None]
    closing = (apart - 2 * radius[..., None] * normal) / time
    middle = BOX / 2 + disc(OFFSET, uniform[..., 4], uniform[..., 5])
    drift = disc(DRIFT, uniform[..., 6], uniform[..., 7])
    place = np.stack((middle - apart / 2, middle + apart / 2), -2)
    return place, np.stack((drift + closing / 2, drift - closing / 2), -2)


def _collide(
    place: Array, speed: Array, radius: Array, mass: Array, rest: Array
) -> tuple[Array, Array, Flags]:
    """Touching balls that close in: new places and velocities, and which clips they are.

    They are moved back to contact and on with their new speeds, by shares that leave their centre
    of mass where it was.
    """
    line = place[..., 1, :] - place[..., 0, :]
    far = np.linalg.norm(line, axis=-1)
    normal = line / np.maximum(far, 1e-9)[..., None]
    closing = ((speed[..., 0, :] - speed[..., 1, :]) * normal).sum(-1)
    deep = 2 * radius - far
    met = (deep > 0) & (closing > 0)
    share = mass[:, None, ::-1] / mass.sum(-1)[:, None, None] * np.array((-1.0, 1.0))
    along = share[..., None] * normal[..., None, :]
    kick = np.where(met, 1 + rest, 0.0)[..., None, None] * along
    return place + deep[..., None, None] * kick, speed + closing[..., None, None] * kick, met


def _in_pixels(scale: float, pace: float) -> tuple[float, ...]:
    return 1.0, 1.0


SIMULATOR = Simulator(RADIUS, 2, 8, laws, motion, _in_pixels)
