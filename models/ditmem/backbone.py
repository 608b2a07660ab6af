"""A small video diffusion transformer in the manner of Wan2.1: what the memory is given to.

Tokens are patches of single frames. A block is modulated by the time of the flow (one projection
for all, a table per block), attends over all of space and time, and may be given memory rows.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.models.ditmem.config import DitConfig
from retain.models.ditmem.inject import Attention, MemoryRows, Pair, turns

_WAVES = 64


class Block(nn.Module):
    """One transformer block. ``parts`` are shift, scale and gate of the attention, then the same of
    the feed-forward part, [B, 6, D] of the present time."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        dim = config.dim
        self.attention = Attention(dim, config.heads)
        self.feed = nn.Sequential(
            nn.Linear(dim, config.mlp * dim), nn.GELU("tanh"), nn.Linear(config.mlp * dim, dim)
        )
        self.table = nn.Parameter(torch.randn(1, 6, dim) / math.sqrt(dim))

    def rows(self, tokens: Tensor, time: Tensor) -> Pair:
        """Keys and values of memory ``tokens`` [B, M, D] at ``time`` [B, 6, D]."""
        shift, scale = (self.table + time).unbind(1)[:2]
        return self.attention.pair(modulate(tokens, shift, scale))

    def forward(
        self, x: Tensor, time: Tensor, turn: Tensor, memory: MemoryRows | None, number: int
    ) -> Tensor:
        parts = (self.table + time).unbind(1)
        normal = modulate(x, parts[0], parts[1])
        if memory is None or memory.adapter is not None:
            seen = self.attention(normal, turn)
        else:
            pair = memory.kept[number] if memory.kept else self.rows(memory.tokens, time)
            seen = self.attention(normal, turn, pair, memory.mask(number, x.shape[1]))
        x = x + parts[2][:, None] * seen
        if memory is not None and memory.adapter is not None:
            x = x + memory.adapter(number, x, memory)
        fed: Tensor = self.feed(modulate(x, parts[3], parts[4]))
        return x + parts[5][:, None] * fed


class VideoDit(nn.Module):
    """Velocity of the flow from clips to noise; see ``flow``."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.config = c = config
        cell = c.patch * c.patch
        self.embed = nn.Linear((2 * c.channels + 1) * cell, c.dim)
        self.clock = nn.Sequential(nn.Linear(_WAVES, c.dim), nn.SiLU(), nn.Linear(c.dim, c.dim))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(c.dim, 6 * c.dim))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth))
        self.last = nn.Parameter(torch.randn(1, 2, c.dim) / math.sqrt(c.dim))
        self.head = nn.Linear(c.dim, c.channels * cell)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        side = c.side // c.patch
        self.turn: Tensor
        turn = turns(c.frames, side, side, c.dim // c.heads)
        self.register_buffer("turn", turn, persistent=False)

    def forward(
        self,
        noisy: Tensor,
        s: Tensor,
        clean: Tensor,
        given: Tensor,
        memory: MemoryRows | None = None,
    ) -> Tensor:
        """``noisy`` and ``clean`` [B, T, C, H, W], ``s`` [B] from 0 (clip) to 1 (noise), ``given``
        bool [B, T]: frames that are known, of which ``clean`` is read and ``noisy`` is not.
        Returns the velocity [B, T, C, H, W]. Memory of which nothing is valid changes no bit."""
        if memory is not None and memory.none():
            memory = None
        if memory is not None and memory.static_time is not None and memory.kept is None:
            memory = self.cached(memory)
        known = given[:, :, None, None, None]
        shown = torch.where(known, clean, noisy)
        flag = known.to(noisy.dtype).expand(-1, -1, 1, *noisy.shape[-2:])
        x = self.embed(self._patches(torch.cat([shown, clean * known, flag], 2)))
        clock = self.clock(waves(s))
        time = self._parts(clock)
        for number, block in enumerate(self.stack()):
            x = block(x, time, self.turn, memory, number)
        shift, scale = (self.last + clock[:, None]).unbind(1)
        return self._pictures(self.head(modulate(x, shift, scale)))

    def cached(self, memory: MemoryRows) -> MemoryRows:
        """``memory`` with its keys and values of every block. Raises ValueError for rows that
        follow the time, which have none that last."""
        if memory.static_time is None:
            raise ValueError("only rows of a static time can be cached")
        s = memory.tokens.new_full(memory.tokens.shape[:1], memory.static_time)
        time = self._parts(self.clock(waves(s)))
        kept = [block.rows(memory.tokens, time) for block in self.stack()]
        return replace(memory, kept=tuple(kept))

    def stack(self) -> list[Block]:
        """The blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def _parts(self, clock: Tensor) -> Tensor:
        parts: Tensor = self.time(clock)
        return parts.reshape(len(clock), 6, -1)

    def _patches(self, x: Tensor) -> Tensor:
        """[B, T, C, H, W] to tokens [B, T * h * w, C * patch * patch]."""
        p, (b, t, c, h, w) = self.config.patch, x.shape
        x = x.reshape(b, t, c, h // p, p, w // p, p)
        return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(b, -1, c * p * p)

    def _pictures(self, x: Tensor) -> Tensor:
        c, b = self.config, len(x)
        side = c.side // c.patch
        x = x.reshape(b, c.frames, side, side, c.channels, c.patch, c.patch)
        return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(b, c.frames, c.channels, c.side, c.side)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then [B, D] ``scale`` and ``shift``."""
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def waves(s: Tensor) -> Tensor:
    """Sinusoids of the time ``s`` [B] in 0..1: [B, 64]."""
    speed = 10_000.0 ** -(torch.arange(_WAVES // 2, device=s.device) / (_WAVES // 2))
    angle = 1000.0 * s[:, None] * speed
    return torch.cat([angle.cos(), angle.sin()], -1)
