"""The geometry behind ``sector.py``: a fan is fitted to the outline of what is not black.

Candidates come from several thresholds of several summaries of the clip (brightest, mean, range
over time); the two edges are lines that many outline points lie on and few lie beyond, the bottom
arc likewise. The candidate whose outline best separates bright from dark wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.sector_outline import Fan, Plane, Points, assess, refine

THRESHOLDS = (1.2, 2.0, 3.5, 6.0, 10.0, 18.0, 32.0)
"""Grey levels above which a pixel is no background: black is 0..1, dirty after compression."""

LEAST = 0.45
"""Fans of lower confidence are not reported at all."""

RIVAL, WIDER = 0.85, 1.12
"""A fan with this share of the best confidence and this many times its angle is preferred."""

UPRIGHT: float = np.radians(10.0).item()
"""Least lean of the axis at which a fan counts as turned rather than shadowed on one side."""

CONTENDS = 0.7
"""Share of the best confidence with which a candidate is looked at more closely."""

_STEEP = (np.radians(8.0), np.radians(80.0))
"""Angles an edge may have with the vertical."""
_NARROWEST, _STEEPEST_AXIS = np.radians(45.0), np.radians(35.0)
"""Least opening of a fan and greatest lean of its axis: what leans more has lost a flank."""
_LATEST = 0.4
"""Share of the radius by which the picture must have begun: linear probes begin later."""
_BIN: float = np.radians(3.0).item()
_LEAN = 1.5
"""What a lean of one radian costs, as a share of the points on both edges."""
_TOLERANCE = 1.5
"""Distance from a line or an arc at which a point of the outline still lies on it, pixels."""
_BEYOND = 3.0
"""What a point beyond an edge costs, in points on it: shadows may lie within, nothing without."""
_SMALLEST = 0.06
"""Least share of the picture that a fan covers."""


def fit(planes: Sequence[Plane], window: tuple[float, float, float, float] | None) -> Fan | str:
    """The best fan in ``planes`` (float32 [h, w], grey levels), or why there is none."""
    height, width = planes[0].shape
    if min(height, width) < 32:
        return "the picture is smaller than 32 pixels"
    if planes[0].max() < THRESHOLDS[0] * 4:
        return "the picture is black"
    found = []
    for plane in planes:
        shown = cv2.blur(_clip(plane, window), (3, 3))
        area = 0
        for threshold in THRESHOLDS:
            part = _largest(shown > threshold)
            if part is None or abs(int(part.sum()) - area) < 0.003 * part.size:
                continue
            area = int(part.sum())
            fan = _candidate(part)
            if fan is not None:
                found.append((assess(shown, part, fan), shown, part))
    if not found:
        return "nothing in it has two straight edges that meet at the top"
    most = max(fan.confidence for fan, _, _ in found)
    if most < LEAST:
        return f"the best outline is confirmed only to {most:.0%} by the picture"
    fine = [
        assess(plane, part, refine(plane, fan))
        for fan, plane, part in found
        if fan.confidence >= CONTENDS * most
    ]
    best = max(fine, key=lambda fan: _rank(fan, fine))
    sure = RIVAL * best.confidence
    for fan in fine:  # a shadow has edges too: of two fans alike but for their angles, the wider
        wider = fan.right - fan.left > WIDER * (best.right - best.left)
        if wider and fan.confidence >= sure and abs(fan.radius / best.radius - 1) < 0.05:
            best = fan
    if abs(best.left + best.right) / 2 >= UPRIGHT:
        return best
    half = max(-best.left, best.right)  # an upright fan is symmetric: a shadow hid the rest
    return replace(best, left=-half, right=half)


def _rank(fan: Fan, others: Sequence[Fan]) -> float:
    """For choosing: fans stand upright, begin near their apex, and thresholds agree on them."""
    lean = max(0.0, abs(fan.left + fan.right) - _BIN)
    late = max(0.0, fan.inner / fan.radius - 0.15)
    alike = float(np.mean([_distance(fan, other) < 0.05 for other in others]))
    return fan.confidence * (0.8 + 0.3 * alike + 0.1 * fan.strength - lean - late)


def _distance(fan: Fan, other: Fan) -> float:
    """How far apex and arc of the two are apart, as a share of the radius."""
    apart = np.hypot(fan.x - other.x, fan.y - other.y) + abs(fan.radius - other.radius)
    return float(apart / fan.radius)


def _clip(plane: Plane, window: tuple[float, float, float, float] | None) -> Plane:
    if window is None:
        return plane
    x0, y0, x1, y1 = (round(value) for value in window)
    kept = np.zeros_like(plane)
    rows, columns = slice(max(0, y0), y1), slice(max(0, x0), x1)
    kept[rows, columns] = plane[rows, columns]
    return kept


def _candidate(part: NDArray[np.bool_]) -> Fan | None:
    """A fan around ``part`` [h, w]."""
    ends = _outline(part, -1), _outline(part, +1)
    pair = _pair(_edges(ends[0], -1), _edges(ends[1], +1))
    if pair is None:
        return None
    (a, b), (c, d) = _fitted(ends[0], pair[0]), _fitted(ends[1], pair[1])
    if d <= b:
        return None
    y = (a - c) / (d - b)
    x = a + b * y
    ys, xs = np.nonzero(part)
    dx, dy = xs + 0.5 - x, ys + 0.5 - y
    angle, distance = np.arctan2(dx, dy), np.hypot(dx, dy)
    angles = (float(np.arctan(b)), float(np.arctan(d)))
    radius, inner = _radii(part.shape, (x, y), angle, distance, angles)
    fan = Fan(float(x), float(y), radius, *angles, inner)
    return fan if _plausible(fan, part.shape) else None


def _plausible(fan: Fan, shape: tuple[int, ...]) -> bool:
    return bool(
        fan.right - fan.left > _NARROWEST
        and abs(fan.left + fan.right) / 2 < _STEEPEST_AXIS
        and fan.radius > 0.3 * min(shape)
        and fan.inner < _LATEST * fan.radius
        and -0.6 * fan.radius < fan.y < 0.7 * shape[0]
    )


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
    lit = part[rows] if side < 0 else part[rows, ::-1]
    first = lit.argmax(axis=1)
    first = first if side < 0 else width - first  # the pixel's outer side
    keep = (first > 2) & (first < width - 2) & (rows > 1)
    return np.stack((rows[keep] + 0.5, first[keep]), axis=1).astype(np.float64)


def _edges(points: Points, side: int) -> Points:
    """[n, 3]: (a, b, score) of the best line x = a + b y per ``_BIN`` of angle. The score is the
    number of points on the line, less what those beyond it cost."""
    count = len(points)
    if count < 10:
        return np.zeros((0, 3))
    y, x = points.astype(np.float32).T
    ends = np.unique(np.linspace(0, count - 1, min(count, 48)).astype(int))
    i, j = (index.ravel() for index in np.meshgrid(ends, ends, indexing="ij"))
    far = y[j] - y[i] >= max(8.0, 0.12 * (y[-1] - y[0]))
    i, j = i[far], j[far]
    slope = (x[j] - x[i]) / (y[j] - y[i])
    angle = np.arctan(side * slope)
    steep = (angle > _STEEP[0]) & (angle < _STEEP[1])
    i, slope, angle = i[steep], slope[steep], angle[steep]
    if not len(i):
        return np.zeros((0, 3))
    beyond = side * (x[None] - x[i, None] - slope[:, None] * (y[None] - y[i, None]))
    beyond *= np.cos(angle)[:, None]  # distance from the line, outwards
    on = (np.abs(beyond) <= _TOLERANCE).sum(1)
    score = on - _BEYOND * (beyond > _TOLERANCE).sum(1)
    lines = []
    for each in range(int(_STEEP[1] / _BIN) + 1):
        alike = np.flatnonzero((angle // _BIN == each) & (on >= 8))
        if len(alike):
            best = alike[score[alike].argmax()]
            lines.append((x[i[best]] - slope[best] * y[i[best]], slope[best], score[best]))
    return np.array(lines, np.float64).reshape(-1, 3)


def _fitted(points: Points, line: Points) -> tuple[float, float]:
    """(a, b) of the line through all points that lie on ``line``."""
    y, x = points.T
    on = np.abs(x - line[0] - line[1] * y) <= _TOLERANCE * np.hypot(1, line[1])
    b, a = np.polyfit(y[on], x[on], 1)
    return float(a), float(b)


def _pair(left: Points, right: Points) -> tuple[Points, Points] | None:
    """The two lines of ``_edges`` that together have the best score: fans stand upright, so that
    a lean costs; a fan that does lean has no upright rival."""
    if not len(left) or not len(right):
        return None
    first, second = np.arctan(left[:, None, 1]), np.arctan(right[None, :, 1])
    lean = np.abs(first + second) - _BIN
    score = left[:, None, 2] + right[None, :, 2]
    score = score - _LEAN * lean.clip(0) * (left[:, 2].max() + right[:, 2].max())
    score[second - first < _NARROWEST] = -np.inf
    i, j = np.unravel_index(int(score.argmax()), score.shape)
    return (left[i], right[j]) if np.isfinite(score[i, j]) else None


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
    if not (far > 0).any():
        return 0.0, 0.0
    middle = (bins[:-1] + bins[1:]) / 2

    def free(reach: Points) -> NDArray[np.bool_]:
        """Where a beam of that length ends within the picture, so that nothing cut it off."""
        x, y = apex[0] + reach * np.sin(middle), apex[1] + reach * np.cos(middle)
        inside: NDArray[np.bool_] = (x > 3) & (x < shape[1] - 3) & (y > 3) & (y < shape[0] - 3)
        return inside

    near = np.where(np.isfinite(near), near, 0)
    starts = near[(near > 0) & free(near)]
    inner = float(np.median(starts)) if len(starts) > 12 else 0.0
    uncut = (far > 0) & free(far)
    ends = far[uncut]
    if len(ends) < 6:
        return float(far.max()), inner
    beyond = ends[None] - ends[:, None]
    score = (np.abs(beyond) <= 2).sum(1) - 0.7 * (beyond > 2).sum(1)
    best = int(score.argmax())
    radius = float(np.median(ends[np.abs(beyond[best]) <= 2])) + 0.5
    return max(radius, float(far[~uncut].max(initial=0.0))), inner
