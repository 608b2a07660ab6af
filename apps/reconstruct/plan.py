"""The camera's path from above, as a drawing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retain.apps.plots import nice_step
from retain.apps.reconstruct.outcome import Outcome
from retain.datasets.scene import trajectory
from retain.kernels.geometry.rigid import upward

W, H, EDGE = 880, 460, 34
DOTS = 4000
"""Gaussians drawn as a hint of what is there."""
WEDGES = 24


def plan_svg(made: Outcome) -> str:
    """Gaussians, the path (lost frames left out), the given one dashed, a scale bar."""
    good = [(place, pose) for place, pose in made.path if place.known]
    if not good:
        return "<p>No frame was tracked.</p>"
    poses = np.stack([pose for _, pose in good])
    across = _axes(poses)
    path = poses[:, :3, 3] @ across.T
    dots = made.gaussians.means[:: max(1, len(made.gaussians) // DOTS)].astype(np.float64)
    around = dots @ across.T
    truth = _truth(made, across)
    fit = _Fit(np.concatenate([path, around[_inside(around)], *([truth] if len(truth) else [])]))
    parts = [
        '<g class="cloud">',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.2"/>' for x, y in fit(around[_inside(around)])),
        "</g>",
    ]
    if len(truth):
        parts.append(f'<path class="line given" d="{_line(fit(truth))}"/>')
    parts.append(f'<path class="line path" d="{_line(fit(path))}"/>')
    looks = poses[:, :3, 2] @ across.T
    for i in np.linspace(0, len(path) - 1, min(WEDGES, len(path))).astype(int):
        parts.append(f'<path class="wedge" d="{_wedge(fit(path[i : i + 1])[0], looks[i])}"/>')
    start = fit(path[:1])[0]
    parts.append(f'<circle class="start" cx="{start[0]:.1f}" cy="{start[1]:.1f}" r="5"/>')
    parts.append(fit.bar("m" if made.metric else "(no unit)"))
    return (
        f'<svg class="plan" viewBox="0 0 {W} {H}" role="img" aria-label="The path from above">'
        + "".join(parts)
        + "</svg>"
    )


def _axes(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two directions [2, 3] of the plane across the cameras' mean up: what is seen from above."""
    up = upward(poses)
    side = np.cross([0.0, 0, 1] if abs(up[2]) < 0.9 else [0.0, 1, 0], up)
    side /= np.linalg.norm(side)
    return np.stack([side, -np.cross(up, side)])


def _truth(made: Outcome, across: NDArray[np.float64]) -> NDArray[np.float64]:
    """The given path, brought onto the estimated one, from above [N, 2]."""
    known = [(pose[:3, 3], place.truth[:3, 3]) for place, pose in made.path
             if place.truth is not None and place.known]  # fmt: skip
    if made.drift is None or not known:
        return np.zeros((0, 2))
    estimate, truth = (np.stack(side) for side in zip(*known, strict=True))
    return trajectory.align(truth, estimate, made.drift.scaled)(truth) @ across.T


def _inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Without the few that lie far out and would make everything else small."""
    low, high = np.percentile(points, (2, 98), axis=0)
    return np.asarray(((points >= low) & (points <= high)).all(axis=1))


class _Fit:
    """From the world's plane to the drawing, one scale for both directions."""

    def __init__(self, points: NDArray[np.float64]) -> None:
        low, high = points.min(axis=0), points.max(axis=0)
        span = np.maximum(high - low, 1e-6)
        self._scale = float(min((W - 2 * EDGE) / span[0], (H - 2 * EDGE) / span[1]))
        self._middle = (low + high) / 2

    def __call__(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = (points - self._middle) * self._scale
        return np.asarray(moved * (1, -1) + (W / 2, H / 2))

    def bar(self, unit: str) -> str:
        length = nice_step(150 / self._scale, 1)
        x, y = W - EDGE - length * self._scale, H - 14
        return (
            f'<path class="line" d="M{x:.1f} {y}H{W - EDGE}"/><text class="tick" x="{W - EDGE}" '
            f'y="{y - 6}" text-anchor="end">{length:g} {unit}</text>'
        )


def _line(points: NDArray[np.float64]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _wedge(at: NDArray[np.float64], look: NDArray[np.float64]) -> str:
    x, y = look * (1, -1)
    length = max(float(np.hypot(x, y)), 1e-9)
    x, y = 16 * x / length, 16 * y / length
    left, right = (
        (at[0] + x - 0.5 * y, at[1] + y + 0.5 * x),
        (at[0] + x + 0.5 * y, at[1] + y - 0.5 * x),
    )
    corners = (at, left, right)
    return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in corners) + "z"
