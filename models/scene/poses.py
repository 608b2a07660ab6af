"""Poses among what gradient steps move: a small motion for each keyframe, shared by its pictures.

Pictures between keyframes are tied to theirs by the tracker, to millimetres; what drifts is the
keyframe. One motion for all of them has several pictures to go by, and everything that is known
relative to the keyframe (the path, frames that judge the map) follows it. The map's Gaussians do
not: they have gradients of their own, from all pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.pipeline.frame import Image

Matrix = NDArray[np.float64]

COLOR, DEPTH = 0.8, 0.5
"""Weights of the differences of colour (0..1) and depth (metres) in the loss."""
SHARE = 0.4
"""Of the way that the first step would go if the loss were no more than these differences. Later
ones are shorter by the root of their number, so that poses come to rest."""
EVERY = 2
"""Pixels between those that say how much a motion changes a picture."""
DAMPING = 0.15
"""Of each direction's curvature: what one picture cannot tell apart is not moved far by it."""
SPREAD, DEPTH_SPREAD = 0.02, 0.03
"""Least mean difference of colour, and that of depth in metres."""
STEP = np.deg2rad(0.1), 0.004
MOST = np.deg2rad(2.0), 0.04
"""Radians and metres: no step is longer; farther from where they began poses do not move."""


@dataclass(frozen=True, slots=True)
class Target:
    """A picture to come close to."""

    camera: Camera
    c2w: Matrix
    image: Image
    """uint8 [H, W, 3] RGB."""
    depth: NDArray[np.float32]
    """[H, W] metres, 0 unknown."""
    keyframe: int = -1
    """With which its pose may move."""


class KeyframePoses:
    """The poses ``c2w`` of the keyframes of ``targets``, by id; ``fixed`` ones stay as they are.
    ``unit``: what counts as a metre.

    A step is Newton's, damped, with the curvature that absolute differences have in the mean
    (Laplace's distribution), from the slopes of picture and depth. Unlike Adam's it becomes small
    where nothing is wrong, and turning and moving sideways, which look alike, do not hinder each
    other.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        c2w: Mapping[int, Matrix],
        fixed: Sequence[int] = (),
        unit: float = 1.0,
    ) -> None:
        self._targets, self._start, self._unit = targets, c2w, unit
        self._motion = {t.keyframe: np.eye(4) for t in targets}
        self._free = set(self._motion) - set(fixed)
        self._steps = dict.fromkeys(self._motion, 0)
        self._curves: dict[int, Matrix] = {}

    def w2c(self, index: int) -> tuple[Tensor, Tensor]:
        """World to camera float64 [4, 4] of a target, and the twist [6] of its keyframe, zero, that
        the gradient is for."""
        target = self._targets[index]
        twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        start = self._start[target.keyframe]
        back = rigid.inverse(start @ self._motion[target.keyframe])
        turned = torch.eye(4, dtype=torch.float64) - torch.tensordot(twist, _GENERATORS, dims=1)
        out = rigid.inverse(target.c2w) @ start
        return torch.from_numpy(out) @ turned @ torch.from_numpy(back), twist

    def step(self, index: int, twist: Tensor, loss: float) -> None:
        """Move the keyframe of a target down the gradient that ``twist`` has got of ``loss``."""
        key = self._targets[index].keyframe
        if key not in self._free or twist.grad is None:
            return
        if index not in self._curves:
            self._curves[index] = self._curvature(self._targets[index])
        spread = max(loss, SPREAD)
        curve = self._curves[index][0] * COLOR / spread + self._curves[index][1]
        curve += DAMPING * np.diag(np.diag(curve)) + 1e-9 * np.eye(6)
        self._steps[key] += 1
        share = SHARE / np.sqrt(self._steps[key])
        down = -share * np.linalg.solve(curve, twist.grad.numpy())
        motion = self._motion[key] @ rigid.exp(_within(down, STEP, self._unit))
        self._motion[key] = rigid.exp(_within(rigid.log(motion), MOST, self._unit))

    def moved(self) -> dict[int, Matrix]:
        """The new c2w of keyframes that took a step."""
        taken = sorted(key for key, steps in self._steps.items() if steps)
        return {key: self._start[key] @ self._motion[key] for key in taken}

    def _curvature(self, target: Target) -> Matrix:
        """[2, 6, 6]: mean squares of how the picture's grey levels, and its depth, change with the
        keyframe's twist; the latter with its weight."""
        c, z = target.camera, target.depth[::EVERY, ::EVERY].astype(np.float64)
        grey = cv2.cvtColor(target.image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        slope = [
            cv2.Sobel(grey, cv2.CV_32F, *axis, scale=1 / 8)[::EVERY, ::EVERY]
            for axis in ((1, 0), (0, 1))
        ]
        known = z > 0
        v, u = (EVERY * k[known] + 0.5 for k in np.indices(z.shape))
        x, y, z = (u - c.cx) / c.fx, (v - c.cy) / c.fy, z[known]
        out = rigid.inverse(target.c2w) @ self._start[target.keyframe]
        points = rigid.transform(rigid.inverse(out), np.stack([x * z, y * z, z], axis=1))
        moved = np.concatenate(
            [np.stack([np.cross(axis, points) for axis in np.eye(3)], axis=2),
             np.broadcast_to(np.eye(3), (len(z), 3, 3))], axis=2,
        )  # fmt: skip
        moved = out[:3, :3] @ moved  # [N, 3, 6], up to the sign
        gx, gy = slope[0][known] * c.fx / z, slope[1][known] * c.fy / z
        of_color = np.einsum("nc,nck->nk", np.stack([gx, gy, -gx * x - gy * y], axis=1), moved)
        of_depth = moved[:, 2] / self._unit
        count = known.size
        return np.stack([
            of_color.T @ of_color / count,
            DEPTH / DEPTH_SPREAD * of_depth.T @ of_depth / count,
        ])  # fmt: skip


def _within(twist: Matrix, most: tuple[float, float], unit: float) -> Matrix:
    """``twist``, made shorter if it turns or moves by more."""
    turn, shift = float(np.linalg.norm(twist[:3])), float(np.linalg.norm(twist[3:]))
    return twist / max(1.0, turn / most[0], shift / (most[1] * unit))


def _generators() -> Tensor:
    """[6, 4, 4]: what a twist (turn, then shift) is made of."""
    out = torch.zeros(6, 4, 4, dtype=torch.float64)
    for k in range(3):
        unit = np.zeros(3)
        unit[k] = 1
        out[k, :3, :3] = torch.from_numpy(rigid.skew(unit))
        out[k + 3, k, 3] = 1
    return out


_GENERATORS = _generators()
