"""How a network holds out on rooms it has not seen, beyond the length it was trained with.

Poses are compared in the first camera's frame as they are: nothing is aligned, the scale is the
network's own. Views are from between the frames, so no input shows them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.datasets.scene.trajectory import absolute_errors
from retain.models.onlinex import losses
from retain.models.onlinex.fusion import Fused
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.scenes import Batch, Pool
from retain.models.onlinex.types import inverse

Array = NDArray[np.float64]
FRAMES = 64
AT = (1, 3, 7, 11, 15, 23, 31, 39, 47, 55, 63)
"""Frames after which views are drawn."""
BUDGET = 32_768
"""Gaussians of the map."""


@dataclass(frozen=True, slots=True)
class Result:
    """Of one network, by room: what it is judged by."""

    translation: list[list[float]]
    """[rooms, FRAMES] metres from the true place."""
    rotation: list[list[float]]
    """[rooms, FRAMES] degrees."""
    step_translation: list[list[float]]
    """[rooms, FRAMES] metres, of the motion since the frame before."""
    step_rotation: list[list[float]]
    """[rooms, FRAMES] degrees."""
    depth: list[list[float]]
    """[rooms, FRAMES] median relative error of the depth of a frame's Gaussians."""
    psnr: list[list[float]]
    """[rooms, len(AT)] dB: the view before the newest frame, of the map so far, from where its
    camera truly was."""
    ate: list[float]
    """[rooms] metres, after rigid alignment of the path."""

    def mean(self, name: str, first: int, last: int) -> Array:
        """[rooms]: the mean of ``name`` over frames ``first`` to ``last``, both included."""
        values = np.asarray(getattr(self, name))
        index = np.asarray(AT if name == "psnr" else range(values.shape[1]))
        return np.asarray(values[:, (index >= first) & (index <= last)].mean(1))


def held_out(pool: Pool) -> Batch:
    """All rooms of ``pool``, their first ``FRAMES`` steps, without a camera's errors."""
    return pool.whole(np.arange(pool.config.rooms), FRAMES)


@torch.no_grad()
def judge(net: OnlineX, batch: Batch, tell: Callable[[int, int], None] | None = None) -> Result:
    """``net`` on ``batch``, frame by frame, with its own poses."""
    rooms, frames = batch.images.shape[:2]
    state, known = net.begin(rooms), None
    poses, steps, depths, views = [], [], [], []
    for t in range(frames):
        out, state = net.step(batch.images[:, t], batch.K, state)
        known = net.fuse(known, out, BUDGET)
        poses.append(out.pose)
        steps.append(out.relative_pose)
        stride = net.config.side // round(out.depth.shape[1] ** 0.5)
        true = losses.points(batch.depth[:, t], batch.K, stride)[..., 2]
        depths.append(((out.depth - true).abs() / true).median(1).values)
        if t in AT:
            views.append(_seen(net, known, batch, t))
        if tell is not None:
            tell(t + 1, frames)
    return measured(batch, torch.stack(poses, 1), torch.stack(steps, 1), depths, views)


def measured(
    batch: Batch, poses: Tensor, steps: Tensor, depths: Sequence[Tensor], views: Sequence[Tensor]
) -> Result:
    """Of poses [B, T, 4, 4] in the first camera, motions [B, T, 4, 4] and, by frame, what was
    measured of depths and views [B]."""
    true = batch.c2w
    moved = motions(true)
    ate = [
        absolute_errors(found.numpy(), known.numpy()).rmse
        for found, known in zip(poses.double(), true.double(), strict=True)
    ]
    return Result(
        translation=_apart(poses, true),
        rotation=_turned(poses, true),
        step_translation=_apart(steps, moved),
        step_rotation=_turned(steps, moved),
        depth=torch.stack(list(depths), 1).tolist() if depths else [],
        psnr=torch.stack(list(views), 1).tolist() if views else [],
        ate=ate,
    )


def constant_pose(batch: Batch) -> Result:
    """Who never moves, and shows the newest frame for every view. Needs no network."""
    still = torch.eye(4).expand(batch.c2w.shape)
    copied = [psnr(batch.images[:, t], batch.between.images[:, t - 1]) for t in AT]
    return measured(batch, still, still, [], copied)


@torch.no_grad()
def true_poses(net: OnlineX, batch: Batch) -> Result:
    """The shapes ``net`` sees in single frames and pairs, put where the cameras truly were: what a
    perfect path would give."""
    rooms, frames = batch.images.shape[:2]
    state, known, views = net.begin(rooms), None, []
    for t in range(frames):
        out, state = net.step(batch.images[:, t], batch.K, state)
        back = inverse(out.relative_pose)
        maps = out.relative.moved(back).moved(batch.c2w[:, t])
        known = net.fuse(known, replace(out, global_=maps), BUDGET)
        if t in AT:
            views.append(_seen(net, known, batch, t))
    return measured(batch, batch.c2w, motions(batch.c2w), [], views)


def psnr(found: Tensor, true: Tensor) -> Tensor:
    """[B] dB of pictures [B, 3, S, S] in 0..1."""
    return -10 * (found.clamp(0, 1) - true).square().mean((1, 2, 3)).clamp(min=1e-10).log10()


def frame_cost(net: OnlineX, batch: Batch, frames: int = 1000) -> Array:
    """[frames] seconds of this process's CPU time for each frame of a stream, its map within
    ``BUDGET`` included: the frames of ``batch`` again and again."""
    state, known, took = net.begin(1), None, []
    with torch.no_grad():
        for t in range(frames):
            at = t % batch.images.shape[1]
            began = time.process_time()
            out, state = net.step(batch.images[:1, at], batch.K[:1], state)
            known = net.fuse(known, out, BUDGET)
            took.append(time.process_time() - began)
    return np.array(took)


def _seen(net: OnlineX, known: Fused, batch: Batch, t: int) -> Tensor:
    views = batch.between
    drawn = losses.render(net.scene(known), batch.K, views.c2w[:, t - 1 : t], net.config.side)
    return psnr(drawn.images[:, 0], views.images[:, t - 1])


def motions(c2w: Tensor) -> Tensor:
    """[B, T, 4, 4] of paths [B, T, 4, 4]: camera t in camera t - 1; the identity first."""
    home = inverse(c2w[:, :-1].flatten(0, 1)).view_as(c2w[:, 1:])
    still = torch.eye(4).expand(len(c2w), 1, 4, 4)
    return torch.cat([still, home @ c2w[:, 1:]], 1)


def _apart(found: Tensor, true: Tensor) -> list[list[float]]:
    apart: list[list[float]] = (found[..., :3, 3] - true[..., :3, 3]).norm(dim=-1).tolist()
    return apart


def _turned(found: Tensor, true: Tensor) -> list[list[float]]:
    """Degrees, from the angle's sine and cosine."""
    between = true[..., :3, :3].mT @ found[..., :3, :3]
    skew = between - between.mT
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1).norm(dim=-1)
    cosine = between.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    turned: list[list[float]] = torch.rad2deg(torch.atan2(sine, cosine)).tolist()
    return turned
