"""Gradients of the gated delta write and read, in torch on any device.

Only what came in is saved; G, N, n and the gates are computed again. With a, b and c = b / n spread
over the value channels, E = G S and D the gradient of S' = a * S + c * (N - a * E):

    dN = c * D      dE = -a * c * D      da = D * (S - c * E)      dc = D * (N - a * E)

and from there down the definitions in ``reference.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from retain.kernels.gated_delta.reference import MASS_FLOOR, Gates, spread

Grads = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]


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
    """Gradients of state, key, value and the four gate tensors, given that of the new state."""
    with torch.autocast(state.device.type, enabled=False):
        k, v = key.to(state.dtype)[:, None], value.to(state.dtype)
        share = torch.ones_like(state[:, :1, :, :1])
        if mode == "mass":
            share = 1 / (k.sum(-1, keepdim=True) + MASS_FLOOR)
        written = k @ v.mT
        if rule in ("sum", "replace"):
            d_state = grad if rule == "sum" else torch.zeros_like(grad)
            d_written, d_gram = grad * share, None
            d_share = (grad * written).sum((1, 3), keepdim=True)
            d_gates: tuple[Tensor | None, ...] = (None,) * 4
        else:
            gated = _gated(grad, state, k @ k.mT, written, share, gates, dt, mode, rule, tile_alpha)
            d_state, d_written, d_gram, d_share, d_gates = gated
        d_key = (d_written @ v).sum(1)
        if d_gram is not None:
            d_key = d_key + ((d_gram + d_gram.mT) @ k)[:, 0]
        if mode == "mass":
            d_key = d_key - (share * share * d_share)[:, 0]
        d_value = d_written.mT @ k
    w_beta, w_alpha, a_log, dt_bias = d_gates
    return (
        d_state,
        d_key.to(key.dtype),
        d_value.to(value.dtype),
        w_beta,
        w_alpha,
        a_log,
        dt_bias,
    )


def read_backward(grad: Tensor, state: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of state and key, given that of the readout S^T K."""
    with torch.autocast(state.device.type, enabled=False):
        wide, k = grad.to(state.dtype), key.to(state.dtype)[:, None]
        return k @ wide.mT, (state @ wide).sum(1).to(key.dtype)


def _gated(
    grad: Tensor,
    state: Tensor,
    gram: Tensor,
    written: Tensor,
    share: Tensor,
    gates: Gates,
    dt: Tensor | None,
    mode: str,
    rule: str,
    tile_alpha: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, tuple[Tensor | None, ...]]:
    """Of S, N, G (None when nothing is erased), 1 / n and the gates."""
    heads, columns = len(gates.a_log), state.shape[-1]
    a: Tensor | float = 1.0
    if rule != "beta":
        raw, slope, g, sigma = _decay(state, gates, dt, mode)
        a = spread(raw, columns, tile=tile_alpha)
    d_state = a * grad
    if rule == "alpha":
        d_a, d_written, d_gram = grad * state, share * grad, None
        d_share = (grad * written).sum((1, 3), keepdim=True)
        w_beta = None
    else:
        b = torch.sigmoid(state @ gates.w_beta.mT)
        c = spread(b, columns) * share
        erased = gram @ state
        d_a = grad * (state - c * erased)
        d_written = c * grad
        d_erased = -a * d_written
        d_gram = (d_erased @ state.mT).sum(1, keepdim=True)
        d_state = d_state + gram @ d_erased
        d_c = _heads(grad * (written - a * erased), heads)
        d_share = (d_c * b).sum((1, 3), keepdim=True)
        d_logit = d_c * share * b * (1 - b)
        d_state = d_state + d_logit @ gates.w_beta
        w_beta = _weight(d_logit, state)
    if rule == "beta":
        return d_state, d_written, d_gram, d_share, (w_beta, None, None, None)
    d_raw = _heads(d_a, heads, tile=tile_alpha)
    d_g = d_raw * slope
    d_logit = d_g * gates.a_log.exp() * sigma
    d_state = d_state + d_logit @ gates.w_alpha
    rest = _weight(d_logit, state), (d_g * g).sum((0, 1, 2)), d_logit.sum((0, 1, 2))
    return d_state, d_written, d_gram, d_share, (w_beta, *rest)


def _decay(
    state: Tensor, gates: Gates, dt: Tensor | None, mode: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(a, da / dg, g, dg / dlogit without exp(A_log)), each [B, N, Ck, h]."""
    logit = state @ gates.w_alpha.mT + gates.dt_bias
    g = gates.a_log.exp() * F.softplus(logit)
    gap = 1.0 if dt is None else dt.to(state.dtype)[:, None, None, None]
    if mode == "released_2025":
        slope = -gap * g ** (gap - 1) * torch.ones_like(g)
        return -(g**gap), slope, g, torch.sigmoid(logit)
    a = torch.exp(-g * gap)
    return a, -gap * a, g, torch.sigmoid(logit)


def _heads(gate: Tensor, heads: int, *, tile: bool = False) -> Tensor:
    """Sum over the channels of each head: [..., Cv] to [..., h]; undoes ``reference.spread``."""
    lead = gate.shape[:-1]
    return gate.view(*lead, -1, heads).sum(-2) if tile else gate.view(*lead, heads, -1).sum(-1)


def _weight(d_logit: Tensor, state: Tensor) -> Tensor:
    """Gradient [h, Cv] of a gate's weight."""
    return d_logit.flatten(0, 2).mT @ state.flatten(0, 2)
