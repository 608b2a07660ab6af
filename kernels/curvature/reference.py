"""Curvature score, K-Sigma statistics and routing for B streams: the definition, in plain torch.

CurveStream (arXiv 2603.19571). With unit features F and displacements d1 = F[t-1] - F[t-2],
d2 = F[t] - F[t-1]:

    M  = 1 - <F[t], F[t-1]> = |d2|^2 / 2      C = 1 - <d1, d2> / (|d1| |d2|)      CS = M + lambda C

Differences are formed first and only then multiplied: three dot products of the features give the
same M and C on paper, and nonsense for near-still video in half precision. A displacement of
length zero (in ``step``: under float32 rounding) has no direction: its C counts 0 and reads NaN.

``robust`` differs from ``paper`` as told in retain/memory/router.py. Columns: see ``layout.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retain.kernels.curvature import layout as at


def scores(current: Tensor, last: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(M, C, |d1|, |d2|), each [...], of features [..., D] of any length; C is NaN if undefined.

    Computed in the type of the inputs, half precisions in float32.
    """
    if current.dtype in (torch.float16, torch.bfloat16):
        current, last, before = current.float(), last.float(), before.float()
    current, last, before = _unit(current), _unit(last), _unit(before)
    d1, d2 = last - before, current - last
    length1, length2 = d1.norm(dim=-1), d2.norm(dim=-1)
    lengths = length1 * length2
    turn = (1 - (d1 * d2).sum(-1) / lengths).clamp(0, 2)
    return 0.5 * length2**2, torch.where(lengths > 0, turn, torch.nan), length1, length2


def _unit(features: Tensor) -> Tensor:
    length: Tensor = features.norm(dim=-1, keepdim=True)
    return features / length


def step(
    features: Tensor,
    history: Tensor,
    state: Tensor,
    times: Tensor,
    flags: Tensor,
    params: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One tick of B streams, all inputs left as they are.

    ``features`` [B, D] of any length; ``history`` [B, 2, D] unit; ``state`` float64 [B, 9];
    ``times`` float64 [B] seconds; ``flags`` uint8 [B]; ``params`` float64 [15]. Returns the new
    history and state, and the decisions, float64 [B, 12].
    """
    robust = bool(params[at.ROBUST] > 0)
    state, history = state.clone(), history.clone()
    squared = (features.to(history.dtype) ** 2).sum(-1)
    usable = (squared > at.TINY) & torch.isfinite(squared)
    unit = _unit(torch.where(usable[:, None], features.to(history.dtype), 1.0))
    restart = (flags & at.DISCONTINUITY) > 0
    if robust:
        restart |= times < state[:, at.LAST_TIME]
    depth = torch.where(restart, 0.0, state[:, at.DEPTH])

    head = state[:, at.HEAD].long()
    rows = torch.arange(len(head), device=head.device)
    last, before = history[rows, head], history[rows, 1 - head]
    d2 = unit - last
    length = (d2.double() ** 2).sum(-1).sqrt()
    length = torch.where(length < at.NO_STEP, 0.0, length)
    lengths = length * state[:, at.LENGTH]
    product = (d2.double() * (last - before).double()).sum(-1)
    turn = (1 - product / lengths).clamp(0, 2)
    defined = (depth == 2) & (lengths > 0)

    still = robust & (depth > 0) & (length < params[at.FLOOR])
    scored = usable & ~still & (depth >= (1 if robust else 2))
    moved = usable & ~still
    motion = torch.where(moved & (depth > 0), 0.5 * length**2, 0.0)
    counted = torch.where(defined, turn, 0.0)
    if robust:
        counted = counted * (lengths / params[at.TURN_SCALE]).clamp(max=1)
    score = torch.where(scored, motion + params[at.LAMBDA] * counted, 0.0)

    out = torch.zeros(len(head), at.DECISION, dtype=torch.float64, device=state.device)
    out[:, at.MOTION] = motion
    out[:, at.CURVATURE] = torch.where(scored & defined, turn, torch.nan)
    if robust:
        new = _robust(state, params, times, motion, out[:, at.CURVATURE], score, scored, out)
    else:
        new = _paper(state, params, score, scored, out)
    first = usable & (depth == 0)
    _unscored(out, robust, first, state[:, at.SEEN] == 0, usable & still, moved & ~scored)
    out[:, at.SCORE] = torch.where(first & robust, out[:, at.HIGH], score)

    new[:, at.DEPTH] = torch.where(moved, (depth + 1).clamp(max=2), depth)
    new[:, at.HEAD] = torch.where(moved, 1 - head, head).double()
    reached = torch.where(depth > 0, length, 0.0)
    new[:, at.LENGTH] = torch.where(moved, reached, state[:, at.LENGTH])
    new[:, at.LAST_TIME] = torch.where(moved, times, state[:, at.LAST_TIME])
    new[:, at.SEEN] += usable
    history[rows[moved], 1 - head[moved]] = unit[moved]
    _overrule(out, new, robust, times, flags, params)
    return history, new, out


def _compare(
    out: Tensor, params: Tensor, mean: Tensor, sigma: Tensor, score: Tensor, scored: Tensor
) -> None:
    out[:, at.OUT_MEAN], out[:, at.OUT_SIGMA] = mean, sigma
    out[:, at.LOW] = mean + params[at.K1] * sigma
    out[:, at.HIGH] = mean + params[at.K2] * sigma
    z = torch.where(sigma > 0, (score - mean) / sigma, 0.0)
    out[:, at.Z] = torch.where(scored, z, 0.0)
    kept = scored & (score >= out[:, at.LOW])
    out[:, at.ROUTE] = kept + (scored & (score >= out[:, at.HIGH])) * (2.0 - kept.double())
    out[:, at.REASON] = torch.where(kept, float(at.BY_SCORE), float(at.BY_QUIET))


def _paper(state: Tensor, params: Tensor, score: Tensor, scored: Tensor, out: Tensor) -> Tensor:
    gamma, new = params[at.GAMMA], state.clone()
    mean = gamma * state[:, at.MEAN] + (1 - gamma) * score
    var = gamma * state[:, at.VAR] + (1 - gamma) * (score - mean) ** 2
    new[:, at.MEAN] = torch.where(scored, mean, state[:, at.MEAN])
    new[:, at.VAR] = torch.where(scored, var, state[:, at.VAR])
    new[:, at.COUNT] += scored
    _compare(out, params, new[:, at.MEAN], new[:, at.VAR].sqrt(), score, scored)
    return new


def _robust(
    state: Tensor,
    params: Tensor,
    times: Tensor,
    motion: Tensor,
    curvature: Tensor,
    score: Tensor,
    scored: Tensor,
    out: Tensor,
) -> Tensor:
    new = state.clone()
    count, mean, var = state[:, at.COUNT], state[:, at.MEAN], state[:, at.VAR]
    floored = var.sqrt().clamp(min=float(params[at.SIGMA_FLOOR]))
    sigma = torch.where(scored, floored, var.sqrt())
    _compare(out, params, mean, sigma, score, scored)

    warming = scored & (count < params[at.WARM_UP])
    out[warming, at.ROUTE], out[warming, at.REASON] = at.BLURRED, at.BY_WARM_UP
    running = scored & ~warming
    flash = (curvature >= params[at.FLASH_CURVATURE]) & running
    flash &= torch.minimum(motion, 0.5 * state[:, at.LENGTH] ** 2) >= out[:, at.HIGH]
    cut = running & ~flash & (motion >= params[at.CUT_MOTION])
    cut &= motion >= mean + params[at.CUT_SIGMAS] * sigma
    out[cut, at.ROUTE], out[cut, at.REASON] = at.CLEAR, at.BY_HARD_TRIGGER
    out[flash, at.ROUTE], out[flash, at.REASON] = at.DISCARD, at.BY_DUPLICATE
    out[:, at.FLASH], out[:, at.CUT] = flash.double(), cut.double()

    change = score - mean
    started = mean + change / (count + 1)
    half_life = params[at.HALF_LIFE]
    dt = torch.minimum((times - state[:, at.LAST_TIME]).clamp(min=0), half_life)
    keep = 0.5 ** (dt / half_life)
    clipped = torch.minimum(change, params[at.CLIP_SIGMAS] * sigma)
    warm_var = (var * count + change * (score - started)) / (count + 1)
    run_var = keep * (var + (1 - keep) * clipped**2)
    new_mean = torch.where(warming, started, mean + (1 - keep) * clipped)
    new[:, at.MEAN] = torch.where(scored, new_mean, mean)
    new[:, at.VAR] = torch.where(scored, torch.where(warming, warm_var, run_var), var)
    new[:, at.COUNT] += scored
    return new


def _unscored(
    out: Tensor, robust: bool, first: Tensor, unseen: Tensor, still: Tensor, waiting: Tensor
) -> None:
    """Frames without a score: the first ones, and duplicates."""
    if robust:
        out[first, at.ROUTE] = at.CLEAR
        out[first, at.REASON] = at.BY_HARD_TRIGGER
        out[first & unseen, at.REASON] = at.BY_WARM_UP
        out[still, at.REASON] = at.BY_DUPLICATE
    else:
        out[waiting, at.REASON] = at.BY_WARM_UP


def _overrule(
    out: Tensor, new: Tensor, robust: bool, times: Tensor, flags: Tensor, params: Tensor
) -> None:
    """The guarantees that stand above the score: max-gap, then query."""
    if robust and torch.isfinite(params[at.MAX_GAP]):
        late = (times - new[:, at.LAST_KEPT] >= params[at.MAX_GAP]) & (out[:, at.ROUTE] == 0)
        out[late, at.ROUTE], out[late, at.REASON] = at.BLURRED, at.BY_MAX_GAP
    asked = (flags & at.QUERY) > 0
    out[asked, at.ROUTE], out[asked, at.REASON] = at.CLEAR, at.BY_QUERY
    stamp = (out[:, at.ROUTE] > 0) | (times < new[:, at.LAST_KEPT])
    new[:, at.LAST_KEPT] = torch.where(stamp, times, new[:, at.LAST_KEPT])


def linear_scan(decay: float, inputs: Tensor) -> Tensor:
    """y[t] = decay * y[t-1] + inputs[t] along the last dimension, from y = 0, in log2(T) passes."""
    values, span, factor = inputs.clone(), 1, decay
    while span < inputs.shape[-1]:
        values[..., span:] = values[..., span:] + factor * values[..., :-span].clone()
        span, factor = 2 * span, factor * factor
    return values


def paper_offline(features: Tensor, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole streams at once in paper mode: features [B, T, D] -> (CS, g1, g2), each [B, T].

    Scores of all frames in parallel, the statistics by scan. The two frames before scoring starts
    are NaN. Equals ``step`` frame by frame for usable features without discontinuities.
    """
    motion, turn, _, _ = scores(features[:, 2:], features[:, 1:-1], features[:, :-2])
    score = (motion + params[at.LAMBDA] * torch.nan_to_num(turn)).double()
    gamma = float(params[at.GAMMA])
    mean = linear_scan(gamma, (1 - gamma) * score)
    sigma = linear_scan(gamma, (1 - gamma) * (score - mean) ** 2).sqrt()
    low, high = mean + params[at.K1] * sigma, mean + params[at.K2] * sigma
    pad = torch.full_like(score[:, :1], torch.nan).expand(-1, 2)
    return tuple(torch.cat((pad, value), 1) for value in (score, low, high))  # type: ignore[return-value]
