# mypy: disallow-untyped-decorators=False
"""How the phantom's heart moves: the cycle, the walls at a moment, and where a point came from.

Tissue is described once, at end-diastole, in heart coordinates: x across the ventricle (lateral
wall positive), z along it from apex to base, centimetres. A moment is a contraction c in [0, 1].
The base moves towards the fixed apex, the cavity narrows, the wall thickens and keeps its volume.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

S_MIN, S_STEP, S_COUNT = -1.0, 0.01, 401
"""Tables along the long axis: s = z / length, from one length above the apex to two below."""

SEPTAL, LATERAL = 0, 1

_compiled = njit(cache=True, nogil=True)


@dataclass(frozen=True, slots=True)
class Cycle:
    """Timing of one beat, parts of its length."""

    systole: float
    early: float = 0.42
    """Part of diastole the early filling takes."""
    kick: float = 0.28
    """Part of diastole, at its end, the atrial contraction takes."""
    early_share: float = 0.72
    """How much of the filling comes early."""

    def contraction(self, phase: float) -> float:
        """c at a phase in [0, 1): 0 at end-diastole, 1 at end-systole."""
        if phase < self.systole:
            return 0.5 - 0.5 * math.cos(math.pi * phase / self.systole)
        d = (phase - self.systole) / (1.0 - self.systole)
        early = _rise(d / self.early)
        late = _rise((d - (1.0 - self.kick)) / self.kick)
        return 1.0 - self.early_share * early - (1.0 - self.early_share) * late

    def opening(self, phase: float) -> float:
        """How far the mitral leaflets are open, 0 to 1; the tricuspid ones go with them."""
        if phase < self.systole:
            return max(0.0, 0.2 - phase / 0.1)
        d = (phase - self.systole) / (1.0 - self.systole)
        early = _bump(d, 0.03, 0.16, self.early + 0.12)
        late = 0.8 * _bump(d, 1.0 - self.kick - 0.02, 1.0 - 0.6 * self.kick, 1.03)
        rest = 0.35 * _bump(d, 0.1, 0.45, 1.0)
        return max(early, late, rest)


def _rise(x: float) -> float:
    return 0.5 - 0.5 * math.cos(math.pi * min(max(x, 0.0), 1.0))


def _bump(x: float, start: float, top: float, end: float) -> float:
    if x <= start or x >= end:
        return 0.0
    return _rise((x - start) / (top - start)) if x < top else _rise((end - x) / (end - top))


@dataclass(frozen=True, slots=True)
class Walls:
    """The ventricle at a moment, as tables over s [2 sides, S_COUNT], centimetres."""

    inner: Floats
    outer: Floats
    shortening: float
    """Longitudinal: the base stands at length * (1 - shortening)."""


@_compiled
def _at(table: Any, side: int, s: float) -> float:
    p = (s - S_MIN) / S_STEP
    p = min(max(p, 0.0), S_COUNT - 1.001)
    i = int(p)
    f = p - i
    return table[side, i] * (1.0 - f) + table[side, i + 1] * f  # type: ignore[no-any-return]


@_compiled
def origins(
    points: Any,
    pose: Any,
    inner0: Any,
    inner: Any,
    outer: Any,
    axis: Any,
    extra: Any,
    canvas: Any,
    out_x: Any,
    out_y: Any,
) -> None:
    """Where on the painted canvas (end-diastole) the tissue now at ``points`` lies.

    points   [N, 2] float32, probe coordinates (across, depth), cm
    pose     apex x, apex depth, cos, sin of the tilt, mirror (+1, -1), shear
    inner0, inner, outer   tables of the walls at end-diastole and now
    axis     [1, S_COUNT] centre line
    extra    length, shortening now, depth at which motion has died away (cm below the base),
             right ventricle's width (cm), its contraction now
    canvas   x0, z0 (cm) of the first pixel, pixels per cm
    out_x, out_y   [N] float32
    """
    length, shortening, fixed, rv, squeeze = extra[0], extra[1], extra[2], extra[3], extra[4]
    base = length * (1.0 - shortening)
    for i in range(points.shape[0]):
        dx, dz = points[i, 0] - pose[0], points[i, 1] - pose[1]
        x = pose[4] * (pose[2] * dx + pose[3] * dz)
        z = -pose[3] * dx + pose[2] * dz - pose[5] * x
        if z <= 0.0:
            zm = z
            share = max(0.0, 1.0 + z / 1.5)
        elif z <= base:
            zm = z / (1.0 - shortening)
            share = 1.0
        else:
            f = min((z - base) / (fixed + length - base), 1.0)
            zm = z + (length - base) * (1.0 - f) * (1.0 - f) * (1.0 + 2.0 * f)
            share = 1.0 - f
        s = zm / length
        x -= _at(axis, 0, s)
        side = 0 if x < 0 else 1
        r = abs(x)
        w0, wt, rt = _at(inner0, side, s), _at(inner, side, s), _at(outer, side, s)
        if r <= wt:
            r0 = r * w0 / max(wt, 1e-6)
        else:
            grow = 1.0 - shortening * share
            full = math.sqrt(max(w0 * w0 + (r * r - wt * wt) * grow, 0.0))
            away = max(r - rt, 0.0)
            r0 = r + (full - r) * math.exp(-away / 1.8)
            if side == 0 and squeeze > 0.0:
                r0 += squeeze * rv * min(away / rv, math.exp(1.0 - away / rv))
        xm = (r0 if side == 1 else -r0) + _at(axis, 0, s)
        out_x[i] = (xm - canvas[0]) * canvas[2]
        out_y[i] = (zm - canvas[1]) * canvas[2]


@_compiled
def fill(polygon: Any, out: Any, value: int) -> None:
    """Set the pixels of ``out`` [H, W] whose centre (integers) is in ``polygon`` [N, 2] (x, y)."""
    n = polygon.shape[0]
    crossings = np.empty(n, np.float64)
    for y in range(out.shape[0]):
        count = 0
        for i in range(n):
            ya, yb = polygon[i, 1], polygon[(i + 1) % n, 1]
            if (ya <= y) != (yb <= y):
                xa, xb = polygon[i, 0], polygon[(i + 1) % n, 0]
                crossings[count] = xa + (y - ya) * (xb - xa) / (yb - ya)
                count += 1
        crossings[:count].sort()
        for k in range(0, count - 1, 2):
            first = max(math.ceil(crossings[k]), 0)
            last = min(math.ceil(crossings[k + 1]), out.shape[1])
            for x in range(first, last):
                out[y, x] = value


def disks(polygon: Floats, apex: Floats, base: Floats, count: int = 64) -> float:
    """Single-plane volume by disks, in the polygon's unit cubed: pi/4 * sum of chord² * step.

    Chords are perpendicular to the line from ``apex`` to ``base`` (the middle of the mitral plane).
    """
    along = base - apex
    length = float(np.hypot(*along))
    unit = along / length
    v = (polygon - apex) @ unit
    u = (polygon - apex) @ np.array([-unit[1], unit[0]])
    v2, u2 = np.roll(v, -1), np.roll(u, -1)
    at = (np.arange(count)[:, None] + 0.5) * length / count
    crosses = (v <= at) != (v2 <= at)
    step = np.where(v2 == v, 1.0, v2 - v)
    hit = u + (at - v) * (u2 - u) / step
    high = np.where(crosses, hit, -np.inf).max(1)
    low = np.where(crosses, hit, np.inf).min(1)
    chords = np.where(crosses.any(1), high - low, 0.0)
    return float(np.pi / 4 * (chords**2).sum() * length / count)
