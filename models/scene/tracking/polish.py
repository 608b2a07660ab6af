# mypy: disallow-untyped-decorators=False
"""A pose made exact against the map: each pixel's point to the surface that the map shows there.

Projective point-to-plane ICP (Newcombe et al., ISMAR 2011) with a share of brightness, from coarse
to fine, robust. Nothing is believed that does not lower the residual by a small step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking.base import Pose, Rendered
from retain.pipeline.errors import StateError

Plane = NDArray[np.float32]

SOLID = 0.9
"""Alpha of the map from which on a pixel of it counts."""
BRIGHTNESS = 0.1
"""Weight of the brightness residual beside that of depth."""
DEPTH_SIGMA, GREY_SIGMA = 0.01, 0.05
"""Metres and brightness (0..1): residuals beyond these pull less and less (Cauchy)."""
APART = 0.1
"""Metres, or this share of the depth: a point farther from the map's surface is not of it."""
STEP = (np.deg2rad(1.5), 0.03)
"""Radians, metres: no polish is farther."""
_WIDE = 160
"""Pixels across at the finer of two levels: a still finer one costs more than it gives."""
_STEPS = 6
_STILL = 5e-5
"""Radians and metres: a step so small ends a level."""
_LEAST = 0.1
"""Share of the pixels that must lie on the surface."""
_WEAK = 1e-3
"""Smallest eigenvalue of the normal equations, scaled to a unit diagonal: below it some motion is
not determined (an empty wall)."""

_compiled = njit(cache=True, nogil=True)


@dataclass(frozen=True, slots=True)
class Front:
    """What is seen from ``c2w``, thinned out: a keyframe or the map.

    grey   float32 [h, w], 0..1
    depth  float32 [h, w], metres, 0 where unknown
    """

    c2w: Pose
    camera: Camera
    grey: Plane
    depth: Plane

    @staticmethod
    def of_shot(shot: Shot, c2w: Pose) -> Front:
        assert shot.depth is not None
        grey = cv2.cvtColor(shot.image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        depth = np.where(np.isfinite(shot.depth), shot.depth, 0).astype(np.float32)
        return _front(shot.camera, c2w, grey, depth)

    @staticmethod
    def of_map(camera: Camera, c2w: Pose, seen: Rendered) -> Front:
        grey = cv2.cvtColor(np.ascontiguousarray(seen.color, np.float32), cv2.COLOR_RGB2GRAY)
        depth = np.where(seen.alpha > SOLID, seen.depth, 0).astype(np.float32)
        return _front(camera, c2w, grey, depth)

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        camera = self.camera
        numbers = [camera.fx, camera.fy, camera.cx, camera.cy]
        return {
            "front.c2w": self.c2w.copy(), "front.camera": np.array(numbers),
            "front.grey": self.grey.copy(), "front.depth": self.depth.copy(),
        }  # fmt: skip

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray]) -> Front:
        """Raises StateError for arrays that ``arrays`` did not make."""
        try:
            c2w, numbers, grey, depth = (
                arrays[f"front.{name}"] for name in ("c2w", "camera", "grey", "depth")
            )
            height, width = grey.shape
            fx, fy, cx, cy = map(float, numbers)
            camera = Camera(fx, fy, cx, cy, width, height)
        except (KeyError, ValueError, TypeError) as error:
            raise StateError(f"The saved picture of the newest keyframe: {error}.") from None
        planes = (grey, depth)
        fine = all(a.shape == grey.shape and a.dtype == np.float32 for a in planes)
        if not fine or not rigid.is_rigid(c2w):
            raise StateError("The saved picture of the newest keyframe has wrong arrays.")
        return Front(c2w.copy(), camera, grey.copy(), depth.copy())

    def coarser(self) -> Front:
        """Half as wide."""
        return _resized(self, self.camera.width // 2, self.camera.height // 2)


def _front(camera: Camera, c2w: Pose, grey: Plane, depth: Plane) -> Front:
    skip = max(1, round(camera.width / _WIDE))
    return _resized(Front(c2w, camera, grey, depth), camera.width // skip, camera.height // skip)


def _resized(front: Front, width: int, height: int) -> Front:
    grey = cv2.resize(front.grey, (width, height), interpolation=cv2.INTER_AREA)
    # Depths are never mixed: between two surfaces is nothing.
    depth = cv2.resize(front.depth, (width, height), interpolation=cv2.INTER_NEAREST)
    return Front(front.c2w, front.camera.resized(width, height), grey, depth)


def polish(front: Front, shot: Shot, c2w: Pose) -> Pose | None:
    """``c2w``, the pose of ``shot``, corrected so that it fits ``front``; None when they share too
    little, or no small step makes it better."""
    if shot.depth is None:
        return None
    start = rigid.inverse(front.c2w) @ c2w
    now = Front.of_shot(shot, c2w)
    motion, before, after = start, 0.0, 0.0
    for target, source in ((front.coarser(), now.coarser()), (front, now)):
        planes = _planes(target, source)
        for _ in range(_STEPS):
            h, g, _, count = _normal(*planes, motion)
            if count < _LEAST * target.grey.size:
                return None
            unit = np.sqrt(np.outer(h.diagonal(), h.diagonal())) + 1e-12
            if np.linalg.eigvalsh(h / unit)[0] < _WEAK:
                return None
            step = -np.linalg.solve(h + 1e-6 * np.diag(h.diagonal()), g)
            motion = rigid.exp(step) @ motion
            if np.abs(step).max() < _STILL:
                break
        before, after = _cost(planes, start), _cost(planes, motion)
    moved = rigid.inverse(start) @ motion
    turned = float(np.linalg.norm(rigid.rotation_vector(moved[:3, :3])))
    if turned > STEP[0] or np.linalg.norm(moved[:3, 3]) > STEP[1] or not after < before:
        return None
    better = front.c2w @ motion
    # Inverses by transposition double what a rotation lacks in straightness, keyframe by keyframe.
    better[:3, :3] = rigid.matrix(rigid.quaternion(better[:3, :3]))
    return better


def _cost(planes: tuple[np.ndarray, ...], motion: Pose) -> float:
    _, _, cost, count = _normal(*planes, motion)
    return float(cost / max(count, 1))


def _planes(target: Front, source: Front) -> tuple[np.ndarray, ...]:
    """Points and brightness of ``source``; points, normals and brightness of ``target``; its
    camera's numbers. NaN where unknown."""
    camera = target.camera
    points, surface = (
        front.camera.unproject(np.where(front.depth > 0, front.depth, np.float32(np.nan)))
        for front in (source, target)
    )
    both = (source.depth > 0) & (target.depth > 0)
    level = np.float32(1)
    if both.any():
        # Exposure wanders: brightness is compared after its level is made the same.
        level = np.median(target.grey[both]) / max(np.median(source.grey[both]), np.float32(1e-3))
    numbers = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    return points, source.grey * level, surface, _normals(surface), target.grey, numbers


def _normals(surface: Plane) -> Plane:
    """Unit normals [H, W, 3] of points; NaN at the border, holes and edges of depth."""
    out = np.full(surface.shape, np.nan, np.float32)
    across = surface[1:-1, 2:] - surface[1:-1, :-2]
    down = surface[2:, 1:-1] - surface[:-2, 1:-1]
    normal = np.cross(across, down)
    with np.errstate(invalid="ignore", divide="ignore"):
        normal /= np.linalg.norm(normal, axis=2, keepdims=True)
        z = surface[1:-1, 1:-1, 2]
        edge = (np.abs(across[..., 2]) > 0.1 * z) | (np.abs(down[..., 2]) > 0.1 * z)
    normal[edge] = np.nan
    out[1:-1, 1:-1] = normal
    return out


@_compiled
def _normal(points, grey, surface, normals, drawn, numbers, motion):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Normal equations of a twist on the left of ``motion`` (shot's camera to where the map was
    drawn from), robust cost and number of pixels."""
    fx, fy, cx, cy = numbers[0], numbers[1], numbers[2], numbers[3]
    height, width = grey.shape
    h, g, j = np.zeros((6, 6)), np.zeros(6), np.zeros(6)
    cost, count = 0.0, 0
    for v in range(height):
        for u in range(width):
            if not points[v, u, 2] > 0:
                continue
            a, b, c = points[v, u, 0], points[v, u, 1], points[v, u, 2]
            x = motion[0, 0] * a + motion[0, 1] * b + motion[0, 2] * c + motion[0, 3]
            y = motion[1, 0] * a + motion[1, 1] * b + motion[1, 2] * c + motion[1, 3]
            z = motion[2, 0] * a + motion[2, 1] * b + motion[2, 2] * c + motion[2, 3]
            if z < 0.05:
                continue
            s, t = int(np.floor(fx * x / z + cx)), int(np.floor(fy * y / z + cy))
            if s < 1 or t < 1 or s >= width - 1 or t >= height - 1:
                continue
            n0, n1, n2 = normals[t, s, 0], normals[t, s, 1], normals[t, s, 2]
            if not n2 * n2 >= 0:
                continue
            dx, dy, dz = x - surface[t, s, 0], y - surface[t, s, 1], z - surface[t, s, 2]
            if not dx * dx + dy * dy + dz * dz < (APART * max(1.0, z)) ** 2:
                continue
            count += 1
            # Depth noise grows with the square of the depth.
            sigma = DEPTH_SIGMA * max(1.0, z * z / 4)
            r = (n0 * dx + n1 * dy + n2 * dz) / sigma
            w = 1.0 / (1.0 + r * r)
            cost += np.log1p(r * r)
            j[0], j[1], j[2] = y * n2 - z * n1, z * n0 - x * n2, x * n1 - y * n0
            j[3], j[4], j[5] = n0, n1, n2
            for k in range(6):
                g[k] += w * r * j[k] / sigma
                for m in range(k + 1):
                    h[k, m] += w * j[k] * j[m] / (sigma * sigma)
            # Between the pixels' centres the map's brightness is linear.
            px, py = fx * x / z + cx - 0.5 - s, fy * y / z + cy - 0.5 - t
            gx = 0.5 * (drawn[t, s + 1] - drawn[t, s - 1])
            gy = 0.5 * (drawn[t + 1, s] - drawn[t - 1, s])
            r = (drawn[t, s] + gx * px + gy * py - grey[v, u]) / GREY_SIGMA
            w = BRIGHTNESS / (1.0 + r * r)
            cost += BRIGHTNESS * np.log1p(r * r)
            p, q = gx * fx / z, gy * fy / z
            o = -(p * x + q * y) / z
            j[0], j[1], j[2] = y * o - z * q, z * p - x * o, x * q - y * p
            j[3], j[4], j[5] = p, q, o
            for k in range(6):
                g[k] += w * r * j[k] / GREY_SIGMA
                for m in range(k + 1):
                    h[k, m] += w * j[k] * j[m] / (GREY_SIGMA * GREY_SIGMA)
    for k in range(6):
        for m in range(k):
            h[m, k] = h[k, m]
    return h, g, cost, count
