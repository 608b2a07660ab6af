# mypy: disallow-untyped-decorators=False
"""Speckle: complex scatterers seen through a point spread that widens with depth."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

Complex = NDArray[np.float32]
"""[2, ...]: real and imaginary part."""

_compiled = njit(cache=True, nogil=True, fastmath=True)


def scatterers(rng: np.random.Generator, shape: tuple[int, int]) -> Complex:
    """Complex Gaussian scatterers of unit mean power, [2, H, W] float32."""
    return rng.standard_normal((2, *shape), dtype=np.float32) * np.float32(math.sqrt(0.5))


POOL = 1024


@cache
def _pool(smooth: float) -> Complex:
    """Scatterers to cut pieces from, [2, POOL, POOL]: drawing anew costs half a frame's time."""
    pool = scatterers(np.random.default_rng(0), (POOL, POOL))
    if smooth > 0:
        pool = np.stack([cv2.GaussianBlur(part, (0, 0), smooth) for part in pool])
        pool /= np.sqrt((pool**2).sum(0).mean())
    pool.flags.writeable = False
    return pool


def piece(rng: np.random.Generator, shape: tuple[int, int], smooth: float = 0.0) -> Complex:
    """Scatterers like ``scatterers``', cut at random from a fixed pool, turned and phase-shifted.

    smooth   sigma (pixels) of a blur that keeps unit power, so that sampling between pixels does
    """
    y, x = (int(rng.integers(POOL - n + 1)) for n in shape)
    cut = _pool(smooth)[:, y : y + shape[0], x : x + shape[1]]
    way = int(rng.integers(8))
    cut = cut[:: -1 if way & 4 else 1, :: -1 if way & 1 else 1, :: -1 if way & 2 else 1]
    return np.array(cut, np.float32, order="C")


def lateral_kernels(
    rows: int, near: float, far: float, lobe: float, lobe_width: float
) -> NDArray[np.float32]:
    """Point spread across the beams for every depth sample, [rows, taps], unit energy each.

    near, far    sigma in lines at the probe and at full depth
    lobe         amplitude of the side lobes relative to the main one; lobe_width: their sigma
    """
    reach = math.ceil(max(3.0 * far, 2.2 * lobe_width if lobe > 0 else 0.0))
    taps = np.arange(-reach, reach + 1)
    sigma = np.linspace(near, far, rows)[:, None]
    kernel = np.exp(-0.5 * (taps / sigma) ** 2)
    # Alternating sign, as a beam's lobes have: they smear bright walls, not a mean level.
    kernel += lobe * np.exp(-0.5 * (taps / lobe_width) ** 2) * np.cos(np.pi * taps / 3.0)
    kernel /= np.sqrt((kernel**2).sum(1, keepdims=True))
    return kernel.astype(np.float32)


def axial_kernel(sigma: float) -> NDArray[np.float32]:
    """Point spread along the beam, [taps], unit energy."""
    reach = max(1, math.ceil(3.0 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (kernel / math.sqrt((kernel**2).sum())).astype(np.float32)


@_compiled
def envelope(signal: Any, axial: Any, lateral: Any, out: Any) -> None:
    """Magnitude of ``signal`` [2, rows, lines] after the point spread, into ``out`` [rows, lines].

    Unit mean power stays unit mean power in a homogeneous block away from the borders.
    """
    rows, lines = out.shape
    half_a, half_l = axial.shape[0] // 2, lateral.shape[1] // 2
    column = np.empty((2, lines + 2 * half_l), np.float32)
    for r in range(rows):
        column[:] = 0.0
        for k in range(axial.shape[0]):
            q = r + k - half_a
            if q < 0 or q >= rows:
                continue
            weight = axial[k]
            for line in range(lines):
                column[0, line + half_l] += weight * signal[0, q, line]
                column[1, line + half_l] += weight * signal[1, q, line]
        for line in range(lines):
            re, im = np.float32(0), np.float32(0)
            for k in range(lateral.shape[1]):
                weight = lateral[r, k]
                re += weight * column[0, line + k]
                im += weight * column[1, line + k]
            out[r, line] = math.sqrt(re * re + im * im)
