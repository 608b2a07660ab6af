"""What the simulators of the kinds share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Motion(NamedTuple):
    """Of W worlds with K clips of N objects, in units of length and time."""

    centres: Array
    """f64[W, K, T, N, 2], (x, y), y down, within 0..BOX."""
    hits: NDArray[np.bool_]
    """bool[W, K, T, N]: something struck between the frame before and this one."""
    gravity: Array
    """f64[W, K, 2]: acceleration whose potential the energy counts."""
    mass: Array
    """f64[W, N]."""
    extra: Array
    """f64[W, K, E]: what the painter draws besides (pivot, slope)."""


def between(low: float, high: float, uniform: Array) -> Array:
    """Uniform numbers 0..1 brought to low..high."""
    return low + (high - low) * uniform


def disc(radius: float, angle: Array, area: Array) -> Array:
    """Points [..., 2] uniform in a disc, from two uniform numbers 0..1."""
    turn, reach = 2 * np.pi * angle, radius * np.sqrt(area)
    return np.stack((reach * np.cos(turn), reach * np.sin(turn)), -1)
