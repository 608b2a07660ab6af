"""A disc on a slope: hidden friction.

It speeds up by g (sin a - mu cos a) down the slope and rests once it has stopped; a wall at the
lower end takes all its speed.
"""

from __future__ import annotations

import numpy as np

from retain.datasets.worlds.config import BOX
from retain.datasets.worlds.motion import Array, Flags, Motion, Names, Simulator, between

RADIUS = 1.4
GRAVITY = 0.5
FRICTION = 0.6
SLOPE = (0.15, 0.6)
"""Radians."""
SPEED = (0.3, 1.0)
START = 2.0
"""How far from the upper end the disc may be in the first frame."""


def laws(uniform: Array, names: Names) -> Array:
    """f64[W, 1] as ``PARAMS``."""
    strong = between(1.0, 1.3, uniform[:, 0])
    return FRICTION * np.where(names == "strong", strong, uniform[:, 0])[:, None]


def motion(
    law: Array, uniform: Array, radius: Array, frames: int, pace: float, flip: Flags
) -> Motion:
    """Closed form: s + v t + a t²/2 until v is 0."""
    slope, speed = between(*SLOPE, uniform[..., 0]), between(*SPEED, uniform[..., 1])
    half = (BOX / 2 - radius) / np.cos(slope)
    accel = GRAVITY * (np.sin(slope) - law * np.cos(slope))
    first = START * uniform[..., 2] - half
    launch = np.maximum(speed + pace * accel / 2, 0)
    with np.errstate(divide="ignore"):
        rests = np.where(accel < 0, launch / -accel, np.inf)
    time = pace * np.arange(frames - 1.0)
    moving = np.minimum(time, rests[..., None])
    second = first + pace * speed
    way = second[..., None] + launch[..., None] * moving + accel[..., None] * moving**2 / 2
    way = np.concatenate((first[..., None], way), -1)
    over = way > half[..., None]
    way = np.minimum(way, half[..., None])
    ended = np.concatenate((np.zeros_like(over[..., :1]), moving < time), -1) | over
    hits = np.diff(ended, axis=-1, prepend=False)[..., None]
    side = np.where(uniform[..., 3] < 0.5, -1.0, 1.0)
    along = np.stack((side * np.cos(slope), np.sin(slope)), -1)
    centres = (BOX / 2 + way[..., None] * along[..., None, :])[..., None, :]
    gravity = np.broadcast_to((0.0, GRAVITY), along.shape)
    return Motion(centres, hits, gravity, np.ones((len(law), 1)), slope=side * slope)


def _in_pixels(scale: float, pace: float) -> tuple[float, ...]:
    return (1.0,)


SIMULATOR = Simulator(RADIUS, 1, 4, laws, motion, _in_pixels)
