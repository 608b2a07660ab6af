"""The geometry behind ``sector.py``: a fan is fitted to the outline of what is not black.

Candidates come from several thresholds of several summaries of the clip (brightest, mean, range
over time); the two edges are lines that many outline points lie on and few lie beyond, the bottom
arc likewise. The candidate whose outline best separates bright from dark wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Points = NDArray[np.float64]

THRESHOLDS = (1.2, 2.0, 3.5, 6.0, 10.0, 18.0, 32.0)
"""Grey levels above which a pixel is no background: black is 0..1, dirty after compression."""

LEAST = 0.35
"""Fans of lower confidence are not reported at all."""

_STEEP = (np.radians(8.0), np.radians(80.0))
"""Angles an edge may have with the vertical."""
_TOLERANCE = 1.5
_SMALLEST = 0.06
"""Least share of the picture that a fan covers."""


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


def fit(planes: Sequence[Plane], window: tuple[float, float, float, float] | None) -> Fan | str:
    """The best fan in ``planes`` (float32 [h, w], grey levels), or why there is none."""
    height, width = planes[0].shape
    if min(height, width) < 32:
        return "the picture is smaller than 32 pixels"
    if planes[0].max() < THRESHOLDS[0] * 4:
        return "the picture is black"
    best: Fan | None = None
    for plane in planes:
        shown = cv2.blur(_clip(plane, window), (3, 3))
        for threshold in THRESHOLDS:
            fan = _candidate(shown > threshold)
            if fan is None:
                continue
            fan = replace(fan, confidence=_support(shown, fan))
            if best is None or fan.confidence > best.confidence:
                best = fan
    if best is None:
        return "nothing in it has two straight edges that meet at the top"
    if best.confidence < LEAST:
        return f"the best outline is confirmed only to {best.confidence:.0%} by the picture"
    return best


def _clip(plane: Plane, window: tuple[float, float, float, float] | None) -> Plane:
    if window is None:
        return plane
    x0, y0, x1, y1 = (round(value) for value in window)
    kept = np.zeros_like(plane)
    rows, columns = slice(max(0, y0), y1), slice(max(0, x0), x1)
    kept[rows, columns] = plane[rows, columns]
    return kept


def _candidate(bright: NDArray[np.bool_]) -> Fan | None:
    """A fan around the largest connected part of ``bright`` [h, w]."""
    part = _largest(bright)
    if part is None:
        return None
    left = _edge(_outline(part, -1), -1)
    right = _edge(_outline(part, +1), +1)
    if left is None or right is None:
        return None
    # x = a + b y on either edge
    (a, b), (c, d) = left, right
    if d - b < 0.15:
        return None
    y = (a - c) / (d - b)
    x = a + b * y
    ys, xs = np.nonzero(part)
    dx, dy = xs + 0.5 - x, ys + 0.5 - y
    angle, distance = np.arctan2(dx, dy), np.hypot(dx, dy)
    angles = (float(np.arctan(b)), float(np.arctan(d)))
    radius, inner = _radii(part.shape, (x, y), angle, distance, angles)
    if radius < 0.2 * min(part.shape) or not -radius < y < 0.7 * part.shape[0]:
        return None
    return Fan(float(x), float(y), radius, *angles, inner)


def _largest(bright: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The largest part after thin marks are gone and gaps are closed; None when it is small."""
    side = max(bright.shape)
    thin = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(side / 80),) * 2)
    gap = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(side / 25),) * 2)
    mask = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, thin)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(_closed(mask, gap))
    if count < 2:
        return None
    label = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[label, cv2.CC_STAT_AREA] < _SMALLEST * bright.size:
        return None
    part: NDArray[np.bool_] = (labels == label) & (mask > 0)
    return part


def _closed(mask: NDArray[np.uint8], element: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pad = element.shape[0]
    wide = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, element)
    inner: NDArray[np.uint8] = np.ascontiguousarray(closed[pad:-pad, pad:-pad])
    return inner


def _odd(value: float) -> int:
    return max(3, 2 * round(value / 2) + 1)


def _outline(part: NDArray[np.bool_], side: int) -> Points:
    """[n, 2]: (y, x) of the outermost point of each row on one side, off the picture's border."""
    width = part.shape[1]
    rows = np.flatnonzero(part.any(axis=1))
    first = (
        part[rows].argmax(axis=1)
        if side < 0
        else width - part[rows][:, ::-1].argmax(axis=1)  # right side of the pixel
    )
    keep = (first > 2) & (first < width - 2) & (rows > 1)
    return np.stack((rows[keep] + 0.5, first[keep]), axis=1).astype(np.float64)


def _edge(points: Points, side: int) -> tuple[float, float] | None:
    """(a, b) of x = a + b y: many points on it, few beyond it. None when there is no such line."""
    count = len(points)
    if count < 10:
        return None
    y, x = points[:, 0], points[:, 1]
    ends = np.unique(np.linspace(0, count - 1, min(count, 64)).astype(int))
    i, j = (index.ravel() for index in np.meshgrid(ends, ends, indexing="ij"))
    far = y[j] - y[i] >= max(8.0, 0.12 * (y[-1] - y[0]))
    i, j = i[far], j[far]
    slope = (x[j] - x[i]) / (y[j] - y[i])
    steep = (np.arctan(side * slope) > _STEEP[0]) & (np.arctan(side * slope) < _STEEP[1])
    i, slope = i[steep], slope[steep]
    if not len(i):
        return None
    beyond = side * (x[None] - x[i, None] - slope[:, None] * (y[None] - y[i, None]))
    beyond /= np.sqrt(1 + slope[:, None] ** 2)  # distance from the line, outwards
    score = (np.abs(beyond) <= _TOLERANCE).sum(1) - 1.0 * (beyond > _TOLERANCE).sum(1)
    best = int(score.argmax())
    on = np.abs(beyond[best]) <= _TOLERANCE
    if on.sum() < max(8, 0.1 * count):
        return None
    b, a = np.polyfit(y[on], x[on], 1)
    return float(a), float(b)


def _radii(
    shape: tuple[int, ...],
    apex: tuple[float, float],
    angle: Points,
    distance: Points,
    edges: tuple[float, float],
) -> tuple[float, float]:
    """(outer, inner) radius of the points; the outer where many beams end and few go beyond."""
    bins = np.linspace(edges[0], edges[1], 65)
    which = np.digitize(angle, bins) - 1
    inside = (which >= 0) & (which < 64)
    far, near = np.zeros(64), np.full(64, np.inf)
    np.maximum.at(far, which[inside], distance[inside])
    np.minimum.at(near, which[inside], distance[inside])
    middle = (bins[:-1] + bins[1:]) / 2
    x, y = apex[0] + far * np.sin(middle), apex[1] + far * np.cos(middle)
    cut = (x < 3) | (x > shape[1] - 3) | (y > shape[0] - 3)
    ends = far[(far > 0) & ~cut]
    if not (far > 0).any():
        return 0.0, 0.0
    inner = float(np.median(near[np.isfinite(near)]))
    if len(ends) < 6:
        return float(far.max()), inner
    beyond = ends[None] - ends[:, None]
    score = (np.abs(beyond) <= 2).sum(1) - 0.7 * (beyond > 2).sum(1)
    best = int(score.argmax())
    radius = float(np.median(ends[np.abs(beyond[best]) <= 2])) + 0.5
    return max(radius, float(far[cut].max(initial=0.0))), inner


def _support(plane: Plane, fan: Fan) -> float:
    """Share of the fan's outline within the picture that is bright inside and dark outside."""
    depth = np.linspace(max(fan.inner + 3, 0.12 * fan.radius), 0.95 * fan.radius, 64)
    arc = np.linspace(fan.left, fan.right, 66)[1:-1]
    shares, weights = [], []
    for along, across in (
        ((depth, fan.left), 1.0),
        ((depth, fan.right), -1.0),
        ((fan.radius, arc), 0.0),
    ):
        share, seen = _contrast(plane, fan, along, across)
        shares.append(share)
        weights.append(seen)
    total = sum(weights)
    if total < 0.75 or weights[0] < 0.15 or weights[1] < 0.15:
        return 0.0
    return float(np.dot(shares, weights) / total)


def _contrast(
    plane: Plane, fan: Fan, along: tuple[object, object], across: float
) -> tuple[float, float]:
    """(share of confirmed points, share of points within the picture) of one part of the outline.

    ``across``: +1 / -1 when the inside is at larger / smaller angles, 0 when at smaller distances.
    """
    distance, angle = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in along))
    x, y = fan.x + distance * np.sin(angle), fan.y + distance * np.cos(angle)
    if across:
        nx, ny = across * np.cos(angle), -across * np.sin(angle)
    else:
        nx, ny = -np.sin(angle), -np.cos(angle)
    inside = np.mean([_sample(plane, x + k * nx, y + k * ny) for k in (2.0, 4.0, 6.0)], axis=0)
    outside = np.mean([_sample(plane, x - k * nx, y - k * ny) for k in (2.5, 4.5, 6.5)], axis=0)
    known = np.isfinite(inside) & np.isfinite(outside)
    if not known.any():
        return 0.0, 0.0
    contrast = (inside - outside)[known] / (inside + outside + 1.0)[known]
    return float(np.clip(contrast / 0.35, 0, 1).mean()), float(known.mean())


def _sample(plane: Plane, x: Points, y: Points) -> Points:
    """Nearest values; nan outside the picture."""
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    known = (column >= 0) & (column < plane.shape[1]) & (row >= 0) & (row < plane.shape[0])
    values = np.full(x.shape, np.nan)
    values[known] = plane[row[known], column[known]]
    return values
