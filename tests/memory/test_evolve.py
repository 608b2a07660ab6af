"""The update rule of states: its limits, and which policy follows a drifting stream best."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retain.memory.evolve import Policy, Rule, evolve
from retain.pipeline.errors import UsageError

TOKENS, DIM = 200, 8


def numbers(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """State, write [T, D], weight and evidence [T]."""
    rng = np.random.default_rng(seed)
    shape = (TOKENS, DIM)
    return (
        rng.standard_normal(shape), rng.standard_normal(shape),
        rng.uniform(0, 20, TOKENS), rng.uniform(0.01, 1, TOKENS),
    )  # fmt: skip


def test_a_cap_of_zero_is_replace() -> None:
    state, write, _, evidence = numbers(0)
    known = np.zeros(TOKENS)
    by_cap = evolve(state, write, known, evidence, Policy("confidence", cap=0))
    by_name = evolve(state, write, known, evidence, Policy("replace", cap=0))
    np.testing.assert_allclose(by_cap[0], write, atol=1e-12)
    np.testing.assert_allclose(by_cap[0], by_name[0], atol=1e-12)
    assert (by_cap[1] == 0).all()


def test_damped_goes_half_way_whatever_is_said() -> None:
    state, write, weight, evidence = numbers(1)
    out, _ = evolve(state, write, weight, evidence, Policy("damped"))
    np.testing.assert_allclose(out, (state + write) / 2)


def test_attention_goes_as_far_as_it_looked_and_never_further() -> None:
    state, write, weight, evidence = numbers(2)
    evidence[0], evidence[1] = 0.0, 3.0
    out, _ = evolve(state, write, weight, evidence, Policy("attention"))
    np.testing.assert_allclose(out[0], state[0])
    np.testing.assert_allclose(out[1], write[1])
    np.testing.assert_allclose(out[2], state[2] + evidence[2] * (write[2] - state[2]))


@given(st.permutations(range(6)))
def test_under_the_cap_confidence_is_the_weighted_mean_in_any_order(order: list[int]) -> None:
    rng = np.random.default_rng(3)
    writes, weights = rng.standard_normal((6, 1, DIM)), rng.uniform(0.1, 1, (6, 1))
    state, known = np.zeros((1, DIM)), np.zeros(1)
    for i in order:
        state, known = evolve(state, writes[i], known, weights[i], Policy("confidence", cap=100))
    mean = (weights[:, :, None] * writes).sum(0) / weights.sum()
    np.testing.assert_allclose(state, mean, atol=1e-12)
    np.testing.assert_allclose(known, weights.sum())


def test_at_the_cap_confidence_is_a_filter_of_constant_gain() -> None:
    known = np.full(1, 20.0)
    gain, weight = Policy("confidence", cap=20).gain(known, np.ones(1))
    assert gain == pytest.approx(1 / 21)
    assert weight == 20


@pytest.mark.parametrize("rule", ["attention", "confidence"])
def test_who_says_nothing_changes_nothing(rule: Rule) -> None:
    state, write, _, _ = numbers(4)
    nothing = np.zeros(TOKENS)
    out, weight = evolve(state, write, nothing, nothing, Policy(rule))
    np.testing.assert_array_equal(out, state)
    assert (weight == 0).all()


@pytest.mark.parametrize("rule", ["replace", "damped", "attention", "confidence"])
def test_torch_and_numpy_agree(rule: Rule) -> None:
    arrays = numbers(5)
    plain = evolve(*arrays, Policy(rule))
    tensors = evolve(*(torch.from_numpy(a) for a in arrays), Policy(rule))
    for a, b in zip(plain, tensors, strict=True):
        np.testing.assert_allclose(a, b.numpy())


def test_no_other_policies() -> None:
    with pytest.raises(UsageError, match="replace, damped"):
        Policy("median")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cap"):
        Policy(cap=-1)


def drift_stream(policy: Policy, *, jump: bool = False) -> np.ndarray:
    """RMS error [frames] of a state that follows a slowly drifting truth, from writes of which two
    thirds are poor; evidence is what a good confidence head would say: low where they are poor."""
    rng = np.random.default_rng(6)
    truth = rng.standard_normal((TOKENS, DIM))
    state, weight, errors = np.zeros((TOKENS, DIM)), np.zeros(TOKENS), []
    for frame in range(120):
        truth = truth + 0.01 * rng.standard_normal(truth.shape)
        if jump and frame == 60:
            truth = rng.standard_normal(truth.shape)
        poor = rng.random(TOKENS) < 2 / 3
        noise = np.where(poor, 1.0, 0.25)
        write = truth + noise[:, None] * rng.standard_normal(truth.shape)
        state, weight = evolve(state, write, weight, np.where(poor, 0.06, 1.0), policy)
        errors.append(np.sqrt(((state - truth) ** 2).mean()))
    return np.array(errors)


def test_the_order_of_the_policies_on_a_drifting_stream() -> None:
    rules: tuple[Rule, ...] = ("confidence", "attention", "damped", "replace")
    errors = [drift_stream(Policy(rule))[30:].mean() for rule in rules]
    for better, worse in pairwise(errors):
        assert better < 0.8 * worse, dict(zip(rules, errors, strict=True))


def test_the_cap_is_what_lets_a_state_follow_a_change() -> None:
    capped = drift_stream(Policy(cap=5), jump=True)
    endless = drift_stream(Policy(cap=1e9), jump=True)
    np.testing.assert_allclose(capped[:4], endless[:4])
    assert capped[-1] < 0.5 * endless[-1]
