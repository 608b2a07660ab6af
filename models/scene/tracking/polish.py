# mypy: disallow-untyped-decorators=False
"""A pose made exact against the map: each pixel's point to the surface that the map shows there.

Projective point-to-plane ICP (Newcombe et al., ISMAR 2011) with a share of brightness, from coarse
to fine, robust. Nothing is believed that does not lower the residual by a small step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
LEAP, DOUBT = (np.deg2rad(8), 0.2), 0.8
"""Radians, metres that another pose may lie from where it was looked for, and the share of the cost
that it must not exceed for a pose of corners to be given up for it."""
FITS = 0.6
"""Cost of a pose that is believed whatever corners say: true ones have 0.2 to 0.4."""
_WIDE = 160
"""Pixels across at the finer of two levels: a still finer one costs more than it gives."""
_STEPS = 6
_STILL = 5e-5
"""Radians and metres: a step so small ends a level."""
_LEAST = 0.1
"""Share of the pixels that must lie on the surface."""
_CELLS = 10, 8
"""Across and down: parts of the picture that are trusted or not as a whole."""
_MOST = 0.65
"""Share of the picture's area that a pose is judged by: the part that it fits best."""
_ODD, _USUAL = 2.0, 0.1
"""A cell that costs so many times the median cell, or the least that counts as usual, is trusted by
half."""
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
    return Polish(front, shot).polished(c2w)


class Polish:
    """Poses of ``shot`` as the pixels of ``front`` judge them.

    Corners are where texture is: those of a thing that moves can outvote all others, or find a pose
    between its motion and theirs. Here every part of the picture counts by its area, and the parts
    that fit worst do not count.
    """

    def __init__(self, front: Front, shot: Shot) -> None:
        self._front, self._size = front, (shot.camera.width, shot.camera.height)
        self._levels: list[tuple[np.ndarray, ...]] = []
        if shot.depth is not None:
            now = Front.of_shot(shot, front.c2w)
            pairs = (front.coarser(), now.coarser()), (front, now)
            self._levels = [_planes(*pair) for pair in pairs]

    def cost(self, c2w: Pose) -> float:
        """Mean over the pixels of the cells that cost least and make up ``_MOST`` of the area;
        infinite where too little is shared."""
        if not self._levels:
            return float("inf")
        _, _, cost, count = _normal(*self._levels[-1], self._motion(c2w))
        if count.sum() < _LEAST * self._levels[-1][1].size:
            return float("inf")
        order = np.argsort(cost / np.maximum(count, 1), kind="stable")
        sums = np.cumsum(count[order])
        kept = order[: int(np.searchsorted(sums, _MOST * sums[-1])) + 1]
        return float(cost[kept].sum() / max(count[kept].sum(), 1))

    def settled(self, c2w: Pose) -> Pose | None:
        """The best pose downhill from ``c2w``; None when too little is shared or some motion is not
        determined."""
        motion = _descended(self._levels, self._motion(c2w)) if self._levels else None
        if motion is None:
            return None
        better: Pose = self._front.c2w @ motion
        # Inverses by transposition double what a rotation lacks in straightness, keyframe by
        # keyframe.
        better[:3, :3] = rigid.matrix(rigid.quaternion(better[:3, :3]))
        return better

    def polished(self, c2w: Pose) -> Pose | None:
        """``settled``, if that is better and a small step away."""
        better = self.settled(c2w)
        if better is None or not _within(STEP, c2w, better):
            return None
        return better if self.cost(better) < self.cost(c2w) else None

    def instead(self, c2w: Pose, others: Sequence[Pose], share: float = DOUBT) -> Pose | None:
        """A pose reached from one of ``others`` that costs less than ``share`` of ``c2w``, and
        little enough to be believed."""
        pairs = [(start, self.settled(start)) for start in others]
        settled = [end for start, end in pairs if end is not None and _within(LEAP, start, end)]
        costs = [self.cost(pose) for pose in settled]
        if not costs or min(costs) >= min(share * self.cost(c2w), FITS):
            return None
        return settled[int(np.argmin(costs))]

    def trusted(self, c2w: Pose, uv: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[N], which pixels ``uv`` of the shot are in cells that fit at ``c2w``, or are not seen
        by both."""
        if not self._levels:
            return np.ones(len(uv), np.bool_)
        _, _, cost, count = _normal(*self._levels[-1], self._motion(c2w))
        across, down = _CELLS
        x, y = np.clip(uv / self._size, 0, 0.999).T
        cell = (y * down).astype(np.int64) * across + (x * across).astype(np.int64)
        trusted: NDArray[np.bool_] = (_trusted(cost, count) > 0.5)[cell]
        return trusted

    def _motion(self, c2w: Pose) -> Pose:
        """From the shot's camera to that of the front."""
        return rigid.inverse(self._front.c2w) @ c2w


def _descended(levels: list[tuple[np.ndarray, ...]], motion: Pose) -> Pose | None:
    """``motion`` after Gauss-Newton on each of ``levels``, coarse to fine; None where too little is
    shared or some motion is not determined."""
    for planes in levels:
        for _ in range(_STEPS):
            h, g, cost, count = _normal(*planes, motion)
            if count.sum() < _LEAST * planes[1].size:
                return None
            w = _trusted(cost, count)
            h, g = np.tensordot(w, h, 1), w @ g
            unit = np.sqrt(np.outer(h.diagonal(), h.diagonal())) + 1e-12
            if np.linalg.eigvalsh(h / unit)[0] < _WEAK:
                return None
            step = -np.linalg.solve(h + 1e-6 * np.diag(h.diagonal()), g)
            motion = rigid.exp(step) @ motion
            if np.abs(step).max() < _STILL:
                break
    return motion


def _within(most: tuple[float, float], a: Pose, b: Pose) -> bool:
    """Whether ``b`` is no farther from ``a`` than radians and metres of ``most``."""
    moved = rigid.inverse(a) @ b
    turned = float(np.linalg.norm(rigid.rotation_vector(moved[:3, :3])))
    return turned <= most[0] and float(np.linalg.norm(moved[:3, 3])) <= most[1]


def _trusted(cost: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights [B] of cells by what their pixels cost on average: what most of the picture's area
    does not cost is of something that moves on its own."""
    each = cost / np.maximum(count, 1)
    usual = max(_quantile(each, count, 0.5), _USUAL)
    weights: NDArray[np.float64] = 1 / (1 + (each / (_ODD * usual)) ** 4)
    return weights


def _quantile(x: NDArray[np.float64], weight: NDArray[np.float64], share: float) -> float:
    order = np.argsort(x, kind="stable")
    sums = np.cumsum(weight[order])
    return float(x[order[np.searchsorted(sums, share * sums[-1])]])


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
    drawn from), robust costs and numbers of pixels, each by cell of the shot's picture."""
    fx, fy, cx, cy = numbers[0], numbers[1], numbers[2], numbers[3]
    height, width = grey.shape
    across, down = _CELLS
    cells = across * down
    h, g, j = np.zeros((cells, 6, 6)), np.zeros((cells, 6)), np.zeros(6)
    cost, count = np.zeros(cells), np.zeros(cells)
    for v in range(height):
        for u in range(width):
            i = (v * down // height) * across + u * across // width
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
            count[i] += 1
            # Depth noise grows with the square of the depth.
            sigma = DEPTH_SIGMA * max(1.0, z * z / 4)
            r = (n0 * dx + n1 * dy + n2 * dz) / sigma
            w = 1.0 / (1.0 + r * r)
            cost[i] += np.log1p(r * r)
            j[0], j[1], j[2] = y * n2 - z * n1, z * n0 - x * n2, x * n1 - y * n0
            j[3], j[4], j[5] = n0, n1, n2
            for k in range(6):
                g[i, k] += w * r * j[k] / sigma
                for m in range(k + 1):
                    h[i, k, m] += w * j[k] * j[m] / (sigma * sigma)
            # Between the pixels' centres the map's brightness is linear.
            px, py = fx * x / z + cx - 0.5 - s, fy * y / z + cy - 0.5 - t
            gx = 0.5 * (drawn[t, s + 1] - drawn[t, s - 1])
            gy = 0.5 * (drawn[t + 1, s] - drawn[t - 1, s])
            r = (drawn[t, s] + gx * px + gy * py - grey[v, u]) / GREY_SIGMA
            w = BRIGHTNESS / (1.0 + r * r)
            cost[i] += BRIGHTNESS * np.log1p(r * r)
            p, q = gx * fx / z, gy * fy / z
            o = -(p * x + q * y) / z
            j[0], j[1], j[2] = y * o - z * q, z * p - x * o, x * q - y * p
            j[3], j[4], j[5] = p, q, o
            for k in range(6):
                g[i, k] += w * r * j[k] / GREY_SIGMA
                for m in range(k + 1):
                    h[i, k, m] += w * j[k] * j[m] / (GREY_SIGMA * GREY_SIGMA)
    for k in range(6):
        for m in range(k):
            h[:, m, k] = h[:, k, m]
    return h, g, cost, count
