# mypy: disallow-untyped-decorators=False
"""Gradients of the gated delta write on CPU: products, one compiled pass, products.

Same arithmetic as ``gradient.py``, which explains it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from retain.kernels.gated_delta.cpu import (
    ALPHA,
    BETA,
    arrays,
    cast,
    compiled,
    decay,
    dot,
    each_object,
    options,
    products,
    sigmoid,
    softplus,
    spread,
    without_autocast,
)
from retain.kernels.gated_delta.gradient import Grads
from retain.kernels.gated_delta.reference import MASS_FLOOR, Gates


@without_autocast
def write_backward(
    grad: Tensor,
    state: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Gates,
    dt: Tensor | None,
    mode: str,
    rule: str,
    tile_alpha: bool,
) -> Grads:
    """``gradient.write_backward`` for the rules with gates."""
    batch, objects, rows, columns = state.shape
    k, v = cast(key, state), cast(value, state).reshape(batch * objects, columns, -1)
    written, erased, gram = products(state, k, v, rule)
    d_state, d_mass = torch.empty(state.shape, dtype=state.dtype), state.new_empty(batch, rows)
    d_gates = Gates(*(torch.zeros_like(gate) for gate in gates))
    outputs = (d_state.numpy(), d_mass.numpy(), *(gate.numpy() for gate in d_gates))
    inputs = arrays(state, k, erased, written, gates, dt)
    _slopes(*inputs, *options(mode, rule, tile_alpha), grad.contiguous().numpy(), *outputs)
    d_written, d_erased = written, erased
    d_key, d_value = torch.bmm(d_written, v), torch.bmm(d_written.mT, each_object(k, objects))
    if gram is not None:
        d_gram = torch.bmm(d_erased, state.reshape(d_erased.shape).mT)
        d_key.baddbmm_(d_gram + d_gram.mT, each_object(k, objects))
        d_state.view(d_erased.shape).baddbmm_(gram, d_erased)
    if objects > 1:
        d_key = d_key.view(batch, objects, rows, -1).sum(1)
    if mode == "mass":
        d_key += d_mass[..., None]
    return d_state, cast(d_key, key), cast(d_value.view(value.shape), value), *d_gates


@compiled
def _slopes(
    state: Any,
    key: Any,
    erased: Any,
    written: Any,
    w_beta: Any,
    w_alpha: Any,
    a_log: Any,
    dt_bias: Any,
    gap: Any,
    rule: int,
    mass: bool,
    negative: bool,
    tiled: bool,
    grad: Any,
    d_state: Any,
    d_mass: Any,
    d_w_beta: Any,
    d_w_alpha: Any,
    d_a_log: Any,
    d_dt_bias: Any,
) -> None:
    """Gradients of ``cpu._update``: ``written`` and ``erased`` are replaced by theirs, the others
    go where their names say; ``d_mass`` [B, Ck] is that of n."""
    batch, objects, rows, columns = state.shape
    heads = a_log.shape[0]
    each = columns // heads
    scale = np.exp(a_log)
    keep, take = np.ones(columns, state.dtype), np.empty(columns, state.dtype)
    d_keep, d_take = np.empty(columns, state.dtype), np.empty(columns, state.dtype)
    beta, logit = np.ones(heads), np.empty(heads)
    for b, k in np.ndindex(batch, rows):
        share = 1.0 / (key[b, k].sum() + MASS_FLOOR) if mass else 1.0
        d_share = 0.0
        for n in range(objects):
            row, out = state[b, n, k], d_state[b, n, k]
            for h in range(heads):
                if rule != BETA:
                    logit[h] = dot(row, w_alpha[h]) + dt_bias[h]
                    spread(keep, h, heads, decay(logit[h], scale[h], gap[b], negative), tiled)
                if rule != ALPHA:
                    beta[h] = sigmoid(dot(row, w_beta[h]))
                spread(take, h, heads, share * beta[h], False)
            come, gone = written[b * objects + n, k], erased[b * objects + n, k]
            _along(row, grad[b, n, k], keep, take, come, gone, rule, out, d_keep, d_take)
            for h in range(heads):
                block = slice(h * each, (h + 1) * each)
                d_beta = d_take[block].sum()
                d_share += d_beta * beta[h]
                if rule != ALPHA:
                    slope = d_beta * share * beta[h] * (1.0 - beta[h])
                    _through(slope, row, w_beta[h], out, d_w_beta[h])
                if rule != BETA:
                    d_a = d_keep[h::heads].sum() if tiled else d_keep[block].sum()
                    d_g = d_a * _decay_slope(logit[h], scale[h], gap[b], negative)
                    slope = d_g * scale[h] * sigmoid(logit[h])
                    _through(slope, row, w_alpha[h], out, d_w_alpha[h])
                    d_a_log[h] += d_g * scale[h] * softplus(logit[h])
                    d_dt_bias[h] += slope
        d_mass[b, k] = -share * share * d_share


@compiled
def _along(
    row: Any,
    grad: Any,
    keep: Any,
    take: Any,
    come: Any,
    gone: Any,
    rule: int,
    out: Any,
    d_keep: Any,
    d_take: Any,
) -> None:
    """The element-wise part of one row; gradients of N and G S go over them."""
    for j in range(row.shape[0]):
        out[j] = grad[j] * keep[j]
        new = grad[j] * take[j]
        if rule == ALPHA:
            d_keep[j], d_take[j] = grad[j] * row[j], grad[j] * come[j]
        else:
            d_keep[j] = grad[j] * row[j] - new * gone[j]
            d_take[j] = grad[j] * (come[j] - keep[j] * gone[j])
            gone[j] = -keep[j] * new
        come[j] = new


@compiled
def _through(slope: float, row: Any, weight: Any, d_row: Any, d_weight: Any) -> None:
    """One gate's logit: its gradient goes to the row and to the weight."""
    narrow = row.dtype.type(slope)
    for j in range(row.shape[0]):
        d_row[j] += narrow * weight[j]
        d_weight[j] += narrow * row[j]


@compiled
def _decay_slope(x: float, scale: float, gap: float, negative: bool) -> float:
    """da / dg."""
    if negative:
        return float(-gap * (scale * softplus(x)) ** (gap - 1.0))
    return float(-gap * decay(x, scale, gap, negative))
