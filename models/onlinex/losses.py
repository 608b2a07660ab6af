"""What training asks of the network: poses, pictures, shape, confidence, language.

``L = L_global + 0.8 L_relative``, each ``pose + render + 0.5 language`` as published (arXiv
2603.02134), LPIPS replaced by 0.2 (1 - SSIM). Trained from nothing, pictures alone do not find
shape, so each also has the logarithm of the depth and CUT3R's regression with confidence.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.datasets.scene import room_classes
from retain.kernels.rasterize.op import rasterization
from retain.models.onlinex.types import Maps, inverse
from retain.pipeline.errors import UsageError

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_EXACT_M = 0.01
"""Distances below count as this in the regression with confidence, or confidence would grow
without end on what is easy."""
_TURNED = 0.05
"""Least real part of a rotation's quaternion that is divided by: a turn by 174 degrees."""
_TINY = 1e-8


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the losses. As published but for ``pose``, which is of centimetres and would be lost
    beside metres of depth, and ``confidence``, which is of rooms 2.5 metres deep (CUT3R divides by
    that, scene by scene)."""

    relative: float = 0.8
    """Of all that is said in the previous camera's frame."""
    pose: float = 10.0
    render: float = 1.0
    ssim: float = 0.2
    """Within ``render``."""
    language: float = 0.5
    depth: float = 1.0
    confidence: float = 0.4
    alpha: float = 0.2
    """What a unit of confidence's logarithm is worth, metres."""

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0:
            raise UsageError("Weights of losses are 0 or more.")


class Drawn(NamedTuple):
    """Renderings of Gaussians."""

    images: Tensor
    """[B, V, 3, S, S], black where nothing is."""
    codes: Tensor
    """[B, V, S, S, 16], not of unit length."""
    alpha: Tensor
    """[B, V, S, S]."""


def pose_error(found: Tensor, true: Tensor) -> Tensor:
    """[...] of poses [..., 4, 4]: |t - t*| in metres + |q - q*| of unit quaternions, whichever of
    the two signs is nearer."""
    moved = (found[..., :3, 3] - true[..., :3, 3]).square().sum(-1)
    return (moved + _TINY).sqrt() + (_turned(found, true).square().sum(-1) + _TINY).sqrt()


def _turned(found: Tensor, true: Tensor) -> Tensor:
    """[..., 4]: the quaternion between two rotations, its real part >= 0, less that of no turn.
    As long as q - q*: turning both changes no distance between quaternions."""
    between = true[..., :3, :3].transpose(-1, -2) @ found[..., :3, :3]
    trace = between.diagonal(dim1=-2, dim2=-1).sum(-1)
    real = (1 + trace).clamp(min=(2 * _TURNED) ** 2).sqrt() / 2
    skew = between - between.transpose(-1, -2)
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    return torch.cat([(real - 1)[..., None], axis / (4 * real[..., None])], -1)


def points(depth: Tensor, K: Tensor, stride: int) -> Tensor:
    """[B, n, 3] in the camera: what the middle of each block of ``stride`` pixels sees. ``depth``
    [B, S, S] along z: of a block the (lower) median, as a mean lies on no surface at silhouettes.
    """
    batch, side = len(depth), depth.shape[-1] // stride
    blocks = depth.reshape(batch, side, stride, side, stride).transpose(2, 3)
    z = blocks.reshape(batch, side * side, stride * stride).median(-1).values
    along = (torch.arange(side, device=depth.device, dtype=depth.dtype) + 0.5) * stride
    y, x = (grid.reshape(-1) for grid in torch.meshgrid(along, along, indexing="ij"))
    x = (x - K[:, None, 0, 2]) / K[:, None, 0, 0]
    y = (y - K[:, None, 1, 2]) / K[:, None, 1, 1]
    return torch.stack([x * z, y * z, z], -1)


def depth_error(found: Tensor, true: Tensor, camera: Tensor) -> Tensor:
    """[B, n]: |log r - log r*| of the distances of points [B, n, 3] from where the camera truly
    was, [B, 3]."""
    r, known = (_length(at - camera[:, None]) for at in (found, true))
    return (r.log() - known.log()).abs()


def regression(found: Tensor, true: Tensor, confidence: Tensor, alpha: float) -> Tensor:
    """[B, n]: c |x - x*| - alpha log c of points [B, n, 3] with confidence [B, n] (CUT3R, without
    its division by the scene's size: ours is known in metres)."""
    error = _length(found - true).clamp(min=_EXACT_M)
    return confidence * error - alpha * confidence.log()


def _length(vector: Tensor) -> Tensor:
    return (vector.square().sum(-1) + _TINY).sqrt()


def picture_error(found: Tensor, true: Tensor, weight: float) -> Tensor:
    """[N]: mean squared difference + ``weight`` (1 - SSIM) of pictures [N, 3, H, W]."""
    return (found - true).square().mean((1, 2, 3)) + weight * (1 - ssim(found, true))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """[N] of pictures [N, C, H, W] in 0..1, as ``datasets.scene.metrics.ssim``. Raises ValueError
    for pictures smaller than its window of 11 pixels."""
    if min(a.shape[-2:]) < _WINDOW:
        raise ValueError(f"SSIM needs {_WINDOW} pixels or more, got {tuple(a.shape[-2:])}")
    many, count = a.flatten(0, 1), a.shape[0] * a.shape[1]
    pair = b.flatten(0, 1)
    stack = torch.cat([many, pair, many * many, pair * pair, many * pair])
    # By matrices: a convolution of one channel goes back ten times as slowly.
    down, across = (_blur(size, stack) for size in stack.shape[-2:])
    mean_a, mean_b, aa, bb, ab = (down @ stack @ across.T).view(5, count, len(down), len(across))
    var_a, var_b, both = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    alike = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    alike = alike / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))
    mean: Tensor = alike.reshape(len(a), -1).mean(1)
    return mean


def _blur(size: int, like: Tensor) -> Tensor:
    """[size - 10, size]: the Gaussian window at every place where it lies within."""
    at = torch.arange(_WINDOW, device=like.device, dtype=like.dtype) - _WINDOW // 2
    weights = torch.exp(-0.5 * (at / _SIGMA) ** 2)
    out = like.new_zeros(size - _WINDOW + 1, size)
    for i in range(len(out)):
        out[i, i : i + _WINDOW] = weights / weights.sum()
    return out


def language_error(found: Tensor, labels: Tensor) -> Tensor:
    """Minus the mean cosine between codes [..., 16] and those of ``labels`` [...], where there are
    any."""
    true = _codes(found.device)[labels.long()]
    cosine = F.cosine_similarity(found, true, dim=-1, eps=1e-4)
    known = (labels > 0).to(cosine.dtype)
    return -(cosine * known).sum() / known.sum().clamp(min=1)


@cache
def _codes(device: torch.device) -> Tensor:
    return torch.tensor(room_classes.codes(), device=device)


def render(maps: Maps, K: Tensor, c2w: Tensor, side: int) -> Drawn:
    """Gaussians of B scenes, [B, n, ...], in cameras ``c2w`` [B, V, 4, 4] of their frame; K
    [B, 3, 3]."""
    values = torch.cat([maps.colours, maps.codes], -1).float()
    many = c2w.shape[1]
    w2c = inverse(c2w.float().flatten(0, 1)).view(-1, many, 4, 4)
    drawn: list[tuple[Tensor, Tensor]] = []
    for b in range(len(w2c)):  # one scene at a time: CUDA's rasteriser takes no more
        picture, alpha, _ = rasterization(
            maps.centres[b].float(), maps.quats[b].float(), maps.scales[b].float(),
            maps.opacities[b].float(), values[b], w2c[b], K[b].float().expand(many, 3, 3),
            side, side,
        )  # fmt: skip
        drawn.append((picture, alpha))
    pictures = torch.stack([picture for picture, _ in drawn])
    alphas = torch.stack([alpha[..., 0] for _, alpha in drawn])
    return Drawn(pictures[..., :3].permute(0, 1, 4, 2, 3), pictures[..., 3:], alphas)


def shape_loss(maps: Maps, true: Tensor, camera: Tensor, weights: Weights) -> Tensor:
    """Depth and confidence of a frame's Gaussians, whose points are truly at ``true`` [B, n, 3] and
    were seen from ``camera`` [B, 3], all in one frame."""
    depth = depth_error(maps.centres.float(), true, camera).mean()
    error = regression(maps.centres.float(), true, maps.confidence.float(), weights.alpha).mean()
    return weights.depth * depth + weights.confidence * error


def view_loss(drawn: Drawn, images: Tensor, labels: Tensor, weights: Weights) -> Tensor:
    """Pictures [B, V, 3, S, S] and labels [B, V, S, S] against renderings."""
    picture = picture_error(drawn.images.flatten(0, 1), images.flatten(0, 1), weights.ssim).mean()
    said = language_error(drawn.codes, labels)
    return weights.render * picture + weights.language * said
