"""Transformer blocks. Their parameters have the names of CroCo's, DUSt3R's and CUT3R's, so that
weights of these fit without a word being translated (``checkpoint``)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_BASE = 100.0
Turn = tuple[Tensor, Tensor]
"""Cosines and sines [T, head width] that rotate queries and keys by their place."""


def turns(places: Tensor, width: int, still: int = 0) -> Turn:
    """Rotary embedding in two dimensions (base 100, as MASt3R's) of ``places`` f32[N, 2] (row,
    column): the first half of a head of ``width`` turns with the row, the second with the column.
    ``still`` tokens without a place come before them and are not turned."""
    speed = _BASE ** -(torch.arange(0, width // 2, 2, device=places.device) / (width // 2))
    angle = places.float()[:, :, None] * speed  # [N, 2, width / 4]
    angle = torch.cat([angle, angle], -1).flatten(1)
    angle = torch.cat([angle.new_zeros(still, width), angle])
    return angle.cos(), angle.sin()


def places(height: int, width: int) -> Tensor:
    """(row, column) of every patch, f32[height * width, 2]."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns], -1).reshape(-1, 2).float()


def turned(x: Tensor, turn: Turn | None) -> Tensor:
    """``x`` [B, H, T, width], rotated."""
    if turn is None:
        return x
    a, b, c, d = x.chunk(4, -1)
    return x * turn[0] + torch.cat([-b, a, -d, c], -1) * turn[1]


class Mlp(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, dim: int, wide: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, wide)
        self.fc2 = nn.Linear(wide, out or dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Attention(nn.Module):
    """Self-attention of ``heads``."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, turn: Turn | None) -> Tensor:
        q, k, v = (_split(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        seen = functional.scaled_dot_product_attention(turned(q, turn), turned(k, turn), v)
        out: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Tokens that look at those of another stream."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq, self.projk = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.projv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, y: Tensor, turn_x: Turn | None, turn_y: Turn | None
    ) -> tuple[Tensor, Tensor]:
        """What ``x`` [B, T, D] sees in ``y`` [B, S, D], and [B, T]: its attention before the
        softmax, the mean over heads and tokens of ``y``."""
        q = turned(_split(self.projq(x), self.heads), turn_x)
        k = turned(_split(self.projk(y), self.heads), turn_y)
        seen = functional.scaled_dot_product_attention(q, k, _split(self.projv(y), self.heads))
        agreement = (q * k.mean(2, keepdim=True)).sum(-1).mean(1) * q.shape[-1] ** -0.5
        return self.proj(seen.transpose(1, 2).flatten(2)), agreement


class Block(nn.Module):
    """Self-attention and feed-forward, norms before them."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(dim), _norm(dim)
        self.attn = Attention(dim, heads)
        self.mlp = Mlp(dim, mlp * dim)

    def forward(self, x: Tensor, turn: Turn | None) -> Tensor:
        x = x + self.attn(self.norm1(x), turn)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class DecoderBlock(nn.Module):
    """A block that looks at another stream between its attention and its feed-forward part."""

    def __init__(self, dim: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = _norm(dim), _norm(dim), _norm(dim)
        self.norm_y = _norm(dim)
        self.attn = Attention(dim, heads)
        self.cross_attn = CrossAttention(dim, heads)
        self.mlp = Mlp(dim, mlp * dim)

    def forward(
        self, x: Tensor, y: Tensor, turn_x: Turn | None = None, turn_y: Turn | None = None
    ) -> tuple[Tensor, Tensor]:
        """As ``CrossAttention``: new tokens [B, T, D] and agreement [B, T]."""
        x = x + self.attn(self.norm1(x), turn_x)
        seen, agreement = self.cross_attn(self.norm2(x), self.norm_y(y), turn_x, turn_y)
        x = x + seen
        return x + self.mlp(self.norm3(x)), agreement


class DualDecoder(nn.Module):
    """Two streams, each looking at the other in every block (DUSt3R's decoder)."""

    def __init__(self, dim: int, heads: int, mlp: int, depth: int) -> None:
        super().__init__()
        self.first = nn.ModuleList(DecoderBlock(dim, heads, mlp) for _ in range(depth))
        self.second = nn.ModuleList(DecoderBlock(dim, heads, mlp) for _ in range(depth))
        self.norm_first, self.norm_second = _norm(dim), _norm(dim)

    def forward(
        self, x: Tensor, y: Tensor, turn_x: Turn | None = None, turn_y: Turn | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both streams, and the agreement [B, S] of the second with the first, mean of blocks."""
        agreement = torch.zeros(y.shape[:2], dtype=y.dtype, device=y.device)
        for first, second in zip(self.first, self.second, strict=True):
            new_x, _ = first(x, y, turn_x, turn_y)
            new_y, agreed = second(y, x, turn_y, turn_x)
            x, y, agreement = new_x, new_y, agreement + agreed / len(self.first)
        return self.norm_first(x), self.norm_second(y), agreement


def _norm(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, eps=1e-6)


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, T, D] to [B, heads, T, D / heads]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)
