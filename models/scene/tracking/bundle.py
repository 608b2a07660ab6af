# mypy: disallow-untyped-decorators=False
"""Bundle adjustment of a window: poses and points that agree best with where corners were seen.

Levenberg-Marquardt with the points eliminated (Schur complement; Triggs et al., 2000). The
elimination is compiled: each point sees few cameras, too few for products of matrices to pay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera

Floats = NDArray[np.float64]

HUBER = 1.5
"""Standard deviations: from here on the loss grows linearly."""
GATE = 5.991
"""Chi-squared of two degrees at 95 percent: what is farther off is no observation."""
_BEHIND = 1e-3
_compiled = njit(cache=True, nogil=True)
_ENOUGH = 1e-3
"""Relative gain of a step that is not worth another one."""


@dataclass(frozen=True, slots=True)
class Window:
    """C cameras, P points, M observations (each pair of camera and point at most once).

    w2c     float64 [C, 4, 4]
    free    bool [C]: which cameras may move
    points  float64 [P, 3], world
    view, point  int64 [M]: camera and point of an observation
    uv      float64 [M, 2], pixels
    sigma   float64 [M], pixels: standard deviation
    """

    w2c: Floats
    free: NDArray[np.bool_]
    points: Floats
    view: NDArray[np.int64]
    point: NDArray[np.int64]
    uv: Floats
    sigma: Floats


@dataclass(frozen=True, slots=True)
class Adjusted:
    w2c: Floats
    points: Floats
    good: NDArray[np.bool_]
    """[M]: observations within the gate, in front of their camera."""
    cost: float
    """Robust cost per observation; 1 where errors are as large as their deviations say."""


def adjust(window: Window, camera: Camera, steps: int = 8) -> Adjusted:
    """At most ``steps`` accepted steps. Without any free camera only points move."""
    w2c, points = window.w2c.copy(), window.points.copy()
    cost, damping = _cost(window, camera, w2c, points), 1e-4
    for _ in range(steps):
        system = _System(window, camera, w2c, points)
        gained = 0.0
        for _ in range(4):
            twists, shifts = system.step(damping)
            moved = np.array([rigid.exp(t) @ m for t, m in zip(twists, w2c, strict=True)])
            tried = _cost(window, camera, moved, points + shifts)
            if tried < cost:
                w2c, points, gained, cost = moved, points + shifts, (cost - tried) / cost, tried
                damping = max(damping / 5, 1e-7)
                break
            damping *= 10
        if gained < _ENOUGH:
            break
    error, z = errors(window, camera, w2c, points)
    good = (error < GATE) & (z > _BEHIND)
    return Adjusted(w2c, points, good, cost / max(len(window.uv), 1))


def errors(window: Window, camera: Camera, w2c: Floats, points: Floats) -> tuple[Floats, Floats]:
    """Squared errors [M] in standard deviations, and depths [M]."""
    r, seen = _residuals(window, camera, w2c, points)
    return np.einsum("mi,mi->m", r, r), seen[:, 2]


def _residuals(
    window: Window, camera: Camera, w2c: Floats, points: Floats
) -> tuple[Floats, Floats]:
    """[M, 2] in standard deviations, and the points [M, 3] in their cameras' coordinates."""
    pose = w2c[window.view]
    seen = np.einsum("mij,mj->mi", pose[:, :3, :3], points[window.point]) + pose[:, :3, 3]
    z = np.maximum(seen[:, 2:], _BEHIND)
    uv = seen[:, :2] / z * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    return (uv - window.uv) / window.sigma[:, None], seen


def _cost(window: Window, camera: Camera, w2c: Floats, points: Floats) -> float:
    error, _ = errors(window, camera, w2c, points)
    far = np.sqrt(error)
    return float(np.where(far <= HUBER, error, HUBER * (2 * far - HUBER)).sum())


class _System:
    """The normal equations at one place, for any damping."""

    def __init__(self, window: Window, camera: Camera, w2c: Floats, points: Floats) -> None:
        r, seen = _residuals(window, camera, w2c, points)
        to_pose, to_point = _derivatives(window, camera, w2c, seen)
        far = np.sqrt(np.einsum("mi,mi->m", r, r))
        weight = np.minimum(1.0, HUBER / np.maximum(far, 1e-12))
        weight[seen[:, 2] <= _BEHIND] = 0.0
        self._rows = np.flatnonzero(window.free)
        place = np.full(len(window.free), -1)
        place[self._rows] = np.arange(len(self._rows))
        order = np.argsort(window.point, kind="stable")
        self._ends = np.searchsorted(window.point[order], np.arange(len(points) + 1))
        self._view, self._total = place[window.view[order]], len(window.free)
        self._parts = _accumulated(
            r[order], to_pose[order], to_point[order], weight[order],
            self._view, self._ends, len(self._rows),
        )  # fmt: skip

    def step(self, damping: float) -> tuple[Floats, Floats]:
        """Twists [C, 6], zero for cameras that do not move, and shifts [P, 3] of the points."""
        u, a, v, b, w = self._parts
        s, right, inverse = _eliminated(u, a, v, b, w, self._view, self._ends, damping)
        x = np.linalg.solve(s, right).reshape(-1, 6)
        twists = np.zeros((self._total, 6))
        twists[self._rows] = x
        return twists, _back(x, b, w, inverse, self._view, self._ends)


@_compiled
def _accumulated(r, to_pose, to_point, weight, view, ends, count):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Blocks of cameras [C, 6, 6], of points [P, 3, 3], of both [M, 6, 3], and their gradients."""
    u, a = np.zeros((count, 6, 6)), np.zeros((count, 6))
    v, b = np.zeros((len(ends) - 1, 3, 3)), np.zeros((len(ends) - 1, 3))
    w = np.zeros((len(r), 6, 3))
    for p in range(len(ends) - 1):
        for m in range(ends[p], ends[p + 1]):
            for k in range(2):
                for i in range(3):
                    t = weight[m] * to_point[m, k, i]
                    b[p, i] += t * r[m, k]
                    for j in range(3):
                        v[p, i, j] += t * to_point[m, k, j]
                if view[m] < 0:
                    continue
                c = view[m]
                for i in range(6):
                    t = weight[m] * to_pose[m, k, i]
                    a[c, i] += t * r[m, k]
                    for j in range(6):
                        u[c, i, j] += t * to_pose[m, k, j]
                    for j in range(3):
                        w[m, i, j] += t * to_point[m, k, j]
    return u, a, v, b, w


@_compiled
def _eliminated(u, a, v, b, w, view, ends, damping):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The cameras' own equations, [6C, 6C] and [6C], and the points' inverted blocks."""
    count = len(u)
    s, right = np.zeros((6 * count, 6 * count)), np.zeros(6 * count)
    for c in range(count):
        for i in range(6):
            right[6 * c + i] = -a[c, i]
            for j in range(6):
                s[6 * c + i, 6 * c + j] = u[c, i, j]
            s[6 * c + i, 6 * c + i] += damping * u[c, i, i] + 1e-8
    inverse = np.empty_like(v)
    y = np.empty((6, 3))
    for p in range(len(v)):
        x = v[p].copy()
        for i in range(3):
            x[i, i] += damping * x[i, i] + 1e-8
        _invert(x, inverse[p])
        for m in range(ends[p], ends[p + 1]):
            if view[m] < 0:
                continue
            at = 6 * view[m]
            for i in range(6):
                for j in range(3):
                    y[i, j] = 0.0
                    for k in range(3):
                        y[i, j] += w[m, i, k] * inverse[p, k, j]
                    right[at + i] += y[i, j] * b[p, j]
            for n in range(ends[p], ends[p + 1]):
                if view[n] < 0:
                    continue
                to = 6 * view[n]
                for i in range(6):
                    for j in range(6):
                        for k in range(3):
                            s[at + i, to + j] -= y[i, k] * w[n, j, k]
    return s, right, inverse


@_compiled
def _back(x, b, w, inverse, view, ends):  # type: ignore[no-untyped-def]  # pragma: no cover
    """How the points [P, 3] move when the cameras do by ``x`` [C, 6]."""
    shifts = np.zeros_like(b)
    for p in range(len(b)):
        g = b[p].copy()
        for m in range(ends[p], ends[p + 1]):
            if view[m] >= 0:
                for j in range(3):
                    for i in range(6):
                        g[j] += w[m, i, j] * x[view[m], i]
        for i in range(3):
            for j in range(3):
                shifts[p, i] -= inverse[p, i, j] * g[j]
    return shifts


@_compiled
def _invert(x, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """A symmetric 3x3 matrix, by cofactors."""
    out[0, 0] = x[1, 1] * x[2, 2] - x[1, 2] * x[1, 2]
    out[0, 1] = x[0, 2] * x[1, 2] - x[0, 1] * x[2, 2]
    out[0, 2] = x[0, 1] * x[1, 2] - x[0, 2] * x[1, 1]
    out[1, 1] = x[0, 0] * x[2, 2] - x[0, 2] * x[0, 2]
    out[1, 2] = x[0, 1] * x[0, 2] - x[0, 0] * x[1, 2]
    out[2, 2] = x[0, 0] * x[1, 1] - x[0, 1] * x[0, 1]
    scale = 1 / (x[0, 0] * out[0, 0] + x[0, 1] * out[0, 1] + x[0, 2] * out[0, 2])
    for i in range(3):
        for j in range(i, 3):
            out[i, j] *= scale
            out[j, i] = out[i, j]


def _derivatives(
    window: Window, camera: Camera, w2c: Floats, seen: Floats
) -> tuple[Floats, Floats]:
    """[M, 2, 6] by a twist on the left of ``w2c`` and [M, 2, 3] by the point."""
    i = 1 / np.maximum(seen[:, 2], _BEHIND)
    x, y = seen[:, 0] * i, seen[:, 1] * i
    a, b, zero = camera.fx / window.sigma, camera.fy / window.sigma, np.zeros_like(x)
    to_pose = np.stack(
        [
            np.stack([-a * x * y, a * (1 + x * x), -a * y, a * i, zero, -a * x * i], axis=1),
            np.stack([-b * (1 + y * y), b * x * y, b * x, zero, b * i, -b * y * i], axis=1),
        ],
        axis=1,
    )
    return to_pose, to_pose[:, :, 3:] @ w2c[window.view, :3, :3]
