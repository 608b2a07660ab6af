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
from retain.models.onlinex.types import inverse, rigid, rotation, transform

_GRID = 32
"""Places along a side, at most."""
_REACH = 4
"""Places in each direction in which is looked."""
_CHANNELS = 24
_SHARP = 15.0
"""Of the softmax over places, before training."""
_FLAT = 0.02
"""Length of features that count half: what has no texture matches nothing."""
_STEPS = 3
"""Of Gauss-Newton, of each kind."""
_OUTLIER = 1.0
"""Places: matches that are off by as much count half."""
_HELD = 0.1
"""Pull towards no motion, squared pixels: decides only where pictures say nothing."""
_NEAR = 0.05
"""Metres; nothing is nearer."""
_HELD_FINE = 1e-3
"""The same in the refinement, in squares of features."""
_UNLIKE = 0.1
"""Squared distance of features, which have length 1, that counts half in the refinement."""


class Match(NamedTuple):
    """Of n places of a picture, a square grid of them."""

    flow: Tensor
    """[B, n, 2]: how many pixels (x, y) away each was in the picture before."""
    trust: Tensor
    """[B, n], above 0."""
    tokens: Tensor
    """[B, N, D]: what the places of every patch look like together."""
    here: Tensor
    there: Tensor
    """Features of the picture and of the one before, [B, C, side, side]."""


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
        share = (self.sharp.exp() * functional.avg_pool2d(score, 5, 1, 2)).softmax(1)
        sure, flow = share.square().sum(1, keepdim=True), moved(share)
        x = functional.gelu(self.mix(torch.cat([score, flow, sure, here], 1)))
        x = x + functional.gelu(self.conv3(x))
        trust = sure * self.trust(x).clamp(-5, 5).exp()
        tokens = functional.adaptive_avg_pool2d(x, self.config.grid).flatten(2).transpose(1, 2)
        flow = self.stride * flow.flatten(2).transpose(1, 2)
        return Match(flow, trust.flatten(1), self.out(tokens), here, there)

    def _features(self, x: Tensor) -> Tensor:
        """Of what differs from its surroundings, [.., C, grid, grid], of length 1 where there is
        texture; brightness and contrast do not matter."""
        around = functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
        x = self.conv1(functional.pixel_unshuffle(x - around, self.stride))
        x = x + self.conv2(functional.relu(x))
        return x / (x.square().sum(1, keepdim=True) + _FLAT**2).sqrt()

    def align(self, found: Match, depth: Tensor, K: Tensor) -> Tensor:
        """The motion that ``found`` says with the ``depth`` [B, m] of a square map of the picture:
        c2w [B, 4, 4] of its camera in the previous one. Matches first, which see far, then features
        themselves, which see fractions of a pixel."""
        side = math.isqrt(depth.shape[1])
        plane = depth.reshape(-1, 1, side, side)
        z = functional.adaptive_avg_pool2d(plane, self.grid).flatten(1)[..., None]
        points = torch.cat([slopes(K, self.grid, self.stride) * z, z], -1)
        start = aligned(points, found.flow, found.trust, K, _OUTLIER * self.stride)
        return refined(start, points, found, K, self.stride)


def correlation(a: Tensor, b: Tensor, reach: int) -> Tensor:
    """Products of ``a`` [B, C, h, w] with what ``b`` has up to ``reach`` places away, [B, (2 reach
    + 1)^2, h, w]: by rows, then columns, from the least. Beyond the border is nothing."""
    height, width = a.shape[2:]
    near = functional.pad(b, (reach,) * 4)
    shifts = [(y, x) for y in range(2 * reach + 1) for x in range(2 * reach + 1)]
    products = [(a * near[:, :, y : y + height, x : x + width]).sum(1) for y, x in shifts]
    return torch.stack(products, 1)  # a third of the time of unfolding


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
        rest = seen - focal * at[..., :2] / at[..., 2:].clamp(min=_NEAR)
        weight = share
        if step:
            weight = share / (1 + rest.square().sum(-1) / outlier**2)
        rows = slopes_of_motion(at, focal)
        heavy = rows * weight[..., None, None]
        motion = _solved(heavy, rows, rest, _HELD) @ motion
    return motion


def refined(start: Tensor, points: Tensor, found: Match, K: Tensor, stride: int) -> Tensor:
    """``start`` [B, 4, 4] after Gauss-Newton steps on the features themselves (inverse
    compositional): those of ``points`` [B, n, 3] against those that the motion says they have in
    the picture before. Places that leave it count nothing, unlike ones less."""
    side = found.here.shape[-1]
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)[:, None] / stride
    middle = torch.stack([K[:, 0, 2], K[:, 1, 2]], -1)[:, None] / stride
    rows = slopes_of_motion(points, focal)
    wide = functional.pad(found.here, (1, 1, 1, 1), mode="replicate")
    across = (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]) / 2
    down = (wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]) / 2
    change = torch.stack([across, down], 2).flatten(3).permute(0, 3, 1, 2)  # [B, n, C, 2]
    both = change.mT @ change @ rows
    here, motion = found.here.flatten(2).mT, start
    for _ in range(_STEPS):
        at = transform(motion, points)
        place = 2 * (focal * at[..., :2] / at[..., 2:].clamp(min=_NEAR) + middle) / side - 1
        there = functional.grid_sample(
            found.there, place[:, :, None], padding_mode="border", align_corners=False
        )
        rest = there[..., 0].mT - here
        inside = (place.abs() < 1).all(-1) & (at[..., 2] > _NEAR)
        weight = found.trust * inside / (1 + rest.square().sum(-1) / _UNLIKE)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=1e-9)
        pull = (change.mT @ rest[..., None])[..., 0]
        back = _solved(rows * weight[..., None, None], both, pull, _HELD_FINE)
        motion = motion @ inverse(back)
    return motion


def slopes_of_motion(points: Tensor, focal: Tensor) -> Tensor:
    """How pixels of ``points`` [B, n, 3] move with a camera's world: [B, n, 2, 6], for shifts,
    then turns. ``focal`` [B, 1, 2]."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2].clamp(min=_NEAR)
    one, none = 1 / z, torch.zeros_like(z)
    rows = [
        torch.stack([one, none, -x / z**2, -x * y / z**2, 1 + (x / z) ** 2, -y / z], -1),
        torch.stack([none, one, -y / z**2, -1 - (y / z) ** 2, x * y / z**2, x / z], -1),
    ]
    return torch.stack(rows, 2) * focal[..., None]


def _solved(heavy: Tensor, rows: Tensor, rest: Tensor, held: float) -> Tensor:
    """The motion [B, 4, 4] of one step: ``heavy`` and ``rows`` [B, n, 2, 6], ``rest`` [B, n, 2]."""
    normal = torch.einsum("bnij,bnik->bjk", heavy, rows)
    normal = normal + held * torch.eye(6, dtype=rows.dtype, device=rows.device)
    found = torch.linalg.solve(normal, torch.einsum("bnij,bni->bj", heavy, rest))
    half = torch.cat([torch.ones_like(found[:, :1]), found[:, 3:] / 2], 1)
    return rigid(rotation(functional.normalize(half, dim=-1)), found[:, :3])
