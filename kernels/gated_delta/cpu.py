# mypy: disallow-untyped-decorators=False
"""The gated delta write on CPU: a few matrix products, then one compiled pass over the state.

Same arithmetic as ``reference.py``, which explains it. With c = b / n the update is arranged as
a * S + c * (N - a * (G S)), so that a row is read once and nothing is allocated but the result.
The products are torch's: a second BLAS would bring threads that fight with those of the model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numba import njit
from torch import Tensor

from retain.kernels.gated_delta.reference import MASS_FLOOR, Gates

# Sums may be split over SIMD lanes; NaN and infinity keep their meaning.
compiled = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})

FULL, BETA, ALPHA = range(3)
_RULES = {"full": FULL, "beta": BETA, "alpha": ALPHA}

Args = ParamSpec("Args")
Result = TypeVar("Result")


def without_autocast(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """The products of ``function`` stay in the type of its tensors. Entering ``torch.autocast``
    costs as much as one of them, so only where it is on."""

    @functools.wraps(function)
    def wrapped(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        if not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return wrapped


@without_autocast
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
    """The new state; see ``reference.step``. ``gates`` in the type of ``state``, without grad."""
    key, value = cast(key, state), cast(value, state)
    written, erased, _ = products(state, key, value, rule)
    if rule not in _RULES:
        written = written.view(state.shape)
        if mode == "mass":
            written /= key.sum(-1)[:, None, :, None] + MASS_FLOOR
        return state + written if rule == "sum" else written
    new = torch.empty(state.shape, dtype=state.dtype)
    inputs = arrays(state, key, erased, written, gates, dt)
    _update(*inputs, *options(mode, rule, tile_alpha), new.numpy())
    return new


@without_autocast
def read(state: Tensor, key: Tensor) -> Tensor:
    """S^T K in the type of ``key``; see ``reference.read``."""
    batch, objects, rows, columns = state.shape
    turned = state.reshape(batch * objects, rows, columns).mT
    readout = torch.bmm(turned, each_object(cast(key, state), objects))
    return cast(readout.view(batch, objects, columns, -1), key)


def products(
    state: Tensor, key: Tensor, value: Tensor, rule: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """N and G S [B N, Ck, Cv] and G [B N, Ck, Ck]; where nothing is erased, N twice and None."""
    batch, objects, rows, columns = state.shape
    flat = value.reshape(batch * objects, columns, -1)
    written = torch.bmm(each_object(key, objects), flat.mT)
    if rule not in ("full", "beta"):
        return written, written, None
    gram = each_object(torch.bmm(key, key.mT), objects)
    return written, torch.bmm(gram, state.reshape(batch * objects, rows, columns)), gram


def each_object(shared: Tensor, objects: int) -> Tensor:
    """What the objects of a clip share, [B, ...], once for each of them, [B N, ...]."""
    return shared if objects == 1 else shared.repeat_interleave(objects, 0)


def cast(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor.to`` without the call, as dear as a small product, where there is nothing to do."""
    return tensor if tensor.dtype == like.dtype else tensor.to(like.dtype)


def arrays(
    state: Tensor, key: Tensor, erased: Tensor, written: Tensor, gates: Gates, dt: Tensor | None
) -> tuple[Any, ...]:
    """What the compiled passes read, as they name it."""
    return (
        state.contiguous().numpy(),
        key.contiguous().numpy(),
        erased.numpy(),
        written.numpy(),
        *(gate.contiguous().numpy() for gate in gates),
        np.ones(len(state)) if dt is None else dt.double().contiguous().numpy(),
    )


def options(mode: str, rule: str, tile_alpha: bool) -> tuple[int, bool, bool, bool]:
    """Rule, mass, negative, tiled."""
    return _RULES[rule], mode == "mass", mode == "released_2025", tile_alpha


@compiled
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
    scale = np.exp(a_log)
    keep, take = np.ones(columns, state.dtype), np.empty(columns, state.dtype)
    for b, k in np.ndindex(batch, rows):
        share = 1.0 / (key[b, k].sum() + MASS_FLOOR) if mass else 1.0
        for n in range(objects):
            row, out = state[b, n, k], new[b, n, k]
            come, gone = written[b * objects + n, k], erased[b * objects + n, k]
            for h in range(heads):
                if rule != BETA:
                    x = dot(row, w_alpha[h]) + dt_bias[h]
                    spread(keep, h, heads, decay(x, scale[h], gap[b], negative), tiled)
                beta = 1.0 if rule == ALPHA else sigmoid(dot(row, w_beta[h]))
                spread(take, h, heads, share * beta, False)
            if rule == ALPHA:
                for j in range(columns):
                    out[j] = keep[j] * row[j] + take[j] * come[j]
            else:
                for j in range(columns):
                    out[j] = keep[j] * row[j] + take[j] * (come[j] - keep[j] * gone[j])


@compiled
def dot(one: Any, two: Any) -> Any:
    total = one[0] * two[0]
    for j in range(1, one.shape[0]):
        total += one[j] * two[j]
    return total


@compiled
def spread(channels: Any, head: int, heads: int, gate: float, tiled: bool) -> None:
    """One head's gate over its value channels."""
    if tiled:
        channels[head::heads] = gate
    else:
        each = channels.shape[0] // heads
        channels[head * each : (head + 1) * each] = gate


@compiled
def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


@compiled
def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@compiled
def decay(x: float, scale: float, gap: float, negative: bool) -> float:
    g = scale * softplus(x)
    if negative:
        return float(-(g**gap))
    return math.exp(-g * gap)
