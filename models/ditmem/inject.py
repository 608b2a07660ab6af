"""Memory rows in a frozen transformer (DiT-Mem, arXiv 2511.19229), and what they are compared with.

As published, the rows go through a block with the picture's tokens and their outputs are dropped.
Nothing but their keys and values can then be felt, so only these are made here: the same result
without the rows' queries and feed-forward. ``Attention.full_sequence`` is the published form.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from retain.models.ditmem.backbone import VideoDit

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class MemoryRows:
    """What a memory adds to every block."""

    tokens: Tensor
    """[B, M, D], the same for all blocks."""
    valid: Tensor | None = None
    """bool [B, M]; rows that are not valid are as if absent. None: all are."""
    bias: Tensor | None = None
    """[depth], added to the rows' logits; learned where there is one."""
    static_time: float | None = None
    """Modulate the rows as at this time whatever the time is, so that keys and values are those of
    all steps (``VideoDit.cached``). None: as published, at the present time."""
    adapter: CrossAttention | None = None
    """Read the rows by attention of its own instead."""
    kept: tuple[Pair, ...] | None = None
    """Per block: keys and values [B, heads, M, width], once they are known (``VideoDit.cached``,
    ``RowPairs``)."""

    def none(self) -> bool:
        """Whether nothing would be felt of it."""
        return self.tokens.shape[1] == 0 or (self.valid is not None and not bool(self.valid.any()))

    def mask(self, block: int, before: int) -> Tensor | None:
        """What is added to the logits of ``before`` tokens and then the rows: [B, 1, 1, before + M]
        or None where that is nothing."""
        if self.valid is None and self.bias is None:
            return None
        batch, rows = self.tokens.shape[:2]
        added = self.tokens.new_zeros(batch, 1, 1, rows)
        if self.bias is not None:
            added = added + self.bias[block]
        if self.valid is not None:
            added = added.masked_fill(~self.valid[:, None, None], float("-inf"))
        return functional.pad(added, (before, 0))

    def expand(self, batch: int) -> MemoryRows:
        """The rows of one sample for each of ``batch``."""

        def each(tensor: Tensor) -> Tensor:
            return tensor.expand(batch, *tensor.shape[1:])

        return replace(
            self,
            tokens=each(self.tokens),
            valid=None if self.valid is None else each(self.valid),
            kept=self.kept and tuple((each(k), each(v)) for k, v in self.kept),
        )

    def drop(self, keep: Tensor) -> MemoryRows:
        """Without the rows of samples where ``keep``, bool [B], is False."""
        valid = keep[:, None].expand(self.tokens.shape[:2])
        return replace(self, valid=valid if self.valid is None else self.valid & valid)


class Attention(nn.Module):
    """Self-attention with QK-norm over the full width and rotary positions, as in Wan2.1."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim, 1e-6), nn.RMSNorm(dim, 1e-6)

    def split(self, rows: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, width]."""
        return rows.reshape(*rows.shape[:2], self.heads, -1).transpose(1, 2)

    def pair(self, rows: Tensor) -> Pair:
        """Keys, without positions, and values of modulated ``rows`` [B, M, D]."""
        return self.split(self.norm_k(self.k(rows))), self.split(self.v(rows))

    def forward(
        self, x: Tensor, turn: Tensor, memory: Pair | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """``x`` [B, N, D], modulated; ``turn`` complex [N, width / 2]; ``memory`` keys and values
        of rows; ``mask`` [B, 1, 1, N + M] added to the logits. Returns [B, N, D]."""
        q = rotate(self.split(self.norm_q(self.q(x))), turn)
        k, v = self.pair(x)
        k = rotate(k, turn)
        if memory is not None:
            k, v = torch.cat([k, memory[0]], 2), torch.cat([v, memory[1]], 2)
        out = functional.scaled_dot_product_attention(q, k, v, mask)
        return self.o(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def full_sequence(self, x: Tensor, rows: Tensor, turn: Tensor) -> Tensor:
        """The published form, to compare with: ``rows`` [B, M, D] attend too and are dropped."""
        both = torch.cat([x, rows], 1)
        still = turn.new_ones(rows.shape[1], turn.shape[1])
        return self(both, torch.cat([turn, still]))[:, : x.shape[1]]  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Attention of its own for memory rows, one per block, that starts by adding nothing: what new
    weights buy over the backbone's own (an IP-Adapter or PhysRAG way of doing it)."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Attention(dim, heads) for _ in range(depth))
        for block in self.blocks:
            assert isinstance(block, Attention)
            nn.init.zeros_(block.o.weight)
            nn.init.zeros_(block.o.bias)

    def forward(self, block: int, x: Tensor, memory: MemoryRows) -> Tensor:
        """What block number ``block`` adds to ``x`` [B, N, D]; zero where no row is valid."""
        own = self.blocks[block]
        assert isinstance(own, Attention)
        k, v = own.pair(memory.tokens)
        q = own.split(own.norm_q(own.q(x)))
        mask = memory.mask(block, 0)
        out = functional.scaled_dot_product_attention(q, k, v, mask)
        added = own.o(out.transpose(1, 2).flatten(2))
        if memory.valid is None:
            return added  # type: ignore[no-any-return]
        some = memory.valid.any(1)[:, None, None]
        return torch.where(some, torch.nan_to_num(added), 0.0)


class RowPairs(nn.Module):
    """Keys and values of memory rows by weights of their own, one pair of layers per block, that
    start as the backbone's; its queries meet them in the same softmax as its own.

    They do not follow the time, so that they are made once for all steps.
    """

    def __init__(self, dit: VideoDit) -> None:
        super().__init__()
        stack = [block.attention for block in dit.stack()]
        self.heads = stack[0].heads
        self.k = nn.ModuleList(copy.deepcopy(attention.k) for attention in stack)
        self.v = nn.ModuleList(copy.deepcopy(attention.v) for attention in stack)
        self.norm = nn.ModuleList(copy.deepcopy(attention.norm_k) for attention in stack)
        self.requires_grad_(True)

    def forward(self, tokens: Tensor) -> tuple[Pair, ...]:
        """``tokens`` [B, M, D] to a pair [B, heads, M, width] per block."""
        rows = functional.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
        return tuple(
            (self._split(norm(k(rows))), self._split(v(rows)))
            for k, v, norm in zip(self.k, self.v, self.norm, strict=True)
        )

    def _split(self, rows: Tensor) -> Tensor:
        return rows.reshape(*rows.shape[:2], self.heads, -1).transpose(1, 2)


class LowRank(nn.Module):
    """LoRA (arXiv 2106.09685): a frozen linear layer plus a product of two thin ones."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))  # type: ignore[no-any-return]


def add_lora(model: VideoDit, rank: int) -> list[nn.Parameter]:
    """Give q, k, v and o of every block a ``LowRank`` companion; the parameters to be trained.

    Raises ValueError when it has them already.
    """
    new: list[nn.Parameter] = []
    for block in model.stack():
        attention = block.attention
        for name in ("q", "k", "v", "o"):
            base = getattr(attention, name)
            if not isinstance(base, nn.Linear):
                raise ValueError("this backbone has LoRA layers already")
            low = LowRank(base, rank)
            setattr(attention, name, low)
            new += [*low.down.parameters(), *low.up.parameters()]
    return new


def turns(frames: int, rows: int, columns: int, width: int) -> Tensor:
    """Rotary positions over time, row and column of a grid of tokens: complex64
    [frames * rows * columns, width / 2], theta 10,000.

    Rows and columns get a third of the pairs each, rounded down, time the rest.
    """
    third = width // 6
    pairs = (width // 2 - 2 * third, third, third)
    at = torch.meshgrid(*(torch.arange(n) for n in (frames, rows, columns)), indexing="ij")
    angles = []
    for place, count in zip(at, pairs, strict=True):
        speed = 10_000.0 ** -(torch.arange(count, dtype=torch.float64) / count)
        angles.append(place.flatten()[:, None] * speed)
    angle = torch.cat(angles, 1)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """``x`` [B, heads, N, width]: pairs of neighbouring channels turned by ``turn``, complex
    [N, width / 2]."""
    a, b = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    c, s = turn.real.to(x.dtype), turn.imag.to(x.dtype)
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)
