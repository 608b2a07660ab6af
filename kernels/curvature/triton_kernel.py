"""Curvature score, statistics and routing on CUDA: one program per stream, one pass.

Same arithmetic as ``reference.py``. The feature and both history rows are loaded once; both
differences live in registers; the scalars are float64. Only the newest feature is written back,
over the older history row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from retain.kernels.curvature import layout as at

DISCONTINUITY = tl.constexpr(at.DISCONTINUITY)
QUERY = tl.constexpr(at.QUERY)
NO_STEP = tl.constexpr(at.NO_STEP)
TINY = tl.constexpr(at.TINY)
STATE = tl.constexpr(at.STATE)
DECISION = tl.constexpr(at.DECISION)
BY_SCORE = tl.constexpr(float(at.BY_SCORE))
BY_QUERY = tl.constexpr(float(at.BY_QUERY))
BY_WARM_UP = tl.constexpr(float(at.BY_WARM_UP))
BY_HARD_TRIGGER = tl.constexpr(float(at.BY_HARD_TRIGGER))
BY_MAX_GAP = tl.constexpr(float(at.BY_MAX_GAP))
BY_DUPLICATE = tl.constexpr(float(at.BY_DUPLICATE))
BY_QUIET = tl.constexpr(float(at.BY_QUIET))

MAX_DIM = 16_384


@triton.jit
def curvature_step(
    features,
    history,
    state,
    times,
    flags,
    params,
    decision,
    dim,
    ROBUST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    offsets = tl.arange(0, BLOCK)
    mask = offsets < dim
    s = state + b * STATE
    depth, head, count = tl.load(s), tl.load(s + 1), tl.load(s + 2)
    mean, var = tl.load(s + 3), tl.load(s + 4)
    last_time, last_kept = tl.load(s + 5), tl.load(s + 6)
    last_length, seen = tl.load(s + 7), tl.load(s + 8)
    time = tl.load(times + b)
    flag = tl.load(flags + b).to(tl.int32)
    lam, gamma, half_life = tl.load(params + 1), tl.load(params + 2), tl.load(params + 3)
    k1, k2, warm_up = tl.load(params + 4), tl.load(params + 5), tl.load(params + 6)
    floor, sigma_floor = tl.load(params + 7), tl.load(params + 8)
    turn_scale, flash_curvature = tl.load(params + 9), tl.load(params + 10)
    cut_motion, cut_sigmas = tl.load(params + 11), tl.load(params + 12)
    max_gap, clip_sigmas = tl.load(params + 13), tl.load(params + 14)
    infinity = float("inf")

    restart = (flag & DISCONTINUITY) != 0
    if ROBUST:
        restart = restart | (time < last_time)
    depth = tl.where(restart, 0.0, depth)

    row = head.to(tl.int64)
    newest = history + (b * 2 + row) * dim
    oldest = history + (b * 2 + 1 - row) * dim
    feature = tl.load(features + b * dim + offsets, mask=mask, other=0.0).to(tl.float32)
    squared = tl.sum(feature * feature, axis=0)
    usable = (squared > TINY) & (squared < infinity)
    inverse = 1.0 / tl.sqrt(tl.where(usable, squared, 1.0).to(tl.float64))
    unit = feature * inverse.to(tl.float32)
    last = tl.load(newest + offsets, mask=mask, other=0.0)
    before = tl.load(oldest + offsets, mask=mask, other=0.0)
    d2 = unit - last
    d1 = last - before
    length = tl.sqrt(tl.sum(d2 * d2, axis=0).to(tl.float64))
    length = tl.where(length < NO_STEP, 0.0, length)
    product = tl.sum(d1 * d2, axis=0).to(tl.float64)
    lengths = length * last_length
    defined = (depth == 2) & (lengths > 0)
    turn = 1.0 - product / tl.where(lengths > 0, lengths, 1.0)
    turn = tl.minimum(tl.maximum(turn, 0.0), 2.0)

    still = depth < 0
    if ROBUST:
        still = (depth > 0) & (length < floor)
    moved = usable & (still == 0)
    scored = moved & (depth >= (1 if ROBUST else 2))
    motion = tl.where(moved & (depth > 0), 0.5 * length * length, 0.0)
    counted = tl.where(defined, turn, 0.0)
    if ROBUST:
        counted = counted * tl.minimum(lengths / turn_scale, 1.0)
    score = tl.where(scored, motion + lam * counted, 0.0)

    if ROBUST:
        sigma = tl.sqrt(var)
        sigma = tl.where(scored, tl.maximum(sigma, sigma_floor), sigma)
        level = mean
    else:
        new_mean = gamma * mean + (1.0 - gamma) * score
        new_var = gamma * var + (1.0 - gamma) * (score - new_mean) * (score - new_mean)
        mean = tl.where(scored, new_mean, mean)
        var = tl.where(scored, new_var, var)
        sigma = tl.sqrt(var)
        level = mean
    low = level + k1 * sigma
    high = level + k2 * sigma
    z = tl.where(scored & (sigma > 0), (score - level) / tl.where(sigma > 0, sigma, 1.0), 0.0)
    kept = scored & (score >= low)
    route = tl.where(kept, 1.0, 0.0)
    route = tl.where(scored & (score >= high), 2.0, route)
    reason = tl.where(kept, BY_SCORE, BY_QUIET)
    flash = depth < 0
    cut = depth < 0
    first = usable & (depth == 0)

    if ROBUST:
        warming = scored & (count < warm_up)
        running = scored & (count >= warm_up)
        step_before = 0.5 * last_length * last_length
        flash = running & defined & (turn >= flash_curvature)
        flash = flash & (tl.minimum(motion, step_before) >= high)
        cut = running & (flash == 0) & (motion >= cut_motion)
        cut = cut & (motion >= mean + cut_sigmas * sigma)
        route = tl.where(warming, 1.0, tl.where(cut, 2.0, tl.where(flash, 0.0, route)))
        reason = tl.where(warming, BY_WARM_UP, tl.where(cut, BY_HARD_TRIGGER, reason))
        reason = tl.where(flash, BY_DUPLICATE, reason)
        change = score - mean
        started = mean + change / (count + 1)
        warm_var = (var * count + change * (score - started)) / (count + 1)
        dt = tl.minimum(tl.maximum(time - last_time, 0.0), half_life)
        keep = tl.exp2(-dt / half_life)
        clipped = tl.minimum(change, clip_sigmas * sigma)
        run_var = keep * (var + (1.0 - keep) * clipped * clipped)
        run_mean = mean + (1.0 - keep) * clipped
        out_mean = mean
        mean = tl.where(scored, tl.where(warming, started, run_mean), mean)
        var = tl.where(scored, tl.where(warming, warm_var, run_var), var)
        route = tl.where(first, 2.0, route)
        reason = tl.where(first, tl.where(seen == 0, BY_WARM_UP, BY_HARD_TRIGGER), reason)
        reason = tl.where(usable & still, BY_DUPLICATE, reason)
        score = tl.where(first, high, score)
        late = (route == 0) & (max_gap < infinity) & (time - last_kept >= max_gap)
        route = tl.where(late, 1.0, route)
        reason = tl.where(late, BY_MAX_GAP, reason)
    else:
        out_mean = mean
        reason = tl.where(moved & (scored == 0), BY_WARM_UP, reason)
    asked = (flag & QUERY) != 0
    route = tl.where(asked, 2.0, route)
    reason = tl.where(asked, BY_QUERY, reason)

    reached = tl.where(depth > 0, length, 0.0)
    tl.store(s, tl.where(moved, tl.minimum(depth + 1, 2.0), depth))
    tl.store(s + 1, tl.where(moved, 1.0 - head, head))
    tl.store(s + 2, tl.where(scored, count + 1, count))
    tl.store(s + 3, mean)
    tl.store(s + 4, var)
    tl.store(s + 5, tl.where(moved, time, last_time))
    tl.store(s + 6, tl.where((route > 0) | (time < last_kept), time, last_kept))
    tl.store(s + 7, tl.where(moved, reached, last_length))
    tl.store(s + 8, tl.where(usable, seen + 1, seen))
    tl.store(oldest + offsets, tl.where(moved, unit, before), mask=mask)

    out = decision + b * DECISION
    tl.store(out, route)
    tl.store(out + 1, reason)
    tl.store(out + 2, motion)
    tl.store(out + 3, tl.where(scored & defined, turn, float("nan")))
    tl.store(out + 4, score)
    tl.store(out + 5, out_mean)
    tl.store(out + 6, sigma)
    tl.store(out + 7, z)
    tl.store(out + 8, low)
    tl.store(out + 9, high)
    tl.store(out + 10, tl.where(flash, 1.0, 0.0))
    tl.store(out + 11, tl.where(cut, 1.0, 0.0))


def launch(
    features: Tensor,
    history: Tensor,
    state: Tensor,
    times: Tensor,
    flags: Tensor,
    params: Tensor,
    robust: bool,
) -> Tensor:
    """One tick; history and state are changed in place. Returns the decisions."""
    streams, dim = features.shape
    if dim > MAX_DIM:
        raise ValueError(f"features of {dim} dimensions do not fit one pass; at most {MAX_DIM}")
    decision = torch.empty(streams, at.DECISION, dtype=torch.float64, device=features.device)
    block = triton.next_power_of_2(dim)
    curvature_step[(streams,)](
        features.contiguous(),
        history,
        state,
        times,
        flags,
        params,
        decision,
        dim,
        ROBUST=robust,
        BLOCK=block,
        num_warps=4 if block <= 2048 else 8,
    )
    return decision
