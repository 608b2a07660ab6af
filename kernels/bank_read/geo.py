"""MAMBA's enhancement as it is run: rows projected once, when they are written, and read cached.

With the weights of a trained detector fixed, projected rows stay valid for as long as they are
held; only the frame's queries are projected anew. Equal to ``reference.enhance``, which defines it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from retain.kernels.bank_read import op
from retain.kernels.bank_read.reference import Geo, split


def project(rows: Tensor, geo: Geo, heads: int) -> tuple[Tensor, Tensor]:
    """Keys and values of ``rows`` [M, C], each [M, H, C / H]: what a bank keeps."""
    keys = F.linear(rows, geo.w_key, geo.b_key)
    values = F.linear(rows, geo.w_value, geo.b_value)
    return split(keys, heads), split(values, heads)


def enhance(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    geo: Geo,
    index: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """``query`` [B, N, C] plus what it reads of the projected rows ``keys`` and ``values``
    [R, H, C / H] that ``index`` [B, K] lists (all, if None), [B, N, C].

    A stream that lists nothing gets its queries back. Streams are projected one by one, because a
    product of another size may round otherwise. Without ``geo.w_out`` this is ``released_2022``.
    """
    heads = keys.shape[1]
    q = torch.stack([F.linear(x, geo.w_query, geo.b_query) for x in query])
    read = op.read(split(q, heads), keys, values, index, bias).flatten(2)
    if geo.w_out is not None:
        read = torch.stack([F.linear(x, geo.w_out, geo.b_out) for x in read])
    if index is None:
        return query if not len(keys) else query + read
    some = (index >= 0).any(1)[:, None, None]
    return torch.where(some, query + read, query)
