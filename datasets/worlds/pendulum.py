"""A pendulum about the middle of the box: hidden g/l and damping. It may go over the top."""

from __future__ import annotations

import numpy as np

from retain.datasets.worlds.config import BOX, SUBSTEPS
from retain.datasets.worlds.motion import Array, Flags, Motion, Names, Simulator, between, pull

RADIUS = 1.4
STIFFNESS = (0.04, 0.5)
"""g/l."""
DAMPING = 0.1
LENGTH = (3.2, 4.3)
ANGLE, TURN = 2.4, 0.5
"""The largest angle between the first two frames, and the largest angular speed they show."""
_ROUNDS = 8


def laws(uniform: Array, names: Names) -> Array:
    """f64[W, 2] as ``PARAMS``; g/l is negative where gravity points up."""
    strong = STIFFNESS[1] * between(1.0, 1.3, uniform[:, 0])
    stiff = np.where(names == "strong", strong, between(*STIFFNESS, uniform[:, 0]))
    return np.column_stack((np.where(names == "up", -stiff, stiff), DAMPING * uniform[:, 1]))


def motion(
    law: Array, uniform: Array, radius: Array, frames: int, pace: float, flip: Flags
) -> Motion:
    """theta'' = -(g/l) sin theta - c theta', leapfrog; theta from straight down."""
    length = between(*LENGTH, uniform[..., 0])
    middle = between(-ANGLE, ANGLE, uniform[..., 1])
    step = pace * between(-TURN, TURN, uniform[..., 2])
    stiff, damping, h = law[:, :1], law[:, 1:], pace / SUBSTEPS
    angle, first = middle + step / 2, middle - step / 2
    turn = step / pace
    for _ in range(_ROUNDS):  # each leaves about a sixth of the miss
        back = _advance(angle, turn, stiff, damping, -h)[0]
        turn = turn + (back - first) / pace
    angles = [first, angle]
    for frame in range(2, frames):
        angle, turn = _advance(angle, turn, pull(stiff, flip, frame, frames), damping, h)
        angles.append(angle)
    theta = np.stack(angles, -1)
    reach = length[..., None, None] * np.stack((np.sin(theta), np.cos(theta)), -1)
    centres = (BOX / 2 + reach)[..., None, :]
    gravity = np.stack((np.zeros_like(length), stiff * length), -1)
    hits = np.zeros(centres.shape[:-1], bool)
    return Motion(centres, hits, gravity, np.ones((len(law), 1)), pivot=True)


def _advance(
    angle: Array, turn: Array, stiff: Array, damping: Array, h: float
) -> tuple[Array, Array]:
    """One frame on, or back with a negative h: a step and its reverse cancel exactly."""
    for _ in range(SUBSTEPS):
        turn = turn * (1 - h * damping / 2) - h / 2 * stiff * np.sin(angle)
        angle = angle + h * turn
        turn = (turn - h / 2 * stiff * np.sin(angle)) / (1 + h * damping / 2)
    return angle, turn


def _in_pixels(scale: float, pace: float) -> tuple[float, ...]:
    return pace**2, pace


SIMULATOR = Simulator(RADIUS, 2, 3, laws, motion, _in_pixels)
