"""What remembering a frame costs on CPU: our write and read against the published way.

The peer is the frame step as the public code writes it, in eager PyTorch: read the old values of
all pixels (S^T K), write them back to be erased, spread the gates over the channels, multiply by
einsum. It needs 1.6 times our arithmetic and about thirty calls. One thread, one stream.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from retain.apps.bench import Row, script
from retain.kernels.gated_delta import op
from retain.kernels.gated_delta.reference import Gates, read, step

AREA = "kernels"
SIZES = {"mini, 14x14": (32, 64, 4, 14), "base, 16x16": (64, 256, 8, 16)}
"""Key channels, value channels, heads, side."""
BAR = 4.0
"""What was aimed at. Three matrix products nobody can leave out are 9/10 of our time at base size,
so more than 3 is out of reach there."""


def published(state: Tensor, key: Tensor, value: Tensor, gates: Gates) -> tuple[Tensor, Tensor]:
    """State [B, N, Ck, Cv], key [B, Ck, H, W], value [B, N, Cv, H, W] -> new state, readout."""
    each = state.shape[-1] // len(gates.a_log)
    old = torch.einsum("bkhw,bnkv->bnvhw", key, state).contiguous()
    erase = torch.einsum("bkhw,bnvhw->bnkv", key, old)
    beta = F.linear(state, gates.w_beta).sigmoid().repeat_interleave(each, dim=3)
    erase = torch.einsum("bnkv,bnkv->bnkv", beta, erase).contiguous()
    new = torch.einsum("bkhw,bnvhw->bnkv", key, value).contiguous()
    new = torch.einsum("bnkv,bnkv->bnkv", beta, new).contiguous()
    decay = gates.a_log.exp() * F.softplus(F.linear(state, gates.w_alpha) + gates.dt_bias)
    alpha = torch.exp(-decay).repeat_interleave(each, dim=3)
    kept = torch.einsum("bnkv,bnkv->bnkv", alpha, state - erase).contiguous()
    after = kept + new
    return after, torch.einsum("bkhw,bnkv->bnvhw", key, after).contiguous()


def frame(rows: int, columns: int, heads: int, side: int) -> tuple[Tensor, Tensor, Tensor, Gates]:
    rng = torch.Generator().manual_seed(0)
    state = 0.1 * torch.randn(1, 1, rows, columns, generator=rng)
    key = torch.randn(1, rows, side * side, generator=rng).softmax(1)
    value = torch.randn(1, 1, columns, side * side, generator=rng)
    weights = 0.1 * torch.rand(2, heads, columns, generator=rng)
    biases = torch.rand(2, heads, generator=rng)
    return state, key, value, Gates(*weights, biases[0], biases[1] - 3)


def check(state: Tensor, key: Tensor, value: Tensor, gates: Gates, side: int) -> None:
    """Both must compute the float64 definition before either is timed."""
    wide = Gates(*(gate.double() for gate in gates))
    truth = step(state.double(), key.double(), value.double(), wide, mode="paper_raw")
    wanted = read(truth, key.double())
    ours = op.frame(state, key, value, gates, mode="paper_raw")
    grid = key.unflatten(-1, (side, side)), value.unflatten(-1, (side, side))
    theirs = published(state, *grid, gates)
    for new, readout in (ours, (theirs[0], theirs[1].flatten(-2))):
        torch.testing.assert_close(new.double(), truth, atol=1e-4, rtol=0)
        torch.testing.assert_close(readout.double(), wanted, atol=1e-4, rtol=0)


def measure(quick: bool = False) -> list[Row]:
    """Microseconds per frame; for training, forward and backward."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [row for name in SIZES for row in _size(name, 40 if quick else 200)]
    finally:
        torch.set_num_threads(threads)


def _size(name: str, repeats: int) -> list[Row]:
    *sizes, side = SIZES[name]
    state, key, value, gates = frame(*sizes, side)
    grid = key.unflatten(-1, (side, side)), value.unflatten(-1, (side, side))
    with torch.no_grad():
        check(state, key, value, gates, side)
        plain = _interleaved(
            lambda: op.frame(state, key, value, gates),
            lambda: published(state, *grid, gates),
            repeats,
        )
    leaves = [x.clone().requires_grad_() for x in (state, key, value, *gates)]
    trained = _interleaved(
        lambda: _train(op.frame, leaves, None),
        lambda: _train(published, leaves, side),
        repeats // 2,
    )
    return [
        _row(f"frame, {name}", *plain, BAR),
        _row(f"frame with its gradients, {name}", *trained, 1.0),
    ]


def _row(name: str, ours: float, peer: float, bar: float) -> Row:
    return Row(
        name=name,
        value=ours * 1e6,
        unit="us",
        peer="published order, eager",
        peer_value=peer * 1e6,
        ratio=peer / ours,
        bar=f">= {bar:g}x",
        met=peer / ours >= bar,
    )


def _train(
    run: Callable[..., tuple[Tensor, Tensor]], leaves: list[Tensor], side: int | None
) -> None:
    state, key, value, *gates = leaves
    if side is not None:
        key, value = key.unflatten(-1, (side, side)), value.unflatten(-1, (side, side))
    new, readout = run(state, key, value, Gates(*gates))
    torch.autograd.grad((new * new).sum() + (readout * readout).sum(), leaves)


def _interleaved(
    one: Callable[[], object], two: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Best seconds of each, run in turn, so that both see the same machine."""
    best = [math.inf, math.inf]
    for _ in range(repeats):
        for k, run in enumerate((one, two)):
            start = time.perf_counter()
            for _ in range(5):
                run()
            best[k] = min(best[k], (time.perf_counter() - start) / 5)
    return best[0], best[1]


if __name__ == "__main__":
    script(measure, "gated_delta")
