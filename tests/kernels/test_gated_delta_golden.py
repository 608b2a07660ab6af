"""The gated delta step against numbers from the public codes, run in float64 and float32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from shared_data import shared_data
from torch import Tensor

from retain.kernels.gated_delta import op, reference
from retain.kernels.gated_delta.reference import Gates

VARIANTS: dict[str, dict[str, Any]] = {
    "sep2025": {"mode": "released_2025", "tile_alpha": True},
    "dec2025": {"mode": "released_2025"},
    "rerelease": {"mode": "paper_raw"},
}
CASES = ["small", "multi", "stress", "real"]
# ``stress`` grows to 3e14 from one frame to the next, and every error with it
EXACT = dict.fromkeys(CASES, 1e-12) | {"stress": 1e-8}
SINGLE = dict.fromkeys(CASES, 5e-6) | {"stress": 5e-5}

Arrays = dict[str, np.ndarray]


class Clip(NamedTuple):
    """States [B, T, N, Ck, Cv], each after its frame, and readouts [B, T, N, Cv, P] of them."""

    states: np.ndarray
    readouts: np.ndarray


@pytest.fixture(scope="module")
def golden() -> Arrays:
    with np.load(shared_data("golden/gdkvm_step.npz"), allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def inputs(golden: Arrays, case: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Gates]:
    """Keys [B, T, Ck, P], values [B, T, N, Cv, P] and gates."""

    def given(name: str) -> Tensor:
        return torch.from_numpy(golden[f"{case}.in.{name}"]).to(dtype)

    gates = Gates(given("W_b"), given("W_a"), given("A_log"), given("dt_bias"))
    return given("key_logits").softmax(2), given("values"), gates


def run(golden: Arrays, case: str, variant: str, way: str = "float64") -> Clip:
    """Our numbers: by the definition in ``way``, or by the op in float32."""
    dtype = torch.float64 if way == "float64" else torch.float32
    keys, values, gates = inputs(golden, case, dtype)
    options = VARIANTS[variant]
    state = reference.start(keys[:, 0], values[:, 0], mode=options["mode"])
    states, readouts = [state], [reference.read(state, keys[:, 0])]
    for t in range(1, keys.shape[1]):
        frame = state, keys[:, t], values[:, t], gates
        if way == "op":
            state, readout = op.frame(*frame, **options)
        else:
            state = reference.step(*frame, **options)
            readout = reference.read(state, keys[:, t])
        states.append(state)
        readouts.append(readout)
    return Clip(torch.stack(states, 1).numpy(), torch.stack(readouts, 1).numpy())


def errors(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Each frame's largest difference over its largest number: [T]."""
    axes = (0, *range(2, want.ndim))
    off = np.abs(got.astype(np.float64) - want.astype(np.float64))
    return np.asarray(off.max(axes) / np.abs(want).max(axes))


def pairs(golden: Arrays, case: str, variant: str, clip: Clip) -> list[tuple[Any, Any]]:
    """(ours, theirs in float64) of states and readouts; of ``real``, 128 numbers a frame."""
    named, both = f"{case}.{variant}", zip(("state", "readout"), clip, strict=True)
    if case != "real":
        return [(got, golden[f"{named}.{name}_f64"]) for name, got in both]
    return [
        (
            got.reshape(*got.shape[:3], -1)[..., golden[f"real.probe.{name}_index"]],
            golden[f"{named}.{name}_probe_f64"],
        )
        for name, got in both
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_definition_in_float64(golden: Arrays, case: str, variant: str) -> None:
    for got, want in pairs(golden, case, variant, run(golden, case, variant)):
        assert errors(got, want).max() <= EXACT[case]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_number_of_the_released_size(golden: Arrays, variant: str) -> None:
    """Stored as float32: rounding is all that is between. There is no readout of dec2025."""
    for name, got in zip(("state", "readout"), run(golden, "real", variant), strict=True):
        if (stored := f"real.{variant}.{name}_f64_as_f32") in golden:
            assert errors(got, golden[stored]).max() <= 1.2e-7


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES[:3])
def test_gate_logits(golden: Arrays, case: str, variant: str) -> None:
    """S(t-1) W_b^T and S(t-1) W_a^T, before sigmoid and before the bias."""
    _, _, gates = inputs(golden, case, torch.float64)
    old = run(golden, case, variant).states[:, :-1]
    for name, weight in (("beta", gates.w_beta), ("alpha", gates.w_alpha)):
        want = golden[f"{case}.{variant}.{name}_logit_f64"]
        assert errors(old @ weight.numpy().T, want).max() <= EXACT[case]


@pytest.mark.parametrize("way", ["float32", "op"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_float32_against_their_float64(golden: Arrays, case: str, variant: str, way: str) -> None:
    for got, want in pairs(golden, case, variant, run(golden, case, variant, way)):
        assert errors(got, want).max() <= SINGLE[case]


@pytest.mark.parametrize(
    ("case", "one", "other", "apart"),
    [
        ("small", "sep2025", "dec2025", 0.11),
        ("small", "dec2025", "rerelease", 1.05),
        ("real", "sep2025", "dec2025", 1.1),
        ("real", "dec2025", "rerelease", 1.7),
    ],
)
def test_the_wrong_variant_fails(
    golden: Arrays, case: str, one: str, other: str, apart: float
) -> None:
    """``apart`` is the largest difference of two states at the last frame; values are of order 1.
    Either variant against the other's numbers shows it, and breaks the tolerances by far."""
    for ours, theirs in ((one, other), (other, one)):
        clip = run(golden, case, ours)
        stored = "state_f64_as_f32" if case == "real" else "state_f64"
        off = np.abs(clip.states - golden[f"{case}.{theirs}.{stored}"])[:, -1].max()
        assert off == pytest.approx(apart, rel=0.03)
        for got, want in pairs(golden, case, theirs, clip):
            assert errors(got, want)[-1] > 0.01


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_mass_mode_is_another_rule(golden: Arrays, case: str, variant: str) -> None:
    """No public code divides by the mass: our default must not be taken for one of them."""
    keys, values, _ = inputs(golden, case, torch.float64)
    ours = reference.start(keys[:, 0], values[:, 0])[:, None].numpy()
    got, want = pairs(golden, case, variant, Clip(ours, ours))[0]
    assert errors(got, want[:, :1])[0] > 0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_narrow_gate_of_the_public_codes_is_not_copied(golden: Arrays, variant: str) -> None:
    """They round the decay to float32 in float64 models too, which is seen after the first gate."""
    off = errors(run(golden, "small", variant).states, golden[f"small.{variant}.state_f64_asis"])
    assert off[0] <= 1e-12
    assert (off[1:] > 1e-10).all()
    assert (off[1:] < 1e-7).all()
