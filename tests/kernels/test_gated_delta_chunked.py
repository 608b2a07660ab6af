"""The gated delta rule with gates per token: chunks = single tokens, and what the rule promises."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from retain.kernels.gated_delta.chunked import advance, chunked, recurrent

LENGTHS = (1, 15, 16, 17, 63, 100)
DECAYS = {"none": 0.0, "weak": 0.01, "strong": 5.0}


def tokens(
    length: int,
    *,
    decay: float = 0.1,
    batch: int = 2,
    heads: int = 3,
    rows: int = 8,
    columns: int = 12,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q, k of length 1, v, g in [-decay, 0] and beta in [0, 1], float64."""
    rng = torch.Generator().manual_seed(seed)
    lead = (batch, length, heads)
    q = torch.randn(*lead, rows, generator=rng, dtype=torch.float64)
    k = normalize(torch.randn(*lead, rows, generator=rng, dtype=torch.float64), dim=-1)
    v = torch.randn(*lead, columns, generator=rng, dtype=torch.float64)
    g = -decay * torch.rand(lead, generator=rng, dtype=torch.float64)
    return q, k, v, g, torch.rand(lead, generator=rng, dtype=torch.float64)


def some_state(*, batch: int = 2, heads: int = 3, rows: int = 8, columns: int = 12) -> Tensor:
    rng = torch.Generator().manual_seed(9)
    return torch.randn(batch, heads, rows, columns, generator=rng, dtype=torch.float64)


def error(got: Tensor, wanted: Tensor) -> float:
    """RMS of the difference relative to the RMS of what is wanted."""
    assert got.shape == wanted.shape
    return float((got.double() - wanted).norm() / wanted.norm())


def test_the_definition_is_the_formula() -> None:
    q, k, v, g, beta = (x[:1, :, :1] for x in tokens(6))
    state, o = some_state()[:1, :1], []
    matrix = state[0, 0]
    for t in range(6):
        key = k[0, t, 0, :, None]
        erase = torch.eye(8, dtype=torch.float64) - beta[0, t, 0] * key @ key.T
        matrix = g[0, t, 0].exp() * erase @ matrix + beta[0, t, 0] * key @ v[0, t, 0][None]
        o.append(matrix.T @ q[0, t, 0] / math.sqrt(8))
    got, last = recurrent(q, k, v, g, beta, state)
    torch.testing.assert_close(got[0, :, 0], torch.stack(o))
    torch.testing.assert_close(last[0, 0], matrix)


@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS)
@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_equal_tokens(length: int, decay: float) -> None:
    given = tokens(length, decay=decay)
    for state in (None, some_state()):
        wanted = recurrent(*given, state, scale=0.7)
        for chunk in (16, 32):
            got = chunked(*given, state, scale=0.7, chunk=chunk)
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)
            written = advance(*given[1:], state, chunk=chunk)
            torch.testing.assert_close(written, wanted[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS)
def test_float32_is_as_good_as_float32_can_be(decay: float) -> None:
    """Rounding is 6e-8 per operation and measured to be 1e-7 to 3e-7 here; 1e-5 is lenient."""
    given = tokens(300, decay=decay, rows=64, columns=32)
    wanted = recurrent(*given)
    got = chunked(*(x.float() for x in given))
    assert all(x.dtype == torch.float32 for x in got)
    assert error(got[0], wanted[0]) < 1e-5
    assert error(got[1], wanted[1]) < 1e-5


def test_parallel_keys_do_not_cost_accuracy() -> None:
    """Neighbouring frames of a video: an inverse by powers of A loses every digit on these."""
    q, k, v, g, beta = tokens(128, decay=0.001)
    k = normalize(k[:, :1] + 0.01 * k, dim=-1)
    given = q, k, v, g, torch.ones_like(beta)
    wanted, got = recurrent(*given), chunked(*(x.float() for x in given))
    assert error(got[0], wanted[0]) < 1e-5


@pytest.mark.parametrize("cut", [-1e4, -math.inf])
def test_forgetting_everything_leaves_later_decays_exact(cut: float) -> None:
    q, k, v, g, beta = tokens(100, decay=0.01)
    g[:, [0, 21, 50, 51]] = cut
    given = q, k, v, g, beta
    wanted = recurrent(*given, some_state())
    got = chunked(*(x.float() for x in given), some_state().float())
    assert error(got[0], wanted[0]) < 1e-5
    assert error(got[1], wanted[1]) < 1e-5
    after, _ = recurrent(*(x[:, 51:] for x in given))
    torch.testing.assert_close(wanted[0][:, 51:], after)


@pytest.mark.parametrize("length", [0, 5])
def test_half_precision_in_and_out_float32_between(length: int) -> None:
    given = tokens(length)
    for rule in (recurrent, chunked):
        o, state = rule(*(x.bfloat16() for x in given))
        assert o.dtype == torch.bfloat16
        assert state.dtype == torch.float32
        wide, same = rule(*(x.bfloat16().float() for x in given))
        torch.testing.assert_close(o, wide.bfloat16())
        torch.testing.assert_close(state, same)


def test_no_tokens_leave_the_state() -> None:
    state = some_state()
    for rule in (recurrent, chunked):
        o, last = rule(*tokens(0), state)
        assert o.shape == (2, 0, 3, 12)
        assert torch.equal(last, state)
    assert torch.equal(advance(*tokens(0)[1:], state), state)


@pytest.mark.parametrize("at", [1, 32, 49, 99])
def test_two_parts_equal_the_whole(at: int) -> None:
    given = tokens(100)
    o, last = chunked(*given, some_state())
    first, between = chunked(*(x[:, :at] for x in given), some_state())
    second, end = chunked(*(x[:, at:] for x in given), between)
    torch.testing.assert_close(torch.cat((first, second), 1), o, rtol=0, atol=1e-10)
    torch.testing.assert_close(end, last, rtol=0, atol=1e-10)


def test_a_token_sees_none_that_comes_later() -> None:
    given = tokens(40)
    o, _ = chunked(*given)
    changed = [x.clone() for x in given]
    for x, other in zip(changed, tokens(40, seed=1), strict=True):
        x[:, 20:] = other[:, 20:]
    torch.testing.assert_close(chunked(*changed)[0][:, :20], o[:, :20])


def test_heads_and_clips_do_not_mix() -> None:
    given, state = tokens(40), some_state()
    o, last = chunked(*given, state)
    one = chunked(*(x[1:, :, 2:] for x in given), state[1:, 2:])
    torch.testing.assert_close(one, (o[1:, :, 2:], last[1:, 2:]))


def test_a_clip_acts_on_the_state_as_one_affine_map() -> None:
    """S -> M S + H: M from what it does to the unit matrix, H from what it does to nothing."""
    parts = [tokens(30, rows=6, columns=6, seed=s) for s in (0, 1)]
    unit = torch.eye(6, dtype=torch.float64).expand(2, 3, 6, 6)
    shifts = [advance(*part[1:]) for part in parts]
    maps = [advance(*part[1:], unit) - h for part, h in zip(parts, shifts, strict=True)]
    state = some_state(rows=6, columns=6)
    joined = [torch.cat(pair, 1) for pair in zip(*parts, strict=True)]
    whole = advance(*joined[1:], state)
    composed = maps[1] @ maps[0] @ state + maps[1] @ shifts[0] + shifts[1]
    torch.testing.assert_close(composed, whole, rtol=0, atol=1e-10)


def test_gradients() -> None:
    """Against finite differences, over chunks' borders and a ragged tail."""
    given = tokens(5, batch=1, heads=1, rows=2, columns=3)
    state = some_state(batch=1, heads=1, rows=2, columns=3)
    inputs = [x.clone().requires_grad_() for x in (*given, state)]
    assert torch.autograd.gradcheck(lambda *x: chunked(*x, chunk=2), inputs)
    assert torch.autograd.gradcheck(recurrent, inputs)


def test_gradients_stay_numbers_behind_a_cut() -> None:
    given = [x.float() for x in tokens(40)]
    given[3][:, [0, 13, 33]] = -math.inf
    inputs = [x.requires_grad_() for x in given]
    sum(x.square().sum() for x in chunked(*inputs)).backward()
    for x in inputs:
        assert x.grad is not None
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("alpha", [1.0, 0.99])
@pytest.mark.parametrize("still", [True, False])
def test_a_long_stream_stays_bounded(still: bool, alpha: float) -> None:
    """With |k| = 1 and beta <= 1, |S'|^2 <= alpha^2 |S|^2 + beta |v|^2, whatever the tokens: what
    is replaced is mixed, the rest is untouched. ``still`` repeats one frame of 100 tokens."""
    q, k, v, g, beta = tokens(1000, decay=0.0, batch=1, heads=2)
    if still:
        q, k, v = (x[:, :100].repeat(1, 10, 1, 1) for x in (q, k, v))
    g = torch.full_like(g, math.log(alpha))
    _, state = chunked(*(x.float() for x in (q, k, v, g, torch.ones_like(beta))))
    energy = v.square().sum(-1)
    bound = energy.sum(1) if alpha == 1 else energy.amax(1) / (1 - alpha**2)
    assert (state.square().sum((-1, -2)) <= bound).all()


def test_shapes_that_do_not_belong_together_are_named() -> None:
    q, k, v, g, beta = tokens(5)
    wrong: dict[str, tuple[Any, ...]] = {
        r"g \[2, 4, 3\]": (q, k, v, g[:, 1:], beta),
        r"beta \[2, 5, 2\]": (q, k, v, g, beta[..., 1:]),
        r"q \[2, 5, 3, 7\]": (q[..., 1:], k, v, g, beta),
        r"state \[2, 3, 12, 8\]": (q, k, v, g, beta, some_state().mT),
    }
    for sentence, given in wrong.items():
        for rule in (recurrent, chunked):
            with pytest.raises(ValueError, match=sentence):
                rule(*given)


@pytest.mark.parametrize("length", [1, 64, 100])
def test_flash_linear_attention_agrees(length: int) -> None:
    """Its plain torch references compute in float32: 1e-5 of the RMS is lenient for both."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns wherever there is no GPU
        naive = pytest.importorskip(
            "fla.ops.gated_delta_rule.naive",
            reason="flash-linear-attention is not installed (pip install fla-core einops)",
        )
    q, k, v, g, beta = (x.float() for x in tokens(length))
    state = some_state().float()
    o, last = naive.naive_recurrent_gated_delta_rule(
        q, k, v, beta, g, initial_state=state, output_final_state=True
    )
    for rule in (recurrent, chunked):
        got, end = rule(q, k, v, g, beta, state)
        assert error(got, o.double()) < 1e-5
        assert error(end, last.double()) < 1e-5
