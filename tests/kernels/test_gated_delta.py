"""The gated delta op: numbers of the public code, identities, CPU = definition, gradients."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared_data
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from retain.kernels.gated_delta import op
from retain.kernels.gated_delta.reference import Gates, Mode, Rule, read, start, step

MODES: tuple[Mode, ...] = get_args(Mode)
RULES: tuple[Rule, ...] = get_args(Rule)
WRITING = tuple(rule for rule in RULES if rule != "none")


def inputs(
    batch: int = 2,
    objects: int = 2,
    rows: int = 8,
    columns: int = 12,
    heads: int = 3,
    pixels: int = 10,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Gates]:
    """State, key, value and gates as a trained model has them, values exact in float32."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng).to(dtype)

    gates = Gates(
        0.3 * normal(heads, columns),
        0.3 * normal(heads, columns),
        normal(heads),
        normal(heads) - 2,
    )
    key = normal(batch, rows, pixels).softmax(1)
    state = 0.5 * normal(batch, objects, rows, columns)
    return state, key, normal(batch, objects, columns, pixels), gates


def constant(columns: int, b: float, a: float) -> Gates:
    """Gates that do not look at the state: sigmoid and softplus of their biases alone. b = 0.5
    needs no weight; b near 0 or 1 wants a state of ones."""
    weight = math.log(b / (1 - b)) / columns if 0 < b < 1 else (1e3 if b else -1e3)
    g = -math.log(a) if a > 0 else 1e3
    one = torch.ones(1, dtype=torch.float64)
    a_log = torch.log(one * g / math.log(2))  # softplus(0) = log 2
    return Gates(
        torch.full((1, columns), weight).double(), torch.zeros(1, columns).double(), a_log, 0 * one
    )


def worst(got: Tensor, truth: Tensor) -> float:
    """Largest error against the largest value."""
    return float((got.double() - truth.double()).abs().max() / truth.double().abs().max())


# --- numbers of the public code ----------------------------------------------------------------

VARIANTS: dict[str, tuple[Mode, bool]] = {
    "sep2025": ("released_2025", True),
    "dec2025": ("released_2025", False),
    "rerelease": ("paper_raw", False),
}
CASES = ("small", "multi", "stress", "real")


def replay(case: str, variant: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(states, readouts) [B, T, ...] of the op, and what the file holds of that case."""
    mode, tile = VARIANTS[variant]
    with np.load(shared_data("golden/gdkvm_step.npz")) as file:
        held = {
            name.removeprefix(f"{case}."): torch.from_numpy(file[name])
            for name in file.files
            if name.startswith(f"{case}.")
        }
    keys = held["in.key_logits"].to(dtype).softmax(2)
    values = held["in.values"].to(dtype)
    gates = Gates(*(held[f"in.{name}"].to(dtype) for name in ("W_b", "W_a", "A_log", "dt_bias")))
    state = start(keys[:, 0], values[:, 0], mode=mode)
    states, readouts = [state], [read(state, keys[:, 0])]
    for t in range(1, keys.shape[1]):
        state, readout = op.frame(
            state, keys[:, t], values[:, t], gates, mode=mode, tile_alpha=tile
        )
        states.append(state)
        readouts.append(readout)
    return torch.stack(states, 1), torch.stack(readouts, 1), held


def frame_errors(got: Tensor, truth: Tensor) -> list[float]:
    return [worst(got[:, t], truth[:, t]) for t in range(got.shape[1])]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_float64_repeats_the_public_code(case: str, variant: str) -> None:
    """1e-12 for rounding; stress grows by 1e14 and multiplies it; real is stored in float32."""
    states, readouts, held = replay(case, variant, torch.float64)
    stored, limit = ("f64_as_f32", 1.2e-7) if case == "real" else ("f64", 1e-12)
    if case == "stress":
        limit = 1e-8
    for name, got in (("state", states), ("readout", readouts)):
        truth = held.get(f"{variant}.{name}_{stored}")
        if truth is not None:
            assert max(frame_errors(got, truth)) <= limit, name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_float32_stays_near_the_public_codes_float64(case: str, variant: str) -> None:
    states, _, held = replay(case, variant, torch.float32)
    truth = held[f"{variant}.state_{'f64_as_f32' if case == 'real' else 'f64'}"]
    # The public code's own float32 run is off by 7e-7, under stress by 5e-6.
    assert max(frame_errors(states, truth)) <= (5e-5 if case == "stress" else 5e-6)


@pytest.mark.parametrize("case", ["small", "real"])
def test_a_wrong_variant_is_far_off(case: str) -> None:
    for variant in VARIANTS:
        states, _, held = replay(case, variant, torch.float64)
        for other in VARIANTS:
            if other != variant:
                suffix = "f64_as_f32" if case == "real" else "f64"
                assert worst(states[:, -1], held[f"{other}.state_{suffix}"][:, -1]) > 0.05


# --- what the rule must obey -------------------------------------------------------------------


def test_erasing_by_the_gram_matrix_is_reading_and_writing_back() -> None:
    state, key, _, _ = inputs()
    k = key[:, None]
    torch.testing.assert_close((k @ k.mT) @ state, k @ (state.mT @ k).mT)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    pixels=st.integers(1, 200),
    sharpness=st.sampled_from([0.1, 1.0, 6.0, 50.0]),
    crowded=st.booleans(),
)
def test_a_mass_normalised_erase_leaves_less_to_read(
    seed: int, pixels: int, sharpness: float, crowded: bool
) -> None:
    """Eigenvalues of diag(b) G / n in [0, 1]; what the frame's own keys read does not grow."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(16, 1 if crowded else pixels, generator=rng).double()
    key = (sharpness * logits).softmax(0).expand(16, pixels)
    b = torch.rand(16, 1, generator=rng).double()
    share = b / (key.sum(1, keepdim=True) + 1e-4)
    erase = share * (key @ key.mT)
    # Similar to a symmetric matrix, whose eigenvalues a solver finds whatever the keys.
    values = torch.linalg.eigvalsh(share.sqrt() * (key @ key.mT) * share.sqrt().mT)
    assert float(values.max()) <= 1 + 1e-9
    assert float(values.min()) >= -1e-9
    state = torch.randn(16, 3, generator=rng).double()
    left = state - erase @ state
    assert float((left.mT @ key).norm()) <= float((state.mT @ key).norm()) * (1 + 1e-9)


def test_two_frames_in_turn_need_a_decay_even_in_mass_mode() -> None:
    """A limit, not a wish: the worst of 4,000 random pairs of frames of three pixels, b = 1."""
    pair = torch.tensor(
        [
            [[0.00, 0.00, 0.91], [0.24, 0.78, 0.04], [0.75, 0.00, 0.05], [0.01, 0.22, 0.00]],
            [[0.03, 0.74, 0.13], [0.02, 0.00, 0.00], [0.01, 0.06, 0.00], [0.94, 0.20, 0.87]],
        ],
        dtype=torch.float64,
    )
    kept = torch.eye(4).double() - (pair @ pair.mT) / (pair.sum(-1, keepdim=True) + 1e-4)
    radius = float(torch.linalg.eigvals(kept[1] @ kept[0]).abs().max())
    assert 1.1 < radius < 1.2


def test_constant_values_under_one_hot_keys_become_the_rows_and_stay() -> None:
    state = torch.ones(1, 1, 4, 6, dtype=torch.float64)
    key = torch.eye(4, dtype=torch.float64).repeat(1, 15)[None]
    mean = 1 + torch.rand(1, 1, 6, 1, dtype=torch.float64, generator=torch.Generator())
    value = mean.expand(1, 1, 6, 60)
    gates = constant(6, b=1, a=1)
    for _ in range(5):
        state = step(state, key, value, gates)
        # 15 pixels a channel and 1e-4 added to them: 7e-6.
        torch.testing.assert_close(state, mean.mT.expand(1, 1, 4, 6), rtol=1e-5, atol=0)


def test_the_published_rule_diverges_where_it_must_and_mass_does_not() -> None:
    """b = 0.5, no decay; lambda of K K^T is 64, so b lambda > 2 and each frame multiplies by 31."""
    key = torch.full((1, 1, 64), 1.0, dtype=torch.float64)
    value = torch.ones(1, 1, 2, 64, dtype=torch.float64)
    gates = constant(2, b=0.5, a=1)
    raw = mass = torch.full((1, 1, 1, 2), 2.0, dtype=torch.float64)
    for _ in range(10):
        raw, mass = (
            step(s, key, value, gates, mode=m) for s, m in ((raw, "paper_raw"), (mass, "mass"))
        )
    assert float(raw.abs().max()) > 1e14
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=2e-3, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_the_pixels_does_not_matter(mode: Mode) -> None:
    state, key, value, gates = inputs()
    order = torch.randperm(key.shape[-1], generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        step(state, key[..., order], value[..., order], gates, mode=mode),
        step(state, key, value, gates, mode=mode),
    )


def test_mass_mode_does_not_see_the_resolution() -> None:
    state, key, value, gates = inputs(pixels=40)
    twice = step(state, key.repeat(1, 1, 2), value.repeat(1, 1, 1, 2), gates)
    # Row masses are near 5 here, and the 1e-4 added to them counts half as much.
    torch.testing.assert_close(twice, step(state, key, value, gates), rtol=1e-4, atol=1e-4)
    raw = step(state, key.repeat(1, 1, 2), value.repeat(1, 1, 1, 2), gates, mode="paper_raw")
    assert worst(raw, step(state, key, value, gates, mode="paper_raw")) > 0.1


def test_no_write_and_no_decay_keep_the_state_and_full_decay_forgets_it() -> None:
    _, key, value, _ = inputs()
    ones = torch.ones(2, 2, 8, 12, dtype=torch.float64)
    assert torch.equal(step(ones, key, value, constant(12, b=0, a=1)), ones)
    forget = constant(12, b=0.5, a=0)
    one, other = (step(s, key, value, forget) for s in (ones, -3 * ones))
    assert torch.equal(one, other)


def test_a_gap_of_frames_decays_as_that_many() -> None:
    _, key, value, _ = inputs()
    ones, gates = torch.ones(2, 2, 8, 12, dtype=torch.float64), constant(12, b=0, a=0.9)
    after = step(ones, key, value, gates, dt=torch.tensor([1.0, 3.0]))
    assert float(after[0].mean()) == pytest.approx(0.9)
    assert float(after[1].mean()) == pytest.approx(0.9**3)


@pytest.mark.parametrize("mode", MODES)
def test_objects_and_clips_are_separate_runs(mode: Mode) -> None:
    state, key, value, gates = inputs(batch=3, objects=4)
    with torch.no_grad():
        new, readout = op.frame(state, key, value, gates, mode=mode)
        for b in range(3):
            for n in range(4):
                one = slice(b, b + 1), slice(n, n + 1)
                own = op.frame(state[one], key[one[0]], value[one], gates, mode=mode)
                torch.testing.assert_close(own, (new[one], readout[one]))


@pytest.mark.parametrize("drift", [0.0, 0.05])
def test_a_thousand_frames_stay_bounded_in_mass_mode(drift: float) -> None:
    state, _, value, gates = inputs(1, 1, 8, 12, 3, pixels=64, dtype=torch.float32)
    rng = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(1, 8, 64, generator=rng)
    largest = []
    with torch.no_grad():
        for _ in range(1000):
            logits = logits + drift * torch.randn(1, 8, 64, generator=rng)
            state = op.write(state, logits.softmax(1), value, gates)
            largest.append(float(state.abs().max()))
    assert max(largest) <= 2 * float(value.abs().max())
    assert max(largest[500:]) <= 1.5 * max(largest[:500])


# --- the op against the definition -------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gradients", [False, True], ids=["plain", "with gradients"])
def test_cpu_computes_the_definition(mode: Mode, rule: Rule, gradients: bool) -> None:
    tile = mode == "released_2025"
    for sizes in ((1, 1, 32, 64, 4, 196), (2, 3, 5, 6, 2, 7), (1, 2, 17, 33, 3, 1)):
        state, key, value, gates = inputs(*sizes)
        dt = torch.arange(1.0, 1 + sizes[0])
        truth = step(state, key, value, gates, mode=mode, rule=rule, dt=dt, tile_alpha=tile)
        narrow = [x.float() for x in (state, key, value)]
        own = Gates(*(gate.float() for gate in gates))
        with torch.set_grad_enabled(gradients):
            new, readout = op.frame(*narrow, own, mode=mode, rule=rule, dt=dt, tile_alpha=tile)
        # float32 rounding of sums of at most 196 terms of size 1
        assert worst(new, truth) < 1e-5
        wanted = torch.zeros_like(value) if rule == "none" else read(truth, key)
        torch.testing.assert_close(readout.double(), wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keys_and_values_meet_a_float32_state(dtype: torch.dtype) -> None:
    state, key, value, gates = inputs(dtype=torch.float32)
    key, value = key.to(dtype), value.to(dtype)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        new, readout = op.frame(state, key, value, gates)
    assert (new.dtype, readout.dtype) == (torch.float32, dtype)
    assert worst(new, step(state, key.float(), value.float(), gates)) < 1e-6


@pytest.mark.parametrize("rule", WRITING)
@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode: Mode, rule: Rule) -> None:
    tile = mode == "released_2025"
    state, key, value, gates = inputs(1, 2, 3, 4, 2, 5)
    leaves = [x.requires_grad_() for x in (state, key, value, *gates)]

    def eager(*x: Tensor) -> tuple[Tensor, Tensor]:
        dt = torch.tensor([1.5])
        return op.frame(*x[:3], Gates(*x[3:]), mode=mode, rule=rule, dt=dt, tile_alpha=tile)

    assert torch.autograd.gradcheck(eager, leaves, fast_mode=True)


def test_gradients_through_frames_equal_those_of_the_definition() -> None:
    results = []
    for own in (op.frame, None):
        state, key, value, gates = inputs(dtype=torch.float32)
        leaves = [x.requires_grad_() for x in (state, key, value, *gates)]
        loss = torch.zeros(())
        for _ in range(3):
            if own is None:
                state = step(state, key, value, gates)
                readout = read(state, key)
            else:
                state, readout = own(state, key, value, gates)
            loss = loss + readout.square().sum()
        results.append(torch.autograd.grad(loss, leaves))
    for fast, plain in zip(*results, strict=True):
        assert worst(fast, plain) < 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("mode", MODES)
def test_torch_compiles_the_operators(mode: Mode) -> None:
    state, key, value, gates = inputs(1, 2, 3, 4, 2, 5, torch.float32)
    leaves = [x.requires_grad_() for x in (state, key, value, *gates)]
    check = "test_aot_dispatch_dynamic"
    write = (*leaves, None, mode, "full", False)
    torch.library.opcheck(op.gated_delta_write, write, test_utils=check)
    torch.library.opcheck(op.gated_delta_read, tuple(leaves[:2]), test_utils=check)


@pytest.mark.slow
def test_frame_compiles_into_one_graph() -> None:
    state, key, value, gates = inputs(dtype=torch.float32)
    with torch.no_grad():
        compiled = torch.compile(op.frame, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(
            compiled(state, key, value, gates), op.frame(state, key, value, gates)
        )


def test_whoever_traces_without_compiling_gets_the_operators() -> None:
    """Not the numbers of the input that was there then."""
    state, key, value, gates = inputs(dtype=torch.float32)

    def read_after(state: Tensor) -> Tensor:
        return op.frame(state, key, value, gates)[1]

    traced = make_fx(read_after)(state)
    torch.testing.assert_close(traced(state + 1), read_after(state + 1))
