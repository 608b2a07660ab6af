"""The gated-delta memory beyond the laws: what it computes, gates, gaps, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from retain.kernels.gated_delta.reference import Gates, Mode, Rule, read, start, step
from retain.memory.base import State
from retain.memory.gated_delta import DeltaWrite, GatedDelta, GatedDeltaConfig
from retain.pipeline.errors import StateError, UsageError


def gates() -> Gates:
    rng = torch.Generator().manual_seed(0)
    return Gates(*(0.2 * torch.randn(s, generator=rng) for s in ((2, 8), (2, 8), (2,), (2,))))


def memory(mode: Mode = "mass", rule: Rule = "full") -> GatedDelta:
    return GatedDelta(
        GatedDeltaConfig(objects=2, key_dim=4, value_dim=8, heads=2, mode=mode, rule=rule), gates()
    )


def writes(count: int, seed: int = 0) -> list[DeltaWrite]:
    rng = torch.Generator().manual_seed(seed)
    return [
        DeltaWrite(
            torch.randn(4, 9, generator=rng).softmax(0),
            torch.randn(2, 8, 9, generator=rng),
            dt=1.0 + i % 3,
        )
        for i in range(count)
    ]


def computed(items: list[DeltaWrite], mode: Mode, rule: Rule) -> Tensor:
    state = start(items[0].key[None], items[0].value[None], mode=mode)
    for item in items[1:]:
        dt = torch.tensor([item.dt])
        key, value = item.key[None], item.value[None]
        state = step(state, key, value, gates(), mode=mode, rule=rule, dt=dt)
    return state


@pytest.mark.parametrize("rule", ["full", "replace", "sum", "beta", "alpha"])
@pytest.mark.parametrize("mode", ["mass", "paper_raw"])
def test_it_holds_what_the_definition_computes(mode: Mode, rule: Rule) -> None:
    held, items = memory(mode, rule), writes(5)
    for item in items:
        held.write("s", item)
    state = computed(items, mode, rule)
    torch.testing.assert_close(held.state("s"), state[0])
    query = writes(1, seed=1)[0].key
    torch.testing.assert_close(held.read("s", query), read(state, query[None])[0])


def test_without_a_memory_the_answer_is_zero() -> None:
    held = memory(rule="none")
    for item in writes(3):
        held.write("s", item)
    assert not held.read("s", writes(1)[0].key).any()


def test_an_unwritten_stream_answers_zero() -> None:
    held = memory()
    assert held.empty("s")
    assert not held.read("s", writes(1)[0].key).any()


def test_a_gate_moves_the_state_part_of_the_way() -> None:
    first, item = writes(2)
    states = []
    for gate in (0.0, 0.25, 1.0):
        held = memory()
        held.write("s", first)
        before = held.state("s")
        held.write("s", item, gate=gate)
        states.append(held.state("s"))
    assert torch.equal(states[0], before)
    torch.testing.assert_close(states[1], before + 0.25 * (states[2] - before))
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        held.write("s", item, gate=1.5)


def test_a_longer_gap_forgets_more() -> None:
    first, item = writes(2)
    left = []
    for dt in (1.0, 50.0):
        held, other = memory(), memory()
        for m, scale in ((held, 1.0), (other, 2.0)):
            m.write("s", DeltaWrite(first.key, scale * first.value))
            m.write("s", DeltaWrite(item.key, item.value, dt))
        left.append(float((held.state("s") - other.state("s")).norm()))
    assert left[1] < 0.5 * left[0]


def test_a_closed_gate_leaves_an_empty_memory_empty() -> None:
    held = memory()
    held.write("s", writes(1)[0], gate=0)
    assert held.empty("s")


def test_frames_that_are_skipped_are_counted_until_the_next_write() -> None:
    first, item = writes(2)
    held, other = memory(), memory()
    held.write("s", first)
    held.skip("s", 1)
    held.skip("s", 3)
    other.restore("s", held.snapshot("s"))
    assert (held.skipped("s"), other.skipped("s")) == (4, 4)
    assert torch.equal(held.state("s"), other.state("s"))
    held.write("s", item)
    assert held.skipped("s") == 0


def test_it_keeps_no_graph() -> None:
    held = memory()
    for item in writes(2):
        held.write("s", DeltaWrite(item.key.requires_grad_(), item.value.requires_grad_()))
    assert not held.state("s").requires_grad


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_snapshot_with_impossible_numbers_is_refused(bad: float) -> None:
    held = memory()
    held.write("s", writes(1)[0])
    saved = held.snapshot("s")
    broken = saved.tensors["state"].copy()
    broken[0, 0, 0] = bad
    with pytest.raises(StateError, match="not finite"):
        held.restore("s", State({"state": broken}, saved.header))
    for bad_count in (-1, 1.5, True, None):
        for name in ("frames", "skipped"):
            header = {**saved.header, name: bad_count}
            with pytest.raises(StateError, match="header"):
                held.restore("s", State(saved.tensors, header))


def test_impossible_sizes_are_named() -> None:
    with pytest.raises(UsageError, match="8 value channels do not split into 3 heads"):
        GatedDeltaConfig(objects=1, key_dim=4, value_dim=8, heads=3)
    with pytest.raises(UsageError, match="objects must be at least 1"):
        GatedDeltaConfig(objects=0, key_dim=4, value_dim=8, heads=2)
    with pytest.raises(UsageError, match="gate parameter is"):
        GatedDelta(GatedDeltaConfig(objects=1, key_dim=4, value_dim=16, heads=2), gates())
    with pytest.raises(UsageError, match="fixed size of 256"):
        memory().shrink_to("s", 255)


def test_stats_tell_frames_and_size() -> None:
    held = memory()
    for item in writes(3):
        held.write("s", item)
    stats = held.stats("s")
    assert stats["frames"] == 3
    assert stats["norm"] == pytest.approx(float(held.state("s").norm()))


def test_no_stream_makes_the_state_longer_than_its_cap() -> None:
    config = GatedDeltaConfig(
        objects=2, key_dim=4, value_dim=8, heads=2, mode="paper_raw", rule="sum", max_norm=20.0
    )
    held = GatedDelta(config, gates())
    (item,) = writes(1)
    for _ in range(200):
        held.write("s", item)
    norms = torch.linalg.vector_norm(held.state("s"), dim=(1, 2))
    assert (norms <= 20.0 * (1 + 1e-6)).all()
    assert (norms > 19.0).all()  # the sum alone would be at hundreds
    assert torch.isfinite(held.read("s", item.key)).all()
    with pytest.raises(UsageError, match="max_norm"):
        GatedDeltaConfig(objects=1, key_dim=4, value_dim=8, heads=2, max_norm=0)
