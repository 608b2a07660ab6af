"""Cameras as they were calibrated, brought to the pinhole one that the rest of retain knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry.camera import Camera
from retain.pipeline.frame import Image

Depth = NDArray[np.float32]
"""[H, W] metres along z, 0 where unknown."""
T = TypeVar("T", np.float32, np.uint8)
_SAMPLES = 65
"""Of each side of a picture, where its distortion is looked at."""
_MOST_ZOOM = 4.0
"""Of an undistorted picture; a lens that asks for more is not what its numbers describe."""


@dataclass(frozen=True, slots=True)
class Lens:
    """A camera with its distortion, in OpenCV's terms.

    Raises ValueError for a number of coefficients that no model has.
    """

    camera: Camera
    distortion: tuple[float, ...] = ()
    """k1 k2 p1 p2 [k3 [k4 k5 k6]]; of a fisheye k1 k2 k3 k4. Empty or all 0: none."""
    fisheye: bool = False

    def __post_init__(self) -> None:
        allowed = (0, 4) if self.fisheye else (0, 4, 5, 8)
        if len(self.distortion) not in allowed or not np.isfinite(self.distortion).all():
            raise ValueError(f"A lens cannot be distorted by {self.distortion}.")

    @property
    def straight(self) -> bool:
        """Whether straight lines are straight in its pictures."""
        return not self.fisheye and not any(self.distortion)

    def resized(self, width: int, height: int) -> Lens:
        """The same lens, its pictures stored in another size: distortion knows no pixels."""
        return replace(self, camera=self.camera.resized(width, height))

    def undistorted(self) -> Camera:
        """The pinhole camera that ``undistort`` gives pictures of: the same centre and size; focal
        lengths that grow, as little as does it, until no pixel lies outside the stored picture or
        where the distortion turns back on itself.

        Raises ValueError where that takes more than four times.
        """
        return self.camera if self.straight else _target(self)

    def undistort(self, image: Image, depth: Depth | None) -> tuple[Image, Depth | None]:
        """``image`` (bilinear) and ``depth`` registered to it (nearest) as ``undistorted()`` sees
        them. Depth is along z, so it stays what it is."""
        if self.straight:
            return image, depth
        across, down = _maps(self)
        image = np.asarray(cv2.remap(image, across, down, cv2.INTER_LINEAR), np.uint8)
        if depth is not None:
            depth = np.asarray(cv2.remap(depth, across, down, cv2.INTER_NEAREST), np.float32)
        return image, depth


@lru_cache(maxsize=4096)
def _target(lens: Lens) -> Camera:
    camera = lens.camera
    limit, middle = (camera.width - 0.5, camera.height - 0.5), (camera.cx, camera.cy)
    # From the centre out to each pixel of the border, in steps.
    spokes = middle + np.linspace(0.1, 1, 10)[:, None, None] * (_border(camera) - middle)
    for zoom in np.geomspace(1.0, _MOST_ZOOM, 140):
        target = replace(camera, fx=camera.fx * zoom, fy=camera.fy * zoom)
        found = _distorted(lens, target, spokes.reshape(-1, 2)).reshape(spokes.shape)
        # Within half a pixel of the outermost centres there is nothing to interpolate with.
        inside = ((found[-1] >= -0.5) & (found[-1] <= limit)).all()
        # Beyond what it was fitted to, a polynomial may turn back and show things twice.
        outward = np.diff(np.linalg.norm(found + 0.5 - middle, axis=2), axis=0) > 0
        if inside and outward.all():
            return target
    raise ValueError(f"the lens distortion {lens.distortion} is too strong to be undone")


@lru_cache(maxsize=4)
def _maps(lens: Lens) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row in the stored picture of each undistorted pixel, float32 [H, W] each."""
    camera = lens.camera
    y, x = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5
    found = _distorted(lens, _target(lens), np.stack([x.ravel(), y.ravel()], axis=1))
    found = np.clip(found, 0, (camera.width - 1, camera.height - 1)).astype(np.float32)
    across, down = found.T.reshape(2, camera.height, camera.width)
    return np.ascontiguousarray(across), np.ascontiguousarray(down)


def _border(camera: Camera) -> NDArray[np.float64]:
    """Centres of outermost pixels, [N, 2]: the corners, and as many between as a smooth distortion
    needs."""
    x, y = (
        np.linspace(0.5, side - 0.5, min(side, _SAMPLES)) for side in (camera.width, camera.height)
    )
    sides = [np.stack([x, np.full_like(x, v)], axis=1) for v in (0.5, camera.height - 0.5)]
    sides += [np.stack([np.full_like(y, v), y], axis=1) for v in (0.5, camera.width - 0.5)]
    return np.concatenate(sides)


def _distorted(lens: Lens, target: Camera, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where in the stored picture the ``pixels`` [N, 2] of ``target`` lie, in OpenCV's counting:
    the first pixel's centre is at 0."""
    rays = np.ones((len(pixels), 1, 3))
    rays[:, 0, :2] = (pixels - (target.cx, target.cy)) / (target.fx, target.fy)
    K, still = lens.camera.K, np.zeros(3)
    K[:2, 2] -= 0.5
    if lens.fisheye:
        flat = rays[..., :2] / rays[..., 2:]
        found = cv2.fisheye.distortPoints(flat, K, np.array(lens.distortion or (0.0,) * 4))
    else:
        found = cv2.projectPoints(rays, still, still, K, np.array(lens.distortion))[0]
    return np.asarray(found, np.float64).reshape(-1, 2)


def regrid(values: NDArray[T], seen_by: Camera, wanted: Camera) -> NDArray[T]:
    """``values`` [H, W] (depth, classes) of one camera on the pixels of another at the same place
    and with the same axes; the nearest one, 0 outside. Also how they are resized: nothing is ever
    averaged."""
    if seen_by == wanted:
        return values
    columns, x_in = _nearest(
        (np.arange(wanted.width) + 0.5 - wanted.cx) / wanted.fx * seen_by.fx + seen_by.cx,
        seen_by.width,
    )
    rows, y_in = _nearest(
        (np.arange(wanted.height) + 0.5 - wanted.cy) / wanted.fy * seen_by.fy + seen_by.cy,
        seen_by.height,
    )
    found = values[rows[:, None], columns[None]]
    found[~(y_in[:, None] & x_in[None])] = 0
    return found


def _nearest(at: NDArray[np.floating], count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    whole = np.floor(at).astype(np.int64)
    return np.clip(whole, 0, count - 1), (whole >= 0) & (whole < count)


def resize_image(image: Image, width: int, height: int) -> Image:
    """By areas when smaller, bilinear when larger; as it is when of that size already."""
    if image.shape[:2] == (height, width):
        return image
    smaller = width <= image.shape[1] and height <= image.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)
