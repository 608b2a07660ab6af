# mypy: disallow-untyped-decorators=False
"""The gated delta write on CPU: two matrix products, then one compiled pass over the state.

Same arithmetic as ``reference.py``, which explains it. With c = b / n the update is arranged as
a * S + c * (N - a * (G S)), so that a row is read once and nothing is allocated but the result.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from retain.kernels.gated_delta.reference import MASS_FLOOR, Gates

# Sums may be split over SIMD lanes; NaN and infinity keep their meaning.
_compiled = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})

FULL, BETA, ALPHA = range(3)
_RULES = {"full": FULL, "beta": BETA, "alpha": ALPHA}


def write(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Gates,
    dt: Tensor | None,
    mode: str,
    rule: str,
    tile_alpha: bool,
) -> Tensor:
    """The new state; see ``reference.step``. ``gates`` in the type of ``state``."""
    batch, objects, rows, columns = state.shape
    key, value = _as(key, state), _as(value, state)
    each = key if objects == 1 else key.repeat_interleave(objects, 0)
    written = torch.bmm(each, value.reshape(batch * objects, columns, -1).mT)
    if rule in ("sum", "replace"):
        return _ungated(state, key, written, mode, rule)
    erased = written
    if rule != "alpha":
        gram = torch.bmm(key, key.mT)
        gram = gram if objects == 1 else gram.repeat_interleave(objects, 0)
        erased = torch.bmm(gram, state.reshape(batch * objects, rows, columns))
    new = torch.empty(state.shape, dtype=state.dtype)
    _update(
        state.contiguous().numpy(),
        key.contiguous().numpy(),
        erased.numpy(),
        written.numpy(),
        *(gate.contiguous().numpy() for gate in gates),
        np.ones(batch) if dt is None else dt.double().contiguous().numpy(),
        _RULES[rule],
        mode == "mass",
        mode == "released_2025",
        tile_alpha,
        new.numpy(),
    )
    return new


def _ungated(state: Tensor, key: Tensor, written: Tensor, mode: str, rule: str) -> Tensor:
    written = written.view(state.shape)
    if mode == "mass":
        written /= key.sum(-1)[:, None, :, None] + MASS_FLOOR
    return state + written if rule == "sum" else written


def _as(tensor: Tensor, state: Tensor) -> Tensor:
    return tensor if tensor.dtype == state.dtype else tensor.to(state.dtype)


def read(state: Tensor, key: Tensor) -> Tensor:
    """S^T K in the type of ``key``; see ``reference.read``."""
    batch, objects, rows, columns = state.shape
    wide = _as(key, state)
    each = wide if objects == 1 else wide.repeat_interleave(objects, 0)
    readout = torch.bmm(state.reshape(batch * objects, rows, columns).mT, each)
    return _as(readout.view(batch, objects, columns, -1), key)


@_compiled
def _update(
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
    new: Any,
) -> None:
    """Gates and update of every row; ``erased`` G S and ``written`` N come undivided."""
    batch, objects, rows, columns = state.shape
    heads = a_log.shape[0]
    each = columns // heads
    scale = np.exp(a_log)
    keep, take = np.ones(columns, state.dtype), np.empty(columns, state.dtype)
    for b, k in np.ndindex(batch, rows):
        share = 1.0
        if mass:
            share /= key[b, k].sum() + MASS_FLOOR
        for n in range(objects):
            row, out = state[b, n, k], new[b, n, k]
            come, gone = written[b * objects + n, k], erased[b * objects + n, k]
            for head in range(heads):
                first, last = head * each, (head + 1) * each
                if rule != BETA:
                    x = _dot(row, w_alpha[head]) + dt_bias[head]
                    a = _decay(x, scale[head], gap[b], negative)
                    if tiled:
                        keep[head::heads] = a
                    else:
                        keep[first:last] = a
                c = share
                if rule != ALPHA:
                    c /= 1.0 + math.exp(-_dot(row, w_beta[head]))
                take[first:last] = c
            if rule == ALPHA:
                for j in range(columns):
                    out[j] = keep[j] * row[j] + take[j] * come[j]
            else:
                for j in range(columns):
                    out[j] = keep[j] * row[j] + take[j] * (come[j] - keep[j] * gone[j])


@_compiled
def _dot(one: Any, two: Any) -> Any:
    total = one[0] * two[0]
    for j in range(1, one.shape[0]):
        total += one[j] * two[j]
    return total


@_compiled
def _decay(x: float, scale: float, gap: float, negative: bool) -> float:
    g = scale * (max(x, 0.0) + math.log1p(math.exp(-abs(x))))
    if negative:
        return float(-(g**gap))
    return math.exp(-g * gap)
