"""The gated delta write and read on CUDA: three kernels, each input read as few times as can be.

Same arithmetic as ``reference.py``, which explains it; the update is arranged as in ``cpu.py``.

1. ``products``: N, G and n. A program holds one tile of value channels of one object, or of the
   clip's keys, and walks the pixels.
2. ``update``: gates and new state. A program holds a few rows of one object: it needs them whole
   for the gates, and then all rows of S, tile by tile, for G S.
3. ``readout``: one tile of channels and pixels.

The state is float32 (float64 is left to the CPU); products of float32 inputs are exact float32, so
that the recurrence does not collect the rounding of TF32. Half-precision keys and values are read
as they are and summed in float32. Nothing is added up atomically: results repeat bit for bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from retain.kernels.gated_delta.reference import MASS_FLOOR, Gates

BETA = tl.constexpr(1)
ALPHA = tl.constexpr(2)
SUM = tl.constexpr(3)
REPLACE = tl.constexpr(4)
FLOOR = tl.constexpr(MASS_FLOOR)
_RULES = {"full": 0, "beta": 1, "alpha": 2, "sum": 3, "replace": 4}

MAX_KEY = 128
"""Key channels that fit one tile."""
ROWS = 16
"""Rows of the state to a program of ``update``: the least a matrix product takes."""


TILE = {"K": 32, "V": 64, "P": 32}
"""Of ``readout``; found by compiling for sm_90: no spills, and Hopper's own matrix instructions."""


@triton.jit
def products(
    key,
    value,
    written,
    gram,
    mass,
    objects,
    rows,
    columns,
    pixels,
    tiles,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    P: tl.constexpr,
):
    """N [B N, Ck, Cv], G [B, Ck, Ck], n [B, Ck] float32 of key [B, Ck, P], value [B N, Cv, P]."""
    m, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    b = m // objects
    other, out, many = value + m * columns * pixels, written + m * rows * columns, columns
    if tile >= tiles:
        # The clip's own keys in place of values: G is K K^T as N is K V^T.
        if m != b * objects:
            return
        tile -= tiles
        other, out, many = key + b * rows * pixels, gram + b * rows * rows, rows
    k, v, p = tl.arange(0, K), tile * V + tl.arange(0, V), tl.arange(0, P)
    keys = key + (b * rows + k[:, None]) * pixels
    others = other + v[:, None].to(tl.int64) * pixels
    total = tl.zeros((K, V), tl.float32)
    n = tl.zeros((K,), tl.float32)
    for start in range(0, pixels, P):
        inside = (start + p)[None, :] < pixels
        x = tl.load(keys + start + p[None, :], mask=(k[:, None] < rows) & inside, other=0.0)
        y = tl.load(others + start + p[None, :], mask=(v[:, None] < many) & inside, other=0.0)
        total += tl.dot(x, tl.trans(y), input_precision=PRECISION)
        n += tl.sum(x.to(tl.float32), 1)
    fits = (k[:, None] < rows) & (v[None, :] < many)
    tl.store(out + k[:, None] * many + v[None, :], total, mask=fits)
    if (tl.program_id(1) == tiles) & (m == b * objects):
        tl.store(mass + b * rows + k, n, mask=k < rows)


@triton.jit
def update(
    state,
    written,
    gram,
    mass,
    w_beta,
    w_alpha,
    a_log,
    dt_bias,
    gap,
    new,
    objects,
    rows,
    columns,
    heads,
    RULE: tl.constexpr,
    MASS: tl.constexpr,
    NEGATIVE: tl.constexpr,
    TILED: tl.constexpr,
    GAP: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    H: tl.constexpr,
):
    """New state [B N, Ck, Cv] of the state and what ``products`` made; ``gap`` [B] if GAP."""
    m = tl.program_id(0).to(tl.int64)
    b = m // objects
    r, k = tl.program_id(1) * R + tl.arange(0, R), tl.arange(0, K)
    h, j = tl.arange(0, H), tl.arange(0, V)
    mine, some = (m * rows + r[:, None]) * columns, r[:, None] < rows
    share = tl.full((R,), 1.0, tl.float32)
    if MASS:
        share = 1.0 / (tl.load(mass + b * rows + r, mask=r < rows, other=1.0) + FLOOR)
    alpha = tl.full((R, H), 1.0, tl.float32)
    beta = tl.full((R, H), 1.0, tl.float32)
    if RULE <= ALPHA:
        x = tl.zeros((R, H), tl.float32)
        y = tl.zeros((R, H), tl.float32)
        for start in range(0, columns, V):
            v = start + j
            s = tl.load(state + mine + v[None, :], mask=some & (v[None, :] < columns), other=0.0)
            weights = h[None, :] * columns + v[:, None]
            fits = (h[None, :] < heads) & (v[:, None] < columns)
            if RULE != ALPHA:
                w = tl.load(w_beta + weights, mask=fits, other=0.0)
                x += tl.dot(s, w, input_precision="ieee")
            if RULE != BETA:
                w = tl.load(w_alpha + weights, mask=fits, other=0.0)
                y += tl.dot(s, w, input_precision="ieee")
        if RULE != ALPHA:
            beta = 1.0 / (1.0 + tl.exp(-x))
        if RULE != BETA:
            y += tl.load(dt_bias + h, mask=h < heads, other=0.0)[None, :]
            scale = tl.exp(tl.load(a_log + h, mask=h < heads, other=0.0))[None, :]
            alpha = decay(y, scale, gap + b, NEGATIVE, GAP)
    if RULE <= BETA:
        fits = some & (k[None, :] < rows)
        g = tl.load(gram + (b * rows + r[:, None]) * rows + k[None, :], mask=fits, other=0.0)
    each = columns // heads
    for start in range(0, columns, V):
        v = start + j
        inside = some & (v[None, :] < columns)
        come = tl.load(written + mine + v[None, :], mask=inside, other=0.0)
        if RULE == REPLACE:
            out = come * share[:, None]
        elif RULE == SUM:
            s = tl.load(state + mine + v[None, :], mask=inside, other=0.0)
            out = s + come * share[:, None]
        else:
            s = tl.load(state + mine + v[None, :], mask=inside, other=0.0)
            # Each channel's gate is that of its head, picked by a product with a 0/1 matrix.
            block = (v[None, :] // each == h[:, None]).to(tl.float32)
            keep = s * 0.0 + 1.0
            if RULE != BETA:
                chosen = block
                if TILED:
                    chosen = (v[None, :] % heads == h[:, None]).to(tl.float32)
                keep = tl.dot(alpha, chosen, input_precision="ieee")
            if RULE == ALPHA:
                out = keep * s + come * share[:, None]
            else:
                take = tl.dot(beta, block, input_precision="ieee") * share[:, None]
                whole = (m * rows + k[:, None]) * columns + v[None, :]
                mask = (k[:, None] < rows) & (v[None, :] < columns)
                full = tl.load(state + whole, mask=mask, other=0.0)
                gone = tl.dot(g, full, input_precision="ieee")
                out = keep * s + take * (come - keep * gone)
        tl.store(new + mine + v[None, :], out, mask=inside)


@triton.jit
def decay(logit, scale, gap, NEGATIVE: tl.constexpr, GAP: tl.constexpr):
    """a of ``reference.py``. log(1 + e) is corrected for the rounding of 1 + e."""
    e = tl.exp(-tl.abs(logit))
    u = 1.0 + e
    log1p = tl.where(u == 1.0, e, tl.log(u) * (e / tl.where(u == 1.0, 1.0, u - 1.0)))
    g = scale * (tl.maximum(logit, 0.0) + log1p)
    if NEGATIVE:
        a = -g
        if GAP:
            a = -tl.exp(tl.log(g) * tl.load(gap))
    else:
        if GAP:
            g = g * tl.load(gap)
        a = tl.exp(-g)
    return a


@triton.jit
def readout(
    state,
    key,
    out,
    objects,
    rows,
    columns,
    pixels,
    PRECISION: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    P: tl.constexpr,
):
    """S^T K [B N, Cv, P] in the type of ``out``."""
    m = tl.program_id(0).to(tl.int64)
    b = m // objects
    v = tl.program_id(1) * V + tl.arange(0, V)
    p = tl.program_id(2).to(tl.int64) * P + tl.arange(0, P)
    value = tl.zeros((V, P), tl.float32)
    for start in range(0, rows, K):
        k = start + tl.arange(0, K)
        whole = (m * rows + k[:, None]) * columns + v[None, :]
        mask = (k[:, None] < rows) & (v[None, :] < columns)
        s = tl.load(state + whole, mask=mask, other=0.0)
        whole = (b * rows + k[:, None]) * pixels + p[None, :]
        mask = (k[:, None] < rows) & (p[None, :] < pixels)
        x = tl.load(key + whole, mask=mask, other=0.0).to(tl.float32)
        value += tl.dot(tl.trans(s), x, input_precision=PRECISION)
    at = out + (m * columns + v[:, None]) * pixels + p[None, :]
    mask = (v[:, None] < columns) & (p[None, :] < pixels)
    tl.store(at, value.to(out.dtype.element_ty), mask=mask)


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
    """The new state; see ``reference.step``. ``state`` and ``gates`` float32."""
    _check(state)
    batch, objects, rows, columns = state.shape
    if key.dtype != value.dtype:
        key, value = key.float(), value.float()
    state, key, value = state.contiguous(), key.contiguous(), value.contiguous()
    pixels, many = key.shape[-1], batch * objects
    written = torch.empty_like(state)
    gram, mass = state.new_empty(batch, rows, rows), state.new_empty(batch, rows)
    k, v = _tile(rows), 32
    tiles = triton.cdiv(columns, v)
    shared = rule in ("full", "beta") or mode == "mass"
    products[(many, tiles + shared * triton.cdiv(rows, v))](
        key, value, written, gram, mass, objects, rows, columns, pixels, tiles,
        PRECISION=_precision(key), K=k, V=v, P=32, num_warps=warps(k),
    )  # fmt: skip
    new = torch.empty_like(state)
    gap = mass if dt is None else dt.float().contiguous()
    update[(many, triton.cdiv(rows, ROWS))](
        state, written, gram, mass, *(gate.contiguous() for gate in gates), gap, new,
        objects, rows, columns, len(gates.a_log),
        RULE=_RULES[rule], MASS=mode == "mass", NEGATIVE=mode == "released_2025", TILED=tile_alpha,
        GAP=dt is not None, R=ROWS, K=k, V=32, H=_tile(len(gates.a_log)), num_warps=warps(k),
    )  # fmt: skip
    return new


def read(state: Tensor, key: Tensor) -> Tensor:
    """S^T K in the type of ``key``; see ``reference.read``."""
    _check(state)
    batch, objects, rows, columns = state.shape
    pixels, many = key.shape[-1], batch * objects
    out = key.new_empty(batch, objects, columns, pixels)
    readout[(many, triton.cdiv(columns, TILE["V"]), triton.cdiv(pixels, TILE["P"]))](
        state.contiguous(), key.contiguous(), out, objects, rows, columns, pixels,
        PRECISION=_precision(key), **TILE, num_warps=4,
    )  # fmt: skip
    return out


def _check(state: Tensor) -> None:
    if state.dtype != torch.float32 or state.shape[2] > MAX_KEY:
        raise ValueError(
            f"on CUDA the state is float32 with at most {MAX_KEY} key channels, "
            f"not {state.dtype} with {state.shape[2]}"
        )


def warps(tile: int) -> int:
    """Enough for no register of a product to spill."""
    return 8 if tile > 64 else 4


def _tile(size: int) -> int:
    return max(16, int(triton.next_power_of_2(size)))


def _precision(inputs: Tensor) -> str:
    """Half-precision numbers are exact in TF32; float32 is not."""
    return "ieee" if inputs.dtype == torch.float32 else "tf32"
