# mypy: disallow-untyped-decorators=False
"""Curvature score, K-Sigma statistics and routing on CPU: one compiled pass per stream.

Same arithmetic as ``reference.py``, which explains it; this file is only faster.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from retain.kernels.curvature import layout as at

# Sums may be split over SIMD lanes; NaN and infinity keep their meaning.
_compiled = njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
_exact = njit(cache=True, nogil=True)


@_compiled
def _squared_length(feature: Any) -> Any:
    total = np.float32(0)
    for i in range(feature.shape[0]):
        total += feature[i] * feature[i]
    return total


@_compiled
def _displacements(feature: Any, inverse: Any, last: Any, before: Any) -> Any:
    """|d2|² and ⟨d1, d2⟩ for d2 = unit feature - last, d1 = last - before."""
    squared, product = np.float32(0), np.float32(0)
    for i in range(feature.shape[0]):
        step = feature[i] * inverse - last[i]
        squared += step * step
        product += step * (last[i] - before[i])
    return squared, product


@_exact
def _paper(state: Any, p: Any, score: float, out: Any) -> None:
    """Statistics first, then the comparison, as published."""
    mean = p[at.GAMMA] * state[at.MEAN] + (1.0 - p[at.GAMMA]) * score
    var = p[at.GAMMA] * state[at.VAR] + (1.0 - p[at.GAMMA]) * (score - mean) ** 2
    state[at.MEAN], state[at.VAR] = mean, var
    state[at.COUNT] += 1
    _compare(mean, math.sqrt(var), p, score, out)


@_exact
def _compare(mean: float, sigma: float, p: Any, score: float, out: Any) -> None:
    out[at.OUT_MEAN], out[at.OUT_SIGMA] = mean, sigma
    out[at.LOW], out[at.HIGH] = mean + p[at.K1] * sigma, mean + p[at.K2] * sigma
    out[at.Z] = (score - mean) / sigma if sigma > 0 else 0.0
    out[at.ROUTE], out[at.REASON] = at.DISCARD, at.BY_QUIET
    if score >= out[at.LOW]:
        out[at.ROUTE], out[at.REASON] = at.BLURRED, at.BY_SCORE
    if score >= out[at.HIGH]:
        out[at.ROUTE] = at.CLEAR


@_exact
def _robust(state: Any, p: Any, time: float, score: float, out: Any) -> None:
    """The comparison first, then statistics that one extreme score cannot carry away."""
    count, mean = state[at.COUNT], state[at.MEAN]
    sigma = max(math.sqrt(state[at.VAR]), p[at.SIGMA_FLOOR])
    _compare(mean, sigma, p, score, out)
    motion = out[at.MOTION]
    if count < p[at.WARM_UP]:
        out[at.ROUTE], out[at.REASON] = at.BLURRED, at.BY_WARM_UP
        change = score - mean
        mean += change / (count + 1)
        state[at.VAR] = (state[at.VAR] * count + change * (score - mean)) / (count + 1)
    else:
        level = out[at.HIGH]
        if motion >= p[at.CUT_MOTION] and motion >= mean + p[at.CUT_SIGMAS] * sigma:
            out[at.CUT], out[at.ROUTE], out[at.REASON] = 1, at.CLEAR, at.BY_HARD_TRIGGER
        before = 0.5 * state[at.LENGTH] ** 2
        if out[at.CURVATURE] >= p[at.FLASH_CURVATURE] and min(motion, before) >= level:
            out[at.FLASH], out[at.CUT] = 1, 0
            out[at.ROUTE], out[at.REASON] = at.DISCARD, at.BY_DUPLICATE
        dt = min(max(time - state[at.LAST_TIME], 0.0), p[at.HALF_LIFE])
        keep = 0.5 ** (dt / p[at.HALF_LIFE])
        change = min(score - mean, p[at.CLIP_SIGMAS] * sigma)
        mean += (1.0 - keep) * change
        state[at.VAR] = keep * (state[at.VAR] + (1.0 - keep) * change * change)
    state[at.MEAN] = mean
    state[at.COUNT] = count + 1


@_exact
def _one(feature: Any, history: Any, state: Any, time: float, flags: int, p: Any, out: Any) -> None:
    robust = p[at.ROBUST] > 0
    out[:] = 0.0
    out[at.CURVATURE] = math.nan
    out[at.OUT_MEAN] = state[at.MEAN]
    out[at.OUT_SIGMA] = math.sqrt(state[at.VAR])
    out[at.LOW] = out[at.OUT_MEAN] + p[at.K1] * out[at.OUT_SIGMA]
    out[at.HIGH] = out[at.OUT_MEAN] + p[at.K2] * out[at.OUT_SIGMA]
    out[at.REASON] = at.BY_QUIET
    if flags & at.DISCONTINUITY or (robust and time < state[at.LAST_TIME]):
        state[at.DEPTH] = 0.0
    squared = _squared_length(feature)
    if squared > at.TINY and squared < math.inf:
        inverse = np.float32(1.0 / math.sqrt(squared))
        moved = _follow(feature, inverse, history, state, time, p, out)
        state[at.SEEN] += 1
        if moved:
            head = 1 - int(state[at.HEAD])
            for i in range(feature.shape[0]):
                history[head, i] = feature[i] * inverse
            state[at.HEAD], state[at.DEPTH] = head, min(state[at.DEPTH] + 1, 2.0)
            state[at.LAST_TIME] = time
    gap = time - state[at.LAST_KEPT]
    if robust and out[at.ROUTE] == at.DISCARD and p[at.MAX_GAP] < math.inf and gap >= p[at.MAX_GAP]:
        out[at.ROUTE], out[at.REASON] = at.BLURRED, at.BY_MAX_GAP
    if flags & at.QUERY:
        out[at.ROUTE], out[at.REASON] = at.CLEAR, at.BY_QUERY
    if out[at.ROUTE] != at.DISCARD or time < state[at.LAST_KEPT]:
        state[at.LAST_KEPT] = time


@_exact
def _follow(
    feature: Any, inverse: Any, history: Any, state: Any, time: float, p: Any, out: Any
) -> bool:
    """Score one usable feature; False when it must not enter the history."""
    robust = p[at.ROBUST] > 0
    depth = state[at.DEPTH]
    if depth == 0:
        if robust:
            first = state[at.SEEN] == 0
            out[at.ROUTE] = at.CLEAR
            out[at.REASON] = at.BY_WARM_UP if first else at.BY_HARD_TRIGGER
            out[at.SCORE] = out[at.HIGH]
        else:
            out[at.REASON] = at.BY_WARM_UP
        state[at.LENGTH] = 0.0
        return True
    head = int(state[at.HEAD])
    squared, product = _displacements(feature, inverse, history[head], history[1 - head])
    length = math.sqrt(squared)
    if length < at.NO_STEP:
        length = 0.0
    if robust and length < p[at.FLOOR]:
        out[at.REASON] = at.BY_DUPLICATE
        return False
    out[at.MOTION] = 0.5 * length * length
    if not robust and depth < 2:
        out[at.REASON] = at.BY_WARM_UP
        state[at.LENGTH] = length
        return True
    turn = 0.0
    lengths = length * state[at.LENGTH]
    if depth == 2 and lengths > 0:
        turn = min(max(1.0 - product / lengths, 0.0), 2.0)
        out[at.CURVATURE] = turn
        if robust:
            turn *= min(1.0, lengths / p[at.TURN_SCALE])
    out[at.SCORE] = out[at.MOTION] + p[at.LAMBDA] * turn
    if robust:
        _robust(state, p, time, out[at.SCORE], out)
    else:
        _paper(state, p, out[at.SCORE], out)
    state[at.LENGTH] = length
    return True


@_exact
def _all(features: Any, history: Any, state: Any, times: Any, flags: Any, p: Any, out: Any) -> None:
    for b in range(features.shape[0]):
        _one(features[b], history[b], state[b], times[b], flags[b], p, out[b])


def step(
    features: NDArray[np.float32],
    history: NDArray[np.float32],
    state: NDArray[np.float64],
    times: NDArray[np.float64],
    flags: NDArray[np.uint8],
    params: NDArray[np.float64],
    decision: NDArray[np.float64],
) -> None:
    """One tick of B streams; see ``reference.step``. Writes history, state and decision."""
    _all(features, history, state, times, flags, params, decision)
