"""Reading a memory bank: the definition, in plain torch.

A bank holds R rows, each with a key and a value per head. A query of stream b reads those rows that
``index[b]`` lists, by multi-head attention:

    S_h = scale q_h K_h^T + bias_h      A_h = softmax of S_h over the listed rows      O_h = A_h V_h

A row listed twice counts twice; an entry of -1 lists nothing; who lists no row at all reads zero,
so that a residual around the read is the identity. ``bias`` is what depends on the row and on the
time of reading, such as its age: cached keys stay as they are. Values may be shared by the heads.

MAMBA's enhancement (GEO, arXiv 2401.09923) is such a read with a residual. It is public in two
forms, ``Form``:

- ``paper``: linear maps for query, key, value and output, C -> C each; the paper's equation and the
  authors' code of 2024.
- ``released_2022``: the first public code. No output map. Its value map acts on the average of the
  raw rows, head by head, which equals averaging projected rows, because the weights of an average
  sum to 1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Form = Literal["paper", "released_2022"]
WhenEmpty = Literal["identity", "self"]

ALIGNMENT = 0.7
"""Share of the query in the ``alignment`` output of the 2022 code; the rest is attention."""


class Geo(NamedTuple):
    """Weights of one enhancement: matrices [C, C] as of ``nn.Linear``, biases [C]. The 2022 form
    has no output map."""

    w_query: Tensor
    b_query: Tensor
    w_key: Tensor
    b_key: Tensor
    w_value: Tensor
    b_value: Tensor
    w_out: Tensor | None = None
    b_out: Tensor | None = None


def weights(
    query: Tensor,
    keys: Tensor,
    index: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """A [B, N, H, K] in the type of ``query``: how much each listed row is read. 0 where nothing is
    listed.

    ``query`` [B, N, H, D]; ``keys`` [R, H, D]; ``index`` int64 [B, K], None lists all R rows;
    ``bias`` finite, [B, K, H]; ``scale`` D^-1/2 if None.
    """
    rows = listed(index, len(query), len(keys), query.device)
    scores = torch.einsum("bnhd,bkhd->bnhk", query, keys[rows.clamp(min=0)].to(query.dtype))
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias.mT[:, None].to(query.dtype)
    nothing = (rows < 0)[:, None, None]
    return scores.masked_fill(nothing, -torch.inf).softmax(-1).masked_fill(nothing, 0.0)


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """O [B, N, H, E] in the type of ``query``. ``values`` [R, H, E], or [R, 1, E] for all heads;
    the rest as in ``weights``."""
    rows = listed(index, len(query), len(keys), query.device)
    share = weights(query, keys, rows, bias, scale)
    read = values[rows.clamp(min=0)].to(query.dtype).expand(-1, -1, query.shape[2], -1)
    return torch.einsum("bnhk,bkhe->bnhe", share, read)


def listed(index: Tensor | None, batch: int, rows: int, device: torch.device) -> Tensor:
    """``index``, or all rows for each of ``batch`` streams: int64 [B, K]."""
    return torch.arange(rows, device=device).expand(batch, -1) if index is None else index


def split(x: Tensor, heads: int) -> Tensor:
    """[..., C] -> [..., H, C / H]."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads)


def attention(query: Tensor, rows: Tensor, geo: Geo, heads: int, form: Form = "paper") -> Tensor:
    """What ``query`` [N, C] reads of ``rows`` [M, C], in the order of operations of the public
    codes: every row projected, the weights [heads, N, M] materialised. [N, C]."""
    q = split(F.linear(query, geo.w_query, geo.b_query), heads)
    k = split(F.linear(rows, geo.w_key, geo.b_key), heads)
    share = weights(q[None], k)[0]
    if form == "released_2022":
        average = torch.einsum("nhm,mc->nhc", share, rows)
        each = split(geo.w_value.mT, heads)  # [C, H, d]
        return torch.einsum("nhc,chd->nhd", average, each).flatten(1) + geo.b_value
    v = split(F.linear(rows, geo.w_value, geo.b_value), heads)
    read = torch.einsum("nhm,mhd->nhd", share, v).flatten(1)
    if geo.w_out is None:
        raise ValueError("the paper's form needs an output map: w_out is None")
    return F.linear(read, geo.w_out, geo.b_out)


def enhance(
    query: Tensor,
    rows: Tensor,
    geo: Geo,
    heads: int,
    form: Form = "paper",
    *,
    alignment: bool = False,
    when_empty: WhenEmpty = "identity",
) -> Tensor:
    """GEO: ``query`` [N, C] plus what it reads of ``rows`` [M, C].

    Quirks of ``released_2022``, off unless asked for: ``alignment`` mixes 0.7 query + 0.3 attention
    (its test output in the mode of that name; in training that mode gives the attention alone);
    ``when_empty="self"`` lets the queries read each other where there is no row. Ours returns them
    unchanged.
    """
    if not len(rows):
        if when_empty == "identity":
            return query
        rows = query
    read = attention(query, rows, geo, heads, form)
    return ALIGNMENT * query + (1 - ALIGNMENT) * read if alignment else query + read
