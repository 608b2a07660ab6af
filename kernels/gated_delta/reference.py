"""One frame's write and read of the gated delta memory: the definition, in plain torch.

GDKVM (arXiv 2512.10252) keeps one matrix S [Ck, Cv] per object. A frame brings a key for each of
its P pixels, a softmax over Ck channels so that the columns of K [Ck, P] sum to 1, and a value per
object, V [Cv, P]. All pixels of a frame are written at once and read back after the write:

    G = K K^T       N = K V^T       n = K 1 + 1e-4
    b = sigmoid(S W_b^T)            g = exp(A_log) softplus(S W_a^T + dt_bias)       both from old S
    S <- a * (S - b * (G S)) + b * N
    R = S^T K

Gates are [Ck, heads]; each head covers Cv / heads neighbouring value channels. Objects of a clip
share its keys, hence G and n. ``Mode``:

- ``mass``: a = exp(-g), and G and N are divided by n, row by row. G / n has eigenvalues in [0, 1],
  so an erase never enlarges what the frame's keys read, at any number of pixels (ours; the
  default). The state itself it can enlarge, and frames of different keys in turn without bound
  where the decay is too weak.
- ``paper_raw``: a = exp(-g), no division: the paper's equation and the authors' re-release.
- ``released_2025``: a = -g, no division: the public code of September 2025 (whose alpha heads are
  tiled over the channels, ``tile_alpha``) and of December 2025. For its checkpoints only.

``Rule`` names the paper's ablations, N and G divided as the mode says: ``none`` (nothing is
written, the readout is zero), ``sum`` S + N, ``replace`` N, ``beta`` a = 1, ``alpha`` a * S + N,
``full``. A gap of ``dt`` frames since the last write makes the decay a^dt (|a|^dt under its sign in
``released_2025``); b does not change.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Mode = Literal["mass", "paper_raw", "released_2025"]
Rule = Literal["full", "none", "sum", "replace", "beta", "alpha"]

MASS_FLOOR = 1e-4
"""Added to every row mass, in pixels: an untouched key channel divides 0 by this."""


class Gates(NamedTuple):
    """Gate parameters: ``w_beta`` and ``w_alpha`` [h, Cv], ``a_log`` and ``dt_bias`` [h]."""

    w_beta: Tensor
    w_alpha: Tensor
    a_log: Tensor
    dt_bias: Tensor


def start(key: Tensor, value: Tensor, *, mode: Mode = "mass") -> Tensor:
    """The first frame's state [B, N, Ck, Cv]: K V^T, no gate.

    ``key`` [B, Ck, P], columns summing to 1; ``value`` [B, N, Cv, P]. Float64 stays float64,
    everything else is computed and returned in float32.
    """
    with torch.autocast(key.device.type, enabled=False):
        wide = _state_dtype(value)
        written, _ = _products(key.to(wide), value.to(wide), mode)
        return written


def step(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Gates,
    *,
    mode: Mode = "mass",
    rule: Rule = "full",
    dt: Tensor | None = None,
    tile_alpha: bool = False,
) -> Tensor:
    """The state after this frame's write, [B, N, Ck, Cv] in the type of ``state``.

    ``key`` [B, Ck, P]; ``value`` [B, N, Cv, P]; ``dt`` [B] frames since the last write, 1 if None.
    """
    if rule == "none":
        return state
    with torch.autocast(key.device.type, enabled=False):
        written, gram = _products(key.to(state.dtype), value.to(state.dtype), mode)
        if rule == "replace":
            return written
        if rule == "sum":
            return state + written
        a = 1.0 if rule == "beta" else _decay(state, gates, mode, dt, tile_alpha)
        if rule == "alpha":
            return a * state + written
        b = spread(torch.sigmoid(state @ gates.w_beta.to(state.dtype).mT), state.shape[-1])
        return a * (state - b * (gram @ state)) + b * written


def read(state: Tensor, key: Tensor) -> Tensor:
    """S^T K, [B, N, Cv, P] in the type of ``key``."""
    with torch.autocast(key.device.type, enabled=False):
        return (state.mT @ key.to(state.dtype)[:, None]).to(key.dtype)


def _state_dtype(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _products(key: Tensor, value: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    """N [B, N, Ck, Cv] and G [B, 1, Ck, Ck], divided by the row mass in ``mass`` mode."""
    key = key[:, None]
    written, gram = key @ value.mT, key @ key.mT
    if mode != "mass":
        return written, gram
    mass = key.sum(-1, keepdim=True) + MASS_FLOOR
    return written / mass, gram / mass


def _decay(state: Tensor, gates: Gates, mode: Mode, dt: Tensor | None, tile_alpha: bool) -> Tensor:
    """a [B, N, Ck, Cv]."""
    logits = state @ gates.w_alpha.to(state.dtype).mT + gates.dt_bias.to(state.dtype)
    g = gates.a_log.to(state.dtype).exp() * F.softplus(logits)
    gap = None if dt is None else dt.to(state.dtype)[:, None, None, None]
    if mode == "released_2025":
        a = -g if gap is None else -(g**gap)
    else:
        a = torch.exp(-g if gap is None else -g * gap)
    return spread(a, state.shape[-1], tile=tile_alpha)


def spread(gate: Tensor, channels: int, *, tile: bool = False) -> Tensor:
    """One gate per head [..., h] over the value channels [..., Cv]: in blocks, or tiled."""
    each = channels // gate.shape[-1]
    if tile:
        return gate.repeat(*[1] * (gate.dim() - 1), each)
    return gate.repeat_interleave(each, dim=-1)
