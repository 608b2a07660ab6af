"""The memory of examples: who stays, who leaves, and what it weighs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from retain.memory.base import State
from retain.memory.examples import Example, ExampleConfig, ExampleMemory
from retain.pipeline.errors import StateError, UsageError

CONFIG = ExampleConfig({"a": (3, 2, 4), "b": (1, 1, 2)}, (2, 2, 4), digest=5, capacity=6, least=2)


def example(seq: int, pinned: bool = False) -> Example:
    rng = torch.Generator().manual_seed(seq)
    maps = {name: torch.randn(shape, generator=rng) for name, shape in CONFIG.maps.items()}
    masks = torch.rand(CONFIG.masks, generator=rng)
    return Example(seq, seq / 25, maps, masks, torch.randn(5, generator=rng), 1.0, pinned)


def held(memory: ExampleMemory) -> list[int]:
    return [int(seq) for seq in memory.read("s").seq]


def test_the_oldest_leaves_but_the_first_frame_stays() -> None:
    memory = ExampleMemory(CONFIG)
    for seq in range(20):
        memory.write("s", example(seq, pinned=seq < 2))
        assert memory.nbytes("s") == 6 * CONFIG.item_bytes
    assert held(memory) == [0, 1, 16, 17, 18, 19]
    assert memory.read("s").pinned.tolist() == [True] * 2 + [False] * 4


def test_a_pair_comes_back_as_it_was_within_its_precision() -> None:
    memory = ExampleMemory(CONFIG)
    for seq in range(9):
        memory.write("s", example(seq, pinned=not seq))
    examples = memory.read("s")
    for row, seq in enumerate(held(memory)):
        maps, masks = examples.pair(row)
        wanted = example(seq)
        for name, x in maps.items():
            torch.testing.assert_close(x[0], wanted.maps[name], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(masks, wanted.masks, rtol=0, atol=0.5 / 255 + 1e-6)
        assert torch.equal(examples.digest[row], wanted.digest)


def test_where_all_are_pinned_nothing_more_enters() -> None:
    memory = ExampleMemory(replace(CONFIG, capacity=2))
    assert memory.write("s", example(0, pinned=True))
    assert memory.write("s", example(1, pinned=True))
    assert not memory.write("s", example(2))
    assert held(memory) == [0, 1]


def test_shrinking_keeps_the_newest_and_the_first_frame() -> None:
    memory = ExampleMemory(CONFIG)
    for seq in range(9):
        memory.write("s", example(seq, pinned=not seq))
    memory.shrink_to("s", 3 * CONFIG.item_bytes + 1)
    assert held(memory) == [0, 7, 8]
    assert memory.nbytes("s") == 3 * CONFIG.item_bytes
    memory.write("s", example(9))
    assert held(memory) == [0, 8, 9]
    with pytest.raises(UsageError, match="cannot live in"):
        memory.shrink_to("s", CONFIG.item_bytes)


def test_a_gate_scales_the_weight_and_keeps_out() -> None:
    memory = ExampleMemory(CONFIG)
    memory.write("s", example(0), gate=0.25)
    assert not memory.write("s", example(1), gate=0)
    assert memory.read("s").weight.tolist() == [0.25]


def test_a_restored_memory_forgets_in_the_same_order() -> None:
    one, two = ExampleMemory(CONFIG), ExampleMemory(CONFIG)
    for seq in range(8):
        one.write("s", example(seq, pinned=not seq))
    two.restore("s", one.snapshot("s"))
    for memory in (one, two):
        memory.write("s", example(8))
    assert held(one) == held(two) == [0, 4, 5, 6, 7, 8]
    for name, values in one.snapshot("s").tensors.items():
        assert np.array_equal(values, two.snapshot("s").tensors[name]), name


def test_wrong_pairs_and_wrong_snapshots_are_refused() -> None:
    memory = ExampleMemory(CONFIG)
    with pytest.raises(ValueError, match="maps"):
        memory.write("s", replace(example(0), maps={"a": torch.zeros(3, 2, 4)}))
    with pytest.raises(ValueError, match="masks"):
        memory.write("s", replace(example(0), masks=torch.zeros(1, 2, 4)))
    with pytest.raises(ValueError, match="not finite"):
        memory.write("s", replace(example(0), digest=torch.full((5,), torch.nan)))
    memory.write("s", example(0))
    state = memory.snapshot("s")
    short = {name: x for name, x in state.tensors.items() if name != "mask"}
    with pytest.raises(StateError, match="mask"):
        memory.restore("s", State(short, state.header))
    with pytest.raises(StateError, match="room for 99"):
        memory.restore("s", State(state.tensors, {"room": 99}))
    assert held(memory) == [0]


@pytest.mark.parametrize("wrong", [{"maps": {}}, {"digest": 0}, {"capacity": 1}])
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(CONFIG, **wrong)  # type: ignore[arg-type]
