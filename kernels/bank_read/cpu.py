"""Reading a bank on CPU: an online softmax over blocks of rows.

Same arithmetic as ``reference.py``, which explains it. Neither the rows listed are copied as a
whole nor the scores materialised: a block of ``ROWS`` rows and its scores stay in the cache.
Streams are read one after another, so that a stream's bits do not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 256
"""Rows to a block. 128 to 512 measure the same."""
QUERIES = 512
"""Queries to a block: bounds the scores of a pixel-level read."""


def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """O [B, N, H, E] in the type of ``query``, and log of the sum of exp(S), [B, N, H], in float32
    (float64 if ``query`` is); -inf where no row is listed. Inputs as in ``reference.attend``."""
    batch, queries, heads, _ = query.shape
    wide = wide_type(query)
    out = query.new_zeros(batch, queries, heads, values.shape[-1])
    lse = query.new_full((batch, queries, heads), -torch.inf, dtype=wide)
    for b in range(batch):
        rows, own = listed(index, bias, b)
        for start in range(0, queries, QUERIES):
            block = slice(start, start + QUERIES)
            _attend(query[b, block], keys, values, rows, own, scale, out[b, block], lse[b, block])
    return out, lse


def wide_type(x: Tensor) -> torch.dtype:
    """What sums are kept in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def listed(
    index: Tensor | None, bias: Tensor | None, b: int
) -> tuple[Tensor | None, Tensor | None]:
    """Stream b's rows, without the entries that list nothing, and their biases [K, H]."""
    own = None if bias is None else bias[b]
    if index is None:
        return None, own
    there = index[b] >= 0
    if bool(there.all()):
        return index[b], own
    return index[b][there], None if own is None else own[there]


def blocks(
    keys: Tensor, values: Tensor, rows: Tensor | None, wide: torch.dtype
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(place in the list, keys [H, m, D], values [H or 1, m, E]) of ``ROWS`` rows at a time."""
    for start in range(0, len(keys) if rows is None else len(rows), ROWS):
        block = slice(start, start + ROWS)
        if rows is None:
            k, v = keys[block], values[block]
        else:
            k, v = keys.index_select(0, rows[block]), values.index_select(0, rows[block])
        yield block, k.to(wide).transpose(0, 1), v.to(wide).transpose(0, 1)


def product(share: Tensor, v: Tensor) -> Tensor:
    """[H, n, m] times [H or 1, m, E]: one product where the heads share their values."""
    if v.shape[0] == share.shape[0]:
        return torch.bmm(share, v)
    return (share.flatten(0, 1) @ v[0]).view(*share.shape[:2], -1)


def _attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor | None,
    bias: Tensor | None,
    scale: float,
    out: Tensor,
    lse: Tensor,
) -> None:
    """One stream's ``query`` [n, H, D] into ``out`` [n, H, E] and ``lse`` [n, H]."""
    wide = lse.dtype
    q = (query.to(wide) * scale).transpose(0, 1).contiguous()
    top = q.new_full((*q.shape[:2], 1), -torch.inf)
    total, summed = torch.zeros_like(top), q.new_zeros(*q.shape[:2], values.shape[-1])
    for block, k, v in blocks(keys, values, rows, wide):
        scores = torch.bmm(q, k.mT)
        if bias is not None:
            scores += bias[block].to(wide).mT[:, None]
        higher = torch.maximum(top, scores.amax(-1, keepdim=True))
        share = scores.sub_(higher).exp_()
        fade = (top - higher).exp_()
        total.mul_(fade).add_(share.sum(-1, keepdim=True))
        summed.mul_(fade).add_(product(share, v))
        top = higher
    if (len(keys) if rows is None else len(rows)) == 0:
        return
    out.copy_((summed / total).transpose(0, 1))
    lse.copy_((top + total.log()).squeeze(-1).mT)
