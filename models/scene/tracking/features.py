"""Corners of a picture with descriptors, spread evenly over it, and their distances.

Two kinds, told apart by what their descriptors are made of: ``orb`` (bits) and ``xfeat`` (a
network's, see ``xfeat.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry.camera import Camera
from retain.pipeline.frame import Image

Kind = Literal["orb", "xfeat"]
Descriptors = NDArray[np.uint8] | NDArray[np.int8]
"""See ``Features``."""

EDGE = 0.1
"""A depth that differs by more than this share within its 3x3 pixels belongs to no one surface."""
_COLUMNS = 10
"""The picture's width in cells, which are square."""
_CROWD = 2.0
"""No cell keeps more corners than so many times the median cell has: what has much texture must
not outvote the rest."""
_LEVELS, _STEP = 8, 1.2
_ASTRAY = 1.5
"""Pixels of its level beyond which a sharpened corner is another one."""
_OFFERED = 4
"""Corners looked for, per corner kept: the rest gives way to an even spread."""


@dataclass(frozen=True, slots=True)
class Features:
    """N corners.

    uv           float32 [N, 2], pixels, pixel i has its centre at i + 0.5
    octave       uint8 [N], level of the pyramid, each 1.2 times coarser; 0 of xfeat
    descriptors  of orb uint8 [N, 32], 256 bits; of xfeat int8 [N, 64], a unit vector in steps of
                 1/127. What their distance is, ``matching.match`` knows
    points       float32 [N, 3], camera coordinates in metres; NaN where the depth is unknown
    """

    uv: NDArray[np.float32]
    octave: NDArray[np.uint8]
    descriptors: Descriptors
    points: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.uv)

    def __getitem__(self, index: NDArray[np.generic]) -> Features:
        """Those that ``index`` (mask or numbers) selects."""
        return Features(
            self.uv[index], self.octave[index], self.descriptors[index], self.points[index]
        )

    def without(self, rows: NDArray[np.bool_]) -> Features:
        """The points of ``rows`` unknown."""
        return replace(self, points=np.where(rows[:, None], np.float32(np.nan), self.points))

    @property
    def solid(self) -> NDArray[np.bool_]:
        """[N], which have a point."""
        return np.isfinite(self.points[:, 2])


@lru_cache(maxsize=4)
def _orb(count: int) -> Any:
    # The default border of 31 pixels would leave out much of a small picture.
    return cv2.ORB.create(count, _STEP, _LEVELS, edgeThreshold=16, fastThreshold=7)


def extract(
    image: Image,
    camera: Camera,
    depth: NDArray[np.float32] | None,
    count: int = 1500,
    kind: Kind = "orb",
) -> Features:
    """At most ``count`` corners of ``image`` [H, W, 3] RGB, no more from a cell of a tenth of the
    width than its share; the strongest of each cell first. Raises MissingExtra where the network's
    weights are not installed."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    descriptors: Descriptors
    if kind == "xfeat":
        from retain.models.scene.tracking.xfeat import described

        at, octave, descriptors = described(image, grey, count)
    else:
        at, octave, descriptors = _described(grey, count)
    uv = sharpened(at, octave, grey) + np.float32(0.5)
    return Features(uv, octave, descriptors, lifted(uv, camera, depth))


def _described(
    grey: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
    """Where ORB corners (Rublee et al., ICCV 2011) are, pixel 0 at 0; levels; descriptors."""
    orb = _orb(count * _OFFERED)
    corners = orb.detect(grey, None)
    strength = np.array([corner.response for corner in corners])
    at = np.array([corner.pt for corner in corners]).reshape(-1, 2)
    corners = [corners[i] for i in spread(at, strength, grey.shape[1], count)]
    for rank, corner in enumerate(corners):  # describing sorts them by level
        corner.class_id = rank
    corners, descriptors = orb.compute(grey, corners)
    if not corners:
        return np.zeros((0, 2), np.float32), np.zeros(0, np.uint8), np.zeros((0, 32), np.uint8)
    order = np.argsort([corner.class_id for corner in corners])
    octave = np.array([corner.octave for corner in corners], np.uint8)[order]
    return (
        np.array([corner.pt for corner in corners], np.float32)[order],
        octave,
        descriptors[order],
    )


def sharpened(
    at: NDArray[np.float32], octave: NDArray[np.uint8], grey: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Where the corners are between the pixels of their level (Foerstner's point of least squares
    to the gradients), unless that is somewhere else."""
    if not len(at):
        return at
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)
    found = cv2.cornerSubPix(grey, at[:, None].copy(), (3, 3), (-1, -1), stop)[:, 0]
    near = np.linalg.norm(found - at, axis=1) < _ASTRAY * np.float32(_STEP) ** octave
    return np.where(near[:, None], found, at)


def spread(
    at: NDArray[np.floating], strength: NDArray[np.floating], width: int, count: int
) -> NDArray[np.intp]:
    """Which ``count`` of the corners ``at`` [N, 2] to keep: the strongest of each cell, in
    turns."""
    if not len(at):
        return np.zeros(0, np.intp)
    side = max(width / _COLUMNS, 1.0)
    cell = (at[:, 1] // side).astype(np.int64) * _COLUMNS + (at[:, 0] // side).astype(np.int64)
    order = np.lexsort((-strength, cell))
    cell = cell[order]
    turn = np.arange(len(cell)) - np.searchsorted(cell, cell)
    crowd = max(_CROWD * float(np.median(np.unique(cell, return_counts=True)[1])), 8.0)
    order, turn = order[turn < crowd], turn[turn < crowd]
    chosen: NDArray[np.intp] = order[np.lexsort((-strength[order], turn))[:count]]
    return chosen


def lifted(
    uv: NDArray[np.float32], camera: Camera, depth: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Points [N, 3] in camera coordinates of pixels [N, 2]; NaN without depth or at its edges."""
    points = np.full((len(uv), 3), np.nan, np.float32)
    if depth is None or not len(uv):
        return points
    x = np.clip(uv[:, 0].astype(np.int64), 0, camera.width - 1)
    y = np.clip(uv[:, 1].astype(np.int64), 0, camera.height - 1)
    side = np.arange(-1, 2)
    near = depth[
        np.clip(y[:, None, None] + side[:, None], 0, camera.height - 1),
        np.clip(x[:, None, None] + side, 0, camera.width - 1),
    ].reshape(-1, 9)
    near = np.where(np.isfinite(near), near, 0)
    z = near[:, 4]
    rough = np.where(near > 0, np.abs(near - z[:, None]), 0).max(axis=1) > EDGE * z
    ok = (z > 0) & ~rough
    points[ok, 0] = ((uv[:, 0] - camera.cx) / camera.fx * z)[ok]
    points[ok, 1] = ((uv[:, 1] - camera.cy) / camera.fy * z)[ok]
    points[ok, 2] = z[ok]
    return points
