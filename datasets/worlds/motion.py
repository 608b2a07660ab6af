"""What the simulators of the kinds share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Names = NDArray[np.str_]
Flags = NDArray[np.bool_]

USUAL = "usual"
"""The name of a law within the prior."""


class Motion(NamedTuple):
    """Of W worlds with K clips of N objects, in units of length and time."""

    centres: Array
    """f64[W, K, T, N, 2], (x, y), y down, within 0..BOX."""
    hits: Flags
    """bool[W, K, T, N]: something struck or came to rest between the frame before and this one."""
    gravity: Array
    """f64[W, K, 2]: acceleration whose potential the energy counts, before it flips."""
    mass: Array
    """f64[W, N]."""
    slope: Array | None = None
    """f64[W, K]: of the ground, in radians, falling towards larger x when positive."""
    pivot: bool = False
    """A rod leads to the middle of the box."""


class Simulator(NamedTuple):
    """One kind of world."""

    radius: float
    """Of its objects."""
    law_draws: int
    state_draws: int
    laws: Callable[[Array, Names], Array]
    """(uniform f64[W, law_draws], name of each world's law str[W]) -> f64[W, P] as ``PARAMS``."""
    motion: Callable[[Array, Array, Array, int, float, Flags], Motion]
    """(laws f64[W, P], uniform f64[W, K, state_draws], radius f64[W, K], frames, units of time per
    frame, worlds bool[W] whose gravity turns round half-way). The first two frames follow from the
    state alone: whatever the law, they are the same."""
    in_pixels: Callable[[float, float], tuple[float, ...]]
    """(pixels per unit, units of time per frame) -> what the P parameters are multiplied with."""


def between(low: float | Array, high: float | Array, uniform: Array) -> Array:
    """Uniform numbers 0..1 brought to low..high."""
    return low + (high - low) * uniform


def pointing(angle: Array) -> Array:
    """Unit vectors [..., 2]."""
    return np.stack((np.cos(angle), np.sin(angle)), -1)


def disc(radius: float, angle: Array, area: Array) -> Array:
    """Points [..., 2] uniform in a disc, from two uniform numbers 0..1."""
    points: Array = radius * np.sqrt(area)[..., None] * pointing(2 * np.pi * angle)
    return points


def pull(strength: Array, flip: Flags, frame: int, frames: int) -> Array:
    """Gravity [W, ...] on the way to a frame: turned round in the second half where it flips."""
    turned = flip.reshape(-1, *[1] * (strength.ndim - 1)) & (2 * frame > frames)
    return np.where(turned, -strength, strength)
