"""The active state: geometry of a frame relative to the one before it, made anew every time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.models.onlinex.blocks import DualDecoder, places, turns
from retain.models.onlinex.config import OnlineXConfig


class RelativeExtractor(nn.Module):
    """Dual decoder over the tokens of frames t and t - 1; a learned token in front of the first
    stream gathers the relative pose."""

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = self.config = config
        self.embed = nn.Linear(c.dim, c.decoder_dim)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, c.decoder_dim))
        self.stack = Stack(c) if c.stacked else None
        self.decoder = DualDecoder(c.decoder_dim, c.decoder_heads, c.mlp, c.decoder_depth)
        self.cos: Tensor
        self.sin: Tensor
        width = c.decoder_dim // c.decoder_heads
        cos, sin = turns(places(c.grid, c.grid), width, still=1)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self, tokens: Tensor, previous: Tensor, image: Tensor, picture: Tensor, extra: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encoder ``tokens`` and ``previous`` ones [B, N, dim] with their pictures [B, 3, S, S],
        and what is known of matches already, to be added to the frame's [B, N, D]. Gives the pose
        feature [B, D], features of the frame and of the previous one [B, N, D]."""
        x, y = self.embed(tokens), self.embed(previous)
        if self.stack is not None:
            x = x + self.stack(image, picture)
        if extra is not None:
            x = x + extra
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        turn = self.cos, self.sin
        x, y, _ = self.decoder(x, y, turn, (self.cos[1:], self.sin[1:]))
        return x[:, 0], x[:, 1:], y


class Stack(nn.Module):
    """Two pictures on top of each other to one token per patch: motions below the size of a patch
    are visible to convolutions long before attention has learned to compare patches."""

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = config
        half = c.decoder_dim // 2
        self.conv1 = nn.Conv2d(6, half // 2, 5, 2, 2)
        self.conv2 = nn.Conv2d(half // 2, half, 3, 2, 1)
        self.conv3 = nn.Conv2d(half, half, 3, 1, 1)
        self.out = nn.Conv2d(half, c.decoder_dim, c.patch // 4, c.patch // 4)

    def forward(self, image: Tensor, picture: Tensor) -> Tensor:
        x = functional.gelu(self.conv1(torch.cat([image - picture, image - 0.5], 1)))
        x = functional.gelu(self.conv2(x))
        x = x + functional.gelu(self.conv3(x))
        return self.out(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]
