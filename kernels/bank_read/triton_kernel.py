"""Reading a bank on CUDA: one kernel, rows fetched through the index list, softmax online.

Same arithmetic as ``reference.py``, which explains it. A program holds one head's queries and walks
that stream's list; neither rows nor scores are ever written to memory. Nothing is added up
atomically and streams do not share a program: results repeat bit for bit, in any batch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MAX_DIM = 128
"""Key or value channels of a head that fit one tile."""
TILE = {"N": 32, "M": 32}
"""Queries of a program, rows at a time; found by compiling for sm_90: no spills."""


@triton.jit
def attend(
    query,
    keys,
    values,
    index,
    bias,
    out,
    lse,
    queries,
    rows,
    count,
    heads,
    dims,
    width,
    scale,
    INDEXED: tl.constexpr,
    BIASED: tl.constexpr,
    SHARED: tl.constexpr,
    PRECISION: tl.constexpr,
    N: tl.constexpr,
    M: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
):
    """out [B, N, H, E], lse [B, N, H] of query [B, N, H, D], keys [R, H, D], values [R, _, E]."""
    b, h = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    n, m = tl.program_id(1) * N + tl.arange(0, N), tl.arange(0, M)
    d, e = tl.arange(0, D), tl.arange(0, E)
    place = (b * queries + n) * heads + h
    some = (n[:, None] < queries) & (d[None, :] < dims)
    q = tl.load(query + place[:, None] * dims + d[None, :], mask=some, other=0.0)
    top = tl.full((N,), float("-inf"), tl.float32)
    total = tl.zeros((N,), tl.float32)
    summed = tl.zeros((N, E), tl.float32)
    for start in range(0, count, M):
        at = start + m
        row = at.to(tl.int64)
        if INDEXED:
            row = tl.load(index + b * count + at, mask=at < count, other=-1)
        there = (at < count) & (row >= 0) & (row < rows)
        key = (row[:, None] * heads + h) * dims + d[None, :]
        k = tl.load(keys + key, mask=there[:, None] & (d[None, :] < dims), other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if BIASED:
            s += tl.load(bias + (b * count + at) * heads + h, mask=there, other=0.0)[None, :]
        s = tl.where(there[None, :], s, float("-inf"))
        higher = tl.maximum(top, tl.max(s, 1))
        # A stream may begin with entries that list nothing: -inf less -inf is no number.
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        share = tl.exp(s - safe[:, None])
        fade = tl.exp(top - safe)
        if SHARED:
            value = row[:, None] * width + e[None, :]
        else:
            value = (row[:, None] * heads + h) * width + e[None, :]
        v = tl.load(values + value, mask=there[:, None] & (e[None, :] < width), other=0.0)
        total = total * fade + tl.sum(share, 1)
        come = tl.dot(share.to(v.dtype), v, input_precision=PRECISION)
        summed = summed * fade[:, None] + come
        top = higher
    empty = total == 0.0
    answer = summed / tl.where(empty, 1.0, total)[:, None]
    fits = (n[:, None] < queries) & (e[None, :] < width)
    tl.store(out + place[:, None] * width + e[None, :], answer.to(out.dtype.element_ty), mask=fits)
    whole = tl.where(empty, float("-inf"), top + tl.log(tl.where(empty, 1.0, total)))
    tl.store(lse + place, whole, mask=n < queries)


def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """O [B, N, H, E] and log-sum-exp [B, N, H] float32; see ``cpu.read``. Raises ValueError for
    float64 and for heads of more than 128 channels."""
    batch, queries, heads, dims = query.shape
    width = values.shape[-1]
    if query.dtype == torch.float64 or max(dims, width) > MAX_DIM:
        raise ValueError(
            f"on CUDA a bank is read in float32 or less, by heads of at most {MAX_DIM} channels, "
            f"not in {query.dtype} with {max(dims, width)}"
        )
    if not query.dtype == keys.dtype == values.dtype:
        keys, values = keys.to(query.dtype), values.to(query.dtype)
    query, keys, values = query.contiguous(), keys.contiguous(), values.contiguous()
    out = query.new_empty(batch, queries, heads, width)
    lse = query.new_empty(batch, queries, heads, dtype=torch.float32)
    count = len(keys) if index is None else index.shape[1]
    d, e = tile(dims), tile(width)
    attend[(batch * heads, triton.cdiv(queries, TILE["N"]))](
        query, keys, values,
        lse if index is None else index.contiguous(),
        lse if bias is None else bias.float().contiguous(),
        out, lse, queries, len(keys), count, heads, dims, width, scale,
        INDEXED=index is not None, BIASED=bias is not None, SHARED=values.shape[1] < heads,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        **TILE, D=d, E=e, num_warps=warps(d, e),
    )  # fmt: skip
    return out, lse


def tile(size: int) -> int:
    """Channels of a tile that holds ``size``."""
    return max(16, int(triton.next_power_of_2(size)))


def warps(d: int, e: int) -> int:
    """Enough for no register of a product to spill."""
    return 4 if max(d, e) <= 64 else 8
