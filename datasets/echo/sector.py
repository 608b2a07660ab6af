"""Finds the ultrasound fan in echo frames and maps it to the model's grid (``grid.py``).

Coordinates are pixels, x to the right and y down, pixel i covering [i, i + 1): its centre is at
i + 0.5. Angles are radians from straight down, positive to the right of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.grid import APEX, GRID_SIZE, RADIUS
from retain.datasets.echo.sector_fit import UPRIGHT, fit
from retain.datasets.echo.sector_outline import Fan, Plane
from retain.pipeline.errors import RetainError
from retain.pipeline.frame import Image, MetaValue

Region = tuple[float, float, float, float]
"""Bounds (x0, y0, x1, y1) of the ultrasound picture within the frame, pixels, ends exclusive."""

SURE = 0.6
"""A sector of lower confidence is flagged as uncertain."""

WORK_SIDE = 320
"""Frames are shrunk to this before the search: the memory is bounded whatever the frames' size."""


class NoSector(RetainError):
    """There is no ultrasound fan in the picture."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"No ultrasound fan was found: {why}.",
            hint="Segmenting needs a grey apical view, the whole fan, not turned upside down.",
        )


@dataclass(frozen=True, slots=True)
class Sector:
    """Where the fan lies in the frame."""

    apex: tuple[float, float]
    """(x, y) where the two edges meet; may lie above the picture."""
    radius: float
    """From the apex to the bottom arc."""
    left: float
    """Angle of the left edge, < 0."""
    right: float
    """Angle of the right edge, > 0."""
    confidence: float
    """0..1, the share of the fan's visible outline that the picture confirms; see ``SURE``."""
    inner: float = 0.0
    """From the apex to where the picture begins; large for curved probes."""

    @property
    def tilt(self) -> float:
        """Angle of the fan's axis; 0 for fans that are upright within measuring error."""
        axis = (self.left + self.right) / 2
        return axis if abs(axis) >= UPRIGHT else 0.0

    def to_frame(self, size: int = GRID_SIZE) -> NDArray[np.float32]:
        """[2, 3]: takes (x, y, 1) on the grid of side ``size`` to (x, y) in the frame."""
        step = self.radius / (RADIUS * size)
        cos, sin = step * np.cos(self.tilt), step * np.sin(self.tilt)
        turn = np.array([[cos, sin], [-sin, cos]])
        shift = np.array(self.apex) - turn @ (np.array(APEX) * size)
        return np.column_stack((turn, shift)).astype(np.float32)

    def mask(self, height: int, width: int) -> NDArray[np.bool_]:
        """[height, width]: pixels whose centre is inside the fan, ``inner`` left out."""
        x = np.arange(width)[None] + 0.5 - self.apex[0]
        y = np.arange(height)[:, None] + 0.5 - self.apex[1]
        angle, distance = np.arctan2(x, y), np.hypot(x, y)
        inside = (angle >= self.left) & (angle <= self.right)
        result: NDArray[np.bool_] = inside & (distance >= self.inner) & (distance <= self.radius)
        return result


def region(meta: Mapping[str, MetaValue]) -> Region | None:
    """The region that a frame's ``meta`` states (DicomSource does), else None."""
    values = [meta.get(f"region_{side}") for side in ("x0", "y0", "x1", "y1")]
    if not all(isinstance(value, (int, float)) for value in values):
        return None
    x0, y0, x1, y1 = (float(value) for value in values if value is not None)
    return x0, y0, x1, y1


class SectorFinder:
    """Gathers frames of one clip and finds the fan they share. Memory: four planes of WORK_SIDE².

    Burnt-in marks stand still while tissue moves, and a dark flank shows in some frame: the more
    frames, the surer the result; one frame is enough to try. Frames must share one shape.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shape = (0, 0)
        self._sum: Plane = np.zeros((0, 0), np.float32)
        self._highest = self._lowest = self._sum

    def update(self, image: Image) -> None:
        """``image`` is uint8 [H, W, 3]. Raises RetainError when its shape differs from before."""
        shape = image.shape[:2]
        if self.count and shape != self._shape:
            raise RetainError(
                f"The picture's size changed from {self._shape[::-1]} to {shape[::-1]} pixels.",
                hint="Treat the parts as separate clips.",
            )
        grey = _work(image)
        if not self.count:
            self._shape = (int(shape[0]), int(shape[1]))
            self._sum, self._highest, self._lowest = np.zeros_like(grey), grey, grey
        self._sum = self._sum + grey
        self._highest = np.maximum(self._highest, grey)
        self._lowest = np.minimum(self._lowest, grey)
        self.count += 1

    def find(self, prior: Region | None = None) -> Sector:
        """The fan of the frames so far. ``prior`` that leaves the picture is ignored: the clip was
        scaled after it was written. Raises NoSector."""
        if not self.count:
            raise NoSector("no frame was given")
        height, width = self._shape
        sy, sx = self._highest.shape[0] / height, self._highest.shape[1] / width
        window = None
        if prior is not None and _fits(prior, width, height):
            window = (prior[0] * sx, prior[1] * sy, prior[2] * sx, prior[3] * sy)
        mean: Plane = self._sum / np.float32(self.count)
        planes: list[Plane] = [self._highest, mean]
        if self.count > 1:
            planes.append(self._highest - self._lowest)
        fan = fit(planes, window)
        if isinstance(fan, str):
            raise NoSector(fan)
        return _sector(fan, (sx + sy) / 2)


def _work(image: Image) -> Plane:
    """Grey float32 [h, w] with sides <= WORK_SIDE; coloured marks are black."""
    height, width = image.shape[:2]
    scale = min(1.0, WORK_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grey: Plane = small.min(axis=2).astype(np.float32)
    return grey


def _fits(prior: Region, width: int, height: int) -> bool:
    x0, y0, x1, y1 = prior
    inside = -2 <= x0 < x1 <= width + 2 and -2 <= y0 < y1 <= height + 2
    return inside and (x1 - x0) * (y1 - y0) > 0.05 * width * height


def _sector(fan: Fan, scale: float) -> Sector:
    return Sector(
        apex=(fan.x / scale, fan.y / scale),
        radius=fan.radius / scale,
        left=fan.left,
        right=fan.right,
        confidence=fan.confidence,
        inner=fan.inner / scale,
    )


def find_sector(image: Image, prior: Region | None = None) -> Sector:
    """The fan of a single picture, uint8 [H, W, 3]. Raises NoSector."""
    finder = SectorFinder()
    finder.update(image)
    return finder.find(prior)


def to_grid(image: Image, sector: Sector, size: int = GRID_SIZE) -> NDArray[np.float32]:
    """The fan of ``image`` (uint8 [H, W, 3]) on the grid: grey 0..1, float32 [size, size].

    Pixels are averaged where the grid is coarser than the frame; outside the fan, and where the
    frame does not reach, the grid is zero.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    affine = sector.to_frame(size).astype(np.float64)
    step = sector.radius / (RADIUS * size)
    if step > 1:  # average first, so that one pixel of the shrunk frame is about one of the grid
        small = (max(1, round(width / step)), max(1, round(height / step)))
        grey = cv2.resize(grey.astype(np.float32), small, interpolation=cv2.INTER_AREA)
        affine[0] *= small[0] / width
        affine[1] *= small[1] / height
    affine[:, 2] += affine[:, :2].sum(axis=1) / 2 - 0.5  # OpenCV puts centres at whole numbers
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(grey.astype(np.float32), affine, (size, size), flags=flags)
    half = (sector.right - sector.left) / 2
    edges = (-half, half) if sector.tilt else (sector.left, sector.right)
    inside = _grid_mask(size, *edges, sector.inner / sector.radius)
    result: NDArray[np.float32] = np.where(inside, warped / np.float32(255), np.float32(0))
    return result


@lru_cache(maxsize=64)
def _grid_mask(size: int, left: float, right: float, inner: float) -> NDArray[np.bool_]:
    apex, radius = (APEX[0] * size, APEX[1] * size), RADIUS * size
    return Sector(apex, radius, left, right, 1.0, inner * radius).mask(size, size)
