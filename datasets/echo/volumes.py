"""Cavity volume and ejection fraction from masks, by three methods that must not be mixed.

1. ``area_length``: one view, V = 8 A² / (3 π L).
2. ``disks``: one view, twenty disks, V = π/4 Σ d² L/20.
3. ``biplane``: two views at right angles, V = π/4 Σ a b L/20 (modified Simpson's rule).

Spacing is millimetres per pixel, (y, x). Where it is unknown (NaN) everything is in pixels and says
so; ratios such as EF then hold as long as pixels are square. An empty mask gives NaN.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Unit = Literal["mm", "px"]

DISKS = 20
AREA_LENGTH = (
    "area-length, one view (axis: 4·sqrt of the largest eigenvalue of the pixel covariance)"
)
SINGLE_PLANE = f"{DISKS} disks, one view"
BIPLANE = f"biplane Simpson, {DISKS} disks"

_FLAT = 0.03
"""How far a stretch of the outline may leave its chord and still count as the mitral plane, as a
part of the long axis: the 8 pixels of the CAMUS evaluation, for any pixel size."""
_STEEPEST = 1.0
"""Slope of the mitral plane against the picture's rows, at most 45 degrees."""
_OUTLINE = 128
"""Points of the outline that are tried as ends of the mitral plane."""
_FINE = 256
"""Smaller masks are enlarged to this many pixels, so that outlines follow pixel edges."""


class Size(NamedTuple):
    """What one heart measures at one moment."""

    area: float
    """In unit²; NaN for ``biplane``, which has two."""
    length: float
    """Long axis, in unit."""
    volume: float
    """In ml (unit mm) or cubic pixels."""
    unit: Unit
    method: str
    """As shown to people."""


class Axis(NamedTuple):
    """Long axis of a cavity, (y, x) in unit, pixel (0, 0) having its centre at the origin."""

    apex: tuple[float, float]
    base: tuple[float, float]
    """Middle of the mitral plane."""
    mitral: tuple[tuple[float, float], tuple[float, float]]
    """Ends of the mitral plane."""

    @property
    def length(self) -> float:
        return math.dist(self.apex, self.base)


def scale(spacing_mm: tuple[float, float]) -> tuple[float, float, Unit]:
    """(y, x, unit) of one pixel: millimetres, or (1, 1, "px") where the spacing is unknown."""
    y, x = spacing_mm
    if math.isfinite(y) and math.isfinite(x) and y > 0 and x > 0:
        return y, x, "mm"
    return 1.0, 1.0, "px"


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[H, W]: the largest 8-connected part of a mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count <= 2:
        return mask
    part: NDArray[np.bool_] = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return part


def area_length(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> Size:
    """Area-length from one view. mask: bool [H, W]; clean it first (``largest_part``).

    L is 4·sqrt(λ), λ the largest eigenvalue of the covariance of the region, its pixels taken as
    little rectangles: the major axis of the ellipse with the region's second moments. Exact for an
    ellipse; 6 % longer than apex to base for a half ellipse.
    """
    y, x, unit = scale(spacing_mm)
    rows, cols = np.nonzero(mask)
    if not len(rows):
        return Size(math.nan, math.nan, math.nan, unit, AREA_LENGTH)
    area = len(rows) * y * x
    covariance = (
        np.cov(np.stack((rows * y, cols * x)), ddof=0) if len(rows) > 1 else np.zeros((2, 2))
    )
    covariance = covariance + np.diag((y * y / 12, x * x / 12))
    length = 4 * math.sqrt(float(np.linalg.eigvalsh(covariance)[-1]))
    return Size(
        area, length, _volume(8 * area**2 / (3 * math.pi * length), unit), unit, AREA_LENGTH
    )


def disks(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> Size:
    """Twenty disks from one view, along the axis of ``find_axis``. mask: bool [H, W]."""
    y, x, unit = scale(spacing_mm)
    if not mask.any():
        return Size(math.nan, math.nan, math.nan, unit, SINGLE_PLANE)
    mask = largest_part(mask)
    axis = find_axis(mask, spacing_mm)
    widths = _widths(mask, (y, x), axis)
    volume = math.pi / 4 * float((widths**2).sum()) * axis.length / DISKS
    area = int(mask.sum()) * y * x
    return Size(area, axis.length, _volume(volume, unit), unit, SINGLE_PLANE)


def biplane(
    first: NDArray[np.bool_],
    first_spacing_mm: tuple[float, float],
    second: NDArray[np.bool_],
    second_spacing_mm: tuple[float, float],
) -> Size:
    """Twenty elliptic disks from two views, 2CH and 4CH in any order. Masks: bool [H, W].

    The step is a twentieth of the longer of the two axes. Raises ValueError when one spacing is
    known and the other is not: pixels of two pictures have no common unit.
    """
    unit = scale(first_spacing_mm)[2]
    if unit != scale(second_spacing_mm)[2]:
        raise ValueError("biplane needs the spacing of both views or of neither")
    if not (first.any() and second.any()):
        return Size(math.nan, math.nan, math.nan, unit, BIPLANE)
    product, length = np.ones(DISKS), 0.0
    for mask, spacing in ((first, first_spacing_mm), (second, second_spacing_mm)):
        mask = largest_part(mask)
        axis = find_axis(mask, spacing)
        product *= _widths(mask, scale(spacing)[:2], axis)
        length = max(length, axis.length)
    volume = math.pi / 4 * float(product.sum()) * length / DISKS
    return Size(math.nan, length, _volume(volume, unit), unit, BIPLANE)


def ejection_fraction(edv: float, esv: float) -> float:
    """Per cent of the end-diastolic volume that is ejected; NaN without a volume to eject from."""
    return 100 * (edv - esv) / edv if edv > 0 else math.nan


def find_axis(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> Axis:
    """Mitral plane and apex of a cavity in an apical view. mask: bool [H, W], not empty.

    The mitral plane is the longest nearly straight stretch of the outline that runs more across
    the picture than down it; the apex is the point of the outline farthest from its middle.
    """
    y, x, _ = scale(spacing_mm)
    outline = _outline(mask) * (y, x)
    extent = np.ptp(outline, axis=0).max()
    step = _resample(outline, _OUTLINE)
    best, ends = -math.inf, (step[0], step[0])
    for first in range(_OUTLINE):
        rolled = np.roll(step, -first, axis=0)[: _OUTLINE // 2 + 1]
        score, last = _best_chord(rolled, _FLAT * extent)
        if score > best:
            best, ends = score, (rolled[0], rolled[last])
    base = (ends[0] + ends[1]) / 2
    apex = outline[int(np.argmax(np.hypot(*(outline - base).T)))]
    return Axis(_pair(apex), _pair(base), (_pair(ends[0]), _pair(ends[1])))


def _pair(point: NDArray[np.float64]) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _volume(cubic: float, unit: Unit) -> float:
    return cubic / 1000 if unit == "mm" else cubic


def _best_chord(points: NDArray[np.float64], flat: float) -> tuple[float, int]:
    """Score and last index of the best mitral plane from points[0]; (-inf, 0) when there is none.

    A chord scores its length less twice what the outline leaves it by; without that it gains a
    trifle by creeping up the side wall as far as ``flat`` lets it, which tilts the axis.
    """
    chord = points[1:] - points[0]
    length = np.hypot(chord[:, 0], chord[:, 1])
    normal = np.stack((-chord[:, 1], chord[:, 0]), 1) / np.maximum(length, 1e-12)[:, None]
    distance = np.abs(normal @ (points - points[0]).T)  # [chord, point]
    off = np.where(np.tri(len(chord), len(points), 1, dtype=bool), distance, 0).max(axis=1)
    good = (off <= flat) & (np.abs(chord[:, 0]) <= _STEEPEST * np.abs(chord[:, 1]))
    score = np.where(good, length - 2 * off, -math.inf)
    last = int(np.argmax(score))
    return float(score[last]), last + 1 if good.any() else 0


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 [N, 2]: outer outline of the largest part, (y, x) in pixels."""
    rows, cols = np.nonzero(mask)
    top, left = int(rows.min()), int(cols.min())
    cut = mask[top : rows.max() + 1, left : cols.max() + 1].astype(np.uint8)
    by = max(1, math.ceil(_FINE / max(cut.shape)))
    fine = np.pad(np.kron(cut, np.ones((by, by), np.uint8)), 1)
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    longest = max(contours, key=cv2.contourArea)[:, 0, ::-1].astype(np.float64)
    return np.asarray((longest - 0.5) / by - 0.5 + (top, left), np.float64)


def _resample(outline: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """[count, 2]: points evenly spaced along a closed outline."""
    closed = np.vstack((outline, outline[:1]))
    along = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))))
    at = np.arange(count) * along[-1] / count
    return np.stack([np.interp(at, along, closed[:, i]) for i in (0, 1)], 1)


def _widths(mask: NDArray[np.bool_], pixel: tuple[float, float], axis: Axis) -> NDArray[np.float64]:
    """[DISKS]: mean width of the cavity across each twentieth of its axis, apex first.

    Mean width is area by height. What lies past either end belongs to the end disk: beyond a tilted
    mitral plane there is on one side what is missing on the other.
    """
    if axis.length == 0:
        return np.zeros(DISKS)
    rows, cols = np.nonzero(mask)
    by = max(1, math.ceil(_FINE / max(np.ptp(rows) + 1, np.ptp(cols) + 1)))
    inside = (np.arange(by) + 0.5) / by - 0.5
    direction = (np.array(axis.base) - axis.apex) / axis.length**2
    offset_y, offset_x = pixel[0] * inside * direction[0], pixel[1] * inside * direction[1]
    centre = (rows * pixel[0] - axis.apex[0]) * direction[0]
    centre = centre + (cols * pixel[1] - axis.apex[1]) * direction[1]
    along = centre[:, None] + (offset_y[:, None] + offset_x[None, :]).ravel()[None, :]
    disk = np.clip((along * DISKS).astype(np.int64), 0, DISKS - 1)
    counts = np.bincount(disk.ravel(), minlength=DISKS)
    return np.asarray(counts * (pixel[0] * pixel[1] / by**2 * DISKS / axis.length), np.float64)
