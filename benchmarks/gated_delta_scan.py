"""The gated delta rule over a clip: 32 tokens at a time against one after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from retain.apps.bench import Row, script
from retain.kernels.gated_delta.chunked import chunked, recurrent

AREA = "kernels"
TOKENS, KEY_DIM, VALUE_DIM = 784, 64, 256


def token_loop(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """The rule as one writes it for speed in Python: four calls a token, all in place; B = 1."""
    q, k, v = (x[0, :, :, None] for x in (KEY_DIM**-0.5 * q, k, v))
    decay, beta = (x[0, :, :, None, None] for x in (g.exp(), beta))
    state = v.new_zeros(v.shape[1], k.shape[-1], v.shape[-1])
    o = torch.empty_like(v)
    for t in range(len(v)):
        state.mul_(decay[t])
        change = torch.baddbmm(v[t], k[t], state, alpha=-1).mul_(beta[t])
        state.baddbmm_(k[t].mT, change)
        torch.bmm(q[t], state, out=o[t])
    return o[None, :, :, 0], state[None]


def tokens(heads: int, seed: int) -> list[Tensor]:
    """q, k, v, g, beta of one clip, float64."""
    rng = torch.Generator().manual_seed(seed)
    lead = (1, TOKENS, heads)
    q, k = torch.randn(2, *lead, KEY_DIM, generator=rng, dtype=torch.float64)
    v = torch.randn(*lead, VALUE_DIM, generator=rng, dtype=torch.float64)
    g, beta = torch.rand(2, *lead, generator=rng, dtype=torch.float64)
    return [q, normalize(k, dim=-1), v, -0.1 * g, beta]


def check(heads: int) -> None:
    """Both must equal the definition in float64 before either is timed."""
    given = tokens(heads, seed=1)
    wanted = recurrent(*given)
    for rule in (chunked, token_loop):
        for got, true in zip(rule(*(x.float() for x in given)), wanted, strict=True):
            error = float((got - true).norm() / true.norm())
            assert error < 1e-6, f"{rule.__name__} is off by {error:.1e}"


def measure(quick: bool = False) -> list[Row]:
    """Milliseconds per clip on one thread."""
    before, rows = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for heads in (1, 4):
                check(heads)
                given = [x.float() for x in tokens(heads, seed=0)]
                ours, loop = _interleaved(
                    lambda given=given: chunked(*given),
                    lambda given=given: token_loop(*given),
                    3 if quick else 15,
                )
                rows.append(_row(heads, ours, loop))
    finally:
        torch.set_num_threads(before)
    return rows


def _row(heads: int, ours: float, loop: float) -> Row:
    promised = heads == 1
    return Row(
        name=f"gated delta rule, {TOKENS} tokens, {KEY_DIM}x{VALUE_DIM}, H={heads}",
        value=ours * 1e3,
        unit="ms",
        peer="token loop, baddbmm",
        peer_value=loop * 1e3,
        ratio=loop / ours,
        bar=">= 2x" if promised else "",
        met=loop / ours >= 2 if promised else None,
    )


def _interleaved(
    one: Callable[[], object], two: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Best seconds of each, run in turn, so that both see the same machine."""
    best = [math.inf, math.inf]
    for _ in range(repeats):
        for k, run in enumerate((one, two)):
            start = time.perf_counter()
            run()
            best[k] = min(best[k], time.perf_counter() - start)
    return best[0], best[1]


if __name__ == "__main__":
    script(measure, "gated_delta_scan")
