"""The shared encoder: a picture and its intrinsics to tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retain.models.onlinex.blocks import Block, Turn, places, turns
from retain.models.onlinex.config import OnlineXConfig


class Encoder(nn.Module):
    """A ViT with rotary places. Intrinsics come in with every patch: the slope of its ray and how
    wide it is, so that a network of one focal length reads pictures of another."""

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = self.config = config
        self.patch = nn.Conv2d(3, c.dim, c.patch, c.patch)
        self.rays = nn.Linear(4, c.dim)
        self.blocks = nn.ModuleList(Block(c.dim, c.heads, c.mlp) for _ in range(c.encoder_depth))
        self.norm = nn.LayerNorm(c.dim, eps=1e-6)
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = turns(places(c.grid, c.grid), c.dim // c.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, image: Tensor, K: Tensor) -> Tensor:
        """``image`` f32[B, 3, S, S] in 0..1, ``K`` f32[B, 3, 3] in pixels: f32[B, N, dim]."""
        c, turn = self.config, (self.cos, self.sin)
        rays = slopes(K, c.grid, c.patch)
        wide = c.patch / torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)
        seen = torch.cat([rays, wide[:, None].expand(-1, rays.shape[1], -1)], -1)
        x = self.patch(2 * image - 1).flatten(2).transpose(1, 2) + self.rays(seen)
        return self.norm(through(self.blocks, x, turn))  # type: ignore[no-any-return]


def through(blocks: nn.ModuleList, x: Tensor, turn: Turn | None) -> Tensor:
    """``x`` after all ``blocks``."""
    for block in blocks:
        x = block(x, turn)
    return x


def slopes(K: Tensor, side: int, step: int) -> Tensor:
    """x / z and y / z [B, side * side, 2] of the middles of blocks of ``step`` pixels, in rows."""
    middle = (torch.arange(side, device=K.device, dtype=K.dtype) + 0.5) * step
    x = (middle - K[:, 0, 2, None]) / K[:, 0, 0, None]
    y = (middle - K[:, 1, 2, None]) / K[:, 1, 1, None]
    pair = [x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)]
    return torch.stack(pair, -1).flatten(1, 2)
