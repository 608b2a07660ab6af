"""The backward of reading a bank, on any device: weights recomputed from the sum that was kept.

    P = exp(S - lse)    dV = P^T dO    dS = P (dO V^T - sum(dO O))
    dq = scale dS k     dk = scale dS^T q

Sums are float32, or float64 for float64 queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retain.kernels.bank_read.cpu import blocks, listed, product, wide_type


def backward(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, keys, values and bias (empty for None), for ``grad`` of ``out``, both
    [B, N, H, E]."""
    wide = wide_type(query)
    d_query = torch.zeros_like(query, dtype=wide)
    d_keys, d_values = torch.zeros_like(keys, dtype=wide), torch.zeros_like(values, dtype=wide)
    d_bias = query.new_zeros(0) if bias is None else torch.zeros_like(bias)
    for b in range(len(query)):
        rows, own = listed(index, bias, b)
        q, g = query[b].to(wide).transpose(0, 1), grad[b].to(wide).transpose(0, 1)
        mean = (g * out[b].to(wide).transpose(0, 1)).sum(-1, keepdim=True)
        whole = lse[b].to(wide).mT[..., None]
        slopes = []
        for block, k, v in blocks(keys, values, rows, wide):
            scores = scale * torch.bmm(q, k.mT)
            if own is not None:
                scores += own[block].to(wide).mT[:, None]
            share = (scores - whole).exp()
            slope = share * (product(g, v.mT) - mean)
            d_query[b] += scale * torch.bmm(slope, k).transpose(0, 1)
            at = torch.arange(len(keys), device=keys.device)[block] if rows is None else rows[block]
            d_keys.index_add_(0, at, scale * torch.bmm(slope.mT, q).transpose(0, 1))
            d_read = torch.bmm(share.mT, g).transpose(0, 1)
            d_values.index_add_(0, at, d_read.sum(1, keepdim=True) if v.shape[0] == 1 else d_read)
            slopes.append(slope.sum(1).mT)
        if bias is not None and slopes:
            there = slice(None) if index is None else index[b] >= 0
            d_bias[b, there] = torch.cat(slopes).to(d_bias.dtype)
    return d_query.to(query.dtype), d_keys.to(keys.dtype), d_values.to(values.dtype), d_bias
