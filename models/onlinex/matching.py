"""Motion by geometry: where places of a picture were in the one before, and the rigid motion that
this and their depths say. What is learned is what to compare, what to trust, and the depths."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.encoder import slopes
from retain.models.onlinex.types import rigid, rotation, transform

_GRID = 32
"""Places along a side, at most."""
_REACH = 4
"""Places in each direction in which is looked."""
_CHANNELS = 24
_SHARP = 30.0
"""Of the softmax over places, before training."""
_FLAT = 0.02
"""Length of features that count half: what has no texture matches nothing."""
_STEPS = 3
_OUTLIER = 1.0
"""Places: matches that are off by as much count half."""
_HELD = 0.1
"""Pull towards no motion, squared pixels: decides only where pictures say nothing."""
_NEAR = 0.05
"""Metres; nothing is nearer."""


class Match(NamedTuple):
    """Of n places of a picture, a square grid of them."""

    flow: Tensor
    """[B, n, 2]: how many pixels (x, y) away each was in the picture before."""
    trust: Tensor
    """[B, n], above 0."""
    tokens: Tensor
    """[B, N, D]: what the places of every patch look like together."""


class Matches(nn.Module):
    """Correlation of learned features with those of the previous picture."""

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = self.config = config
        self.stride = max(2, c.side // _GRID)
        self.grid = c.side // self.stride
        self.conv1 = nn.Conv2d(3 * self.stride**2, _CHANNELS, 3, 1, 1, bias=False)
        self.conv2 = nn.Conv2d(_CHANNELS, _CHANNELS, 3, 1, 1, bias=False)
        self.sharp = nn.Parameter(torch.tensor(_SHARP).log())
        half = c.decoder_dim // 2
        self.mix = nn.Conv2d((2 * _REACH + 1) ** 2 + 3 + _CHANNELS, half, 1)
        self.conv3 = nn.Conv2d(half, half, 3, 1, 1)
        self.trust = nn.Conv2d(half, 1, 1)
        for parameter in self.trust.parameters():
            nn.init.zeros_(parameter)
        self.out = nn.Linear(half, c.decoder_dim)

    def forward(self, image: Tensor, picture: Tensor) -> Match:
        """``image`` and the ``picture`` before it, both [B, 3, S, S]."""
        features = self._features(torch.cat([image, picture]))
        here, there = features.chunk(2)
        score = correlation(here, there, _REACH)
        share = (self.sharp.exp() * functional.avg_pool2d(score, 3, 1, 1)).softmax(1)
        sure, flow = share.square().sum(1, keepdim=True), moved(share)
        x = functional.gelu(self.mix(torch.cat([score, flow, sure, here], 1)))
        x = x + functional.gelu(self.conv3(x))
        trust = sure * self.trust(x).clamp(-5, 5).exp()
        tokens = functional.adaptive_avg_pool2d(x, self.config.grid).flatten(2).transpose(1, 2)
        flow = self.stride * flow.flatten(2).transpose(1, 2)
        return Match(flow, trust.flatten(1), self.out(tokens))

    def _features(self, x: Tensor) -> Tensor:
        """Of what differs from its surroundings, [.., C, grid, grid], of length 1 where there is
        texture; brightness and contrast do not matter."""
        around = functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
        x = self.conv1(functional.pixel_unshuffle(x - around, self.stride))
        x = x + self.conv2(functional.relu(x))
        return x / (x.square().sum(1, keepdim=True) + _FLAT**2).sqrt()

    def align(self, found: Match, depth: Tensor, K: Tensor) -> Tensor:
        """The motion that ``found`` says with the ``depth`` [B, m] of a square map of the picture:
        c2w [B, 4, 4] of its camera in the previous one."""
        side = math.isqrt(depth.shape[1])
        plane = depth.reshape(-1, 1, side, side)
        z = functional.adaptive_avg_pool2d(plane, self.grid).flatten(1)[..., None]
        points = torch.cat([slopes(K, self.grid, self.stride) * z, z], -1)
        return aligned(points, found.flow, found.trust, K, _OUTLIER * self.stride)


def correlation(a: Tensor, b: Tensor, reach: int) -> Tensor:
    """Products of ``a`` [B, C, h, w] with what ``b`` has up to ``reach`` places away, [B, (2 reach
    + 1)^2, h, w]: by rows, then columns, from the least. Beyond the border is nothing."""
    side = 2 * reach + 1
    near = functional.unfold(b, side, padding=reach).reshape(*b.shape[:2], side**2, -1)
    return (a.flatten(2)[:, :, None] * near).sum(1).reshape(len(a), side**2, *a.shape[2:])


def moved(share: Tensor) -> Tensor:
    """Mean displacement (x, y) [B, 2, h, w] in places, of shares [B, side^2, h, w]."""
    side = math.isqrt(share.shape[1])
    at = torch.arange(side, dtype=share.dtype, device=share.device) - side // 2
    places = torch.stack([at.repeat(side), at.repeat_interleave(side)])
    return torch.einsum("ds,bshw->bdhw", places, share)


def aligned(points: Tensor, flow: Tensor, trust: Tensor, K: Tensor, outlier: float) -> Tensor:
    """c2w [B, 4, 4] that takes ``points`` [B, n, 3] of a camera to where the previous one has seen
    them, ``flow`` [B, n, 2] pixels away: Gauss-Newton steps from no motion, least squares weighted
    by ``trust`` [B, n] and, from the second on, less for what is ``outlier`` pixels off or more."""
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)[:, None]
    seen = focal * points[..., :2] / points[..., 2:].clamp(min=_NEAR) + flow
    share = trust / trust.sum(1, keepdim=True).clamp(min=1e-9)
    motion = torch.eye(4, dtype=points.dtype, device=points.device).expand(len(points), 4, 4)
    for step in range(_STEPS):
        at = transform(motion, points)
        x, y, z = at[..., 0], at[..., 1], at[..., 2].clamp(min=_NEAR)
        rest = seen - focal * torch.stack([x / z, y / z], -1)
        weight = share
        if step:
            weight = share / (1 + rest.square().sum(-1) / outlier**2)
        one, none = 1 / z, torch.zeros_like(z)
        rows = torch.stack([
            torch.stack([one, none, -x / z**2, -x * y / z**2, 1 + (x / z) ** 2, -y / z], -1),
            torch.stack([none, one, -y / z**2, -1 - (y / z) ** 2, x * y / z**2, x / z], -1),
        ], 2) * focal[..., None]  # fmt: skip
        heavy = rows * weight[..., None, None]
        normal = torch.einsum("bnij,bnik->bjk", heavy, rows)
        normal = normal + _HELD * torch.eye(6, dtype=z.dtype, device=z.device)
        found = torch.linalg.solve(normal, torch.einsum("bnij,bni->bj", heavy, rest))
        half = torch.cat([torch.ones_like(found[:, :1]), found[:, 3:] / 2], 1)
        turn = rotation(functional.normalize(half, dim=-1))
        motion = rigid(turn, found[:, :3]) @ motion
    return motion
