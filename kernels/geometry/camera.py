"""A pinhole camera. OpenCV axes (x right, y down, z forward); pixel i has its centre at i + 0.5,
as in gsplat and COLMAP. Readers of formats that put it at i add 0.5 to cx and cy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Camera:
    """Focal lengths and centre in pixels of a picture of ``width`` x ``height``.

    Raises ValueError for numbers that are no camera.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(numbers).all() or min(self.fx, self.fy) <= 0:
            raise ValueError(f"Camera numbers (fx, fy, cx, cy) cannot be {numbers}.")
        if min(self.width, self.height) < 1:
            raise ValueError(f"A camera's picture cannot be {self.width}x{self.height}.")

    @property
    def K(self) -> NDArray[np.float64]:
        """[3, 3] float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The same view with pictures of another size."""
        x, y = width / self.width, height / self.height
        return replace(
            self, fx=self.fx * x, fy=self.fy * y, cx=self.cx * x, cy=self.cy * y,
            width=width, height=height,
        )  # fmt: skip

    def rays(self) -> NDArray[np.float32]:
        """Directions through the pixel centres with z = 1; float32 [H, W, 3], not to be written."""
        return _rays(self)

    def unproject(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points in camera coordinates, float32 [H, W, 3], of ``depth`` [H, W] in metres."""
        return self.rays() * depth[..., None]

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels [N, 2] of points [N, 3] in camera coordinates; NaN for those not in front."""
        points = np.asarray(points, np.float64)
        z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
        return np.stack(
            [self.fx * points[:, 0] / z + self.cx, self.fy * points[:, 1] / z + self.cy], axis=1
        )


@lru_cache(maxsize=8)
def _rays(camera: Camera) -> NDArray[np.float32]:
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    rays = np.ones((camera.height, camera.width, 3), np.float32)
    rays[..., 0], rays[..., 1] = x[None], y[:, None]
    rays.flags.writeable = False
    return rays
