"""How well a fan's outline agrees with a picture, and the outline moved to where it agrees best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Points = NDArray[np.float64]

_REACH = np.arange(-6.0, 6.01, 0.5)
"""Where the picture is looked at on a normal of the outline, pixels, inwards positive."""
_CLEAR = 0.35
"""Contrast (inside - outside) / (inside + outside + 1) at which a point is fully confirmed."""


@dataclass(frozen=True, slots=True)
class Fan:
    """As ``sector.Sector``, in pixels of the plane."""

    x: float
    y: float
    radius: float
    left: float
    right: float
    inner: float
    confidence: float = 0.0
    strength: float = 0.0
    """Mean log ratio of inside and outside along the outline: ranks fans of like confidence."""

    def at(self, distance: Points, angle: Points) -> Points:
        """[..., 2]: (x, y) of polar coordinates."""
        offset = np.stack((distance * np.sin(angle), distance * np.cos(angle)), axis=-1)
        return np.asarray(offset + np.array((self.x, self.y)))

    def line(self, angle: float) -> tuple[float, float]:
        """(a, b) of x = a + b y along that beam."""
        slope = float(np.tan(angle))
        return self.x - slope * self.y, slope


def assess(plane: Plane, part: NDArray[np.bool_], fan: Fan) -> Fan:
    """``fan`` with its confidence: share of the outline that is bright inside and dark outside,
    times its overlap with ``part`` [h, w], less for curved probes; 0 when the picture shows too
    little of the outline."""
    shares, seen, strengths = [], [], []
    for points, normals in _outline(fan, 64):
        profile, known = _profiles(plane, points, normals)
        outside, inside = profile[:, _REACH <= -2.0].mean(1), profile[:, _REACH >= 2.0].mean(1)
        contrast = (inside - outside) / (inside + outside + 1) / _CLEAR
        seen.append(float(known.mean()))
        shares.append(float(contrast[known].clip(0, 1).mean()) if known.any() else 0.0)
        ratio = np.log((inside[known] + 1) / (outside[known] + 1))
        strengths.append(float(ratio.mean()) if known.any() else 0.0)
    total = sum(seen)
    if total < 0.75 or min(seen[:2]) < 0.15:
        return replace(fan, confidence=0.0)
    mean = float(np.dot(shares, seen)) / total
    weakest = min(share for share, part_seen in zip(shares, seen, strict=True) if part_seen > 0.3)
    late = 2 * max(0.0, fan.inner / fan.radius - 0.2)
    sure = (2 * mean + weakest) / 3 * overlap(part, fan) * max(0.0, 1 - late)
    return replace(fan, confidence=sure, strength=float(np.dot(strengths, seen)) / total)


def _outline(fan: Fan, count: int) -> list[tuple[Points, Points]]:
    """(points, inward normals), each [count, 2], of the left edge, the right edge and the arc."""
    depth = np.linspace(max(fan.inner + 3, 0.12 * fan.radius), 0.94 * fan.radius, count)
    parts = []
    for angle, side in ((fan.left, 1.0), (fan.right, -1.0)):
        normal = (side * np.cos(angle), -side * np.sin(angle))
        parts.append((fan.at(depth, np.full(count, angle)), np.tile(normal, (count, 1))))
    arc = np.linspace(fan.left, fan.right, count + 2)[1:-1]
    inward = -np.stack((np.sin(arc), np.cos(arc)), axis=1)
    parts.append((fan.at(np.full(count, fan.radius), arc), inward))
    return parts


def _profiles(plane: Plane, points: Points, normals: Points) -> tuple[Plane, NDArray[np.bool_]]:
    """([n, reach], [n]): the picture along each normal, and whether all of it is in the picture."""
    places = points[:, None] + _REACH[:, None] * normals[:, None] - 0.5
    column, row = places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
    height, width = plane.shape
    inside = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
    profile: Plane = cv2.remap(plane, column, row, cv2.INTER_LINEAR)
    return profile, inside.all(axis=1)


def overlap(part: NDArray[np.bool_], fan: Fan) -> float:
    """Intersection over union of the hulls of both within the picture: shadows do no harm."""
    arc = np.linspace(fan.left, fan.right, 48)
    rim = np.concatenate((np.full(48, fan.radius), np.full(2, fan.inner)))
    model = _hull(fan.at(rim, np.concatenate((arc, arc[[-1, 0]]))) - 0.5, part.shape)
    rows = np.flatnonzero(part.any(axis=1))
    first, last = part[rows].argmax(axis=1), part.shape[1] - 1 - part[rows, ::-1].argmax(axis=1)
    found = _hull(np.stack((np.append(first, last), np.append(rows, rows)), axis=1), part.shape)
    return float((model & found).sum() / max(1, (model | found).sum()))


def _hull(points: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    filled = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    result: NDArray[np.bool_] = filled > 0
    return result


def refine(plane: Plane, fan: Fan) -> Fan:
    """``fan`` with its outline where brightness passes the middle between outside and inside."""
    for _ in range(2):
        sides = _outline(fan, 96)[:2]
        (a, b), (c, d) = (
            _line(_crossings(plane, *side)) or fan.line(angle)
            for side, angle in zip(sides, (fan.left, fan.right), strict=True)
        )
        if d - b < 0.3:
            return fan
        y = (a - c) / (d - b)
        moved = replace(fan, x=a + b * y, y=y, left=float(np.arctan(b)), right=float(np.arctan(d)))
        moved = replace(moved, radius=fan.radius + fan.y - y)
        if np.hypot(moved.x - fan.x, moved.y - fan.y) > 0.1 * fan.radius:
            return fan
        ends = _crossings(plane, *_outline(moved, 96)[2])
        if len(ends) >= 12:
            reach = np.hypot(*(ends - (moved.x, moved.y)).T)
            moved = replace(moved, radius=float(np.median(reach)))
        fan = moved
    return fan


def _crossings(plane: Plane, points: Points, normals: Points) -> Points:
    """[n, 2]: (x, y) on the normals where the picture first passes the middle between outside and
    inside; only where these differ clearly."""
    profile, known = _profiles(plane, points, normals)
    outside = np.median(profile[:, _REACH <= -2], axis=1)
    inside = np.median(profile[:, _REACH >= 2], axis=1)
    clear = known & (inside - outside > _CLEAR * (inside + outside + 1))
    if not clear.any():
        return np.zeros((0, 2))
    profile, middle = profile[clear], ((inside + outside) / 2)[clear]
    after = (profile > middle[:, None]).argmax(axis=1).clip(1)
    each = np.arange(len(profile))
    low, high = profile[each, after - 1], profile[each, after]
    part = ((middle - low) / np.maximum(high - low, 1e-6)).clip(0, 1)
    shift = _REACH[after - 1] + (_REACH[1] - _REACH[0]) * part
    moved: Points = points[clear] + shift[:, None] * normals[clear]
    return moved


def _line(points: Points) -> tuple[float, float] | None:
    """(a, b) of x = a + b y through most of ``points`` [n, 2], outliers left out."""
    if len(points) < 12:
        return None
    x, y = points.T
    keep = np.ones(len(x), bool)
    for _ in range(4):
        b, a = np.polyfit(y[keep], x[keep], 1)
        off = np.abs(x - a - b * y)
        keep = off <= max(0.5, 2 * float(np.median(off)))
    return float(a), float(b)
