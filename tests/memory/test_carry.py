"""Carried tensors beyond the laws: partial writes, gates, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retain.memory.base import State
from retain.memory.carry import Carry
from retain.pipeline.errors import StateError, UsageError

SHAPES = {"map": (2, 3), "numbers": (4,)}


def test_it_is_zero_before_the_first_write_and_holds_what_came_last() -> None:
    carry = Carry(SHAPES)
    assert not any(value.any() for value in carry.read("s").values())
    given = torch.arange(6.0).view(2, 3)
    carry.write("s", {"map": given})
    given += 1
    held = carry.read("s")
    assert torch.equal(held["map"], torch.arange(6.0).view(2, 3))
    assert not held["numbers"].any()


def test_a_gate_moves_what_is_written_part_of_the_way() -> None:
    carry = Carry(SHAPES)
    carry.write("s", {"numbers": torch.ones(4)})
    carry.write("s", {"numbers": torch.full((4,), 5.0)}, gate=0.25)
    assert torch.equal(carry.read("s")["numbers"], torch.full((4,), 2.0))
    carry.write("s", {"numbers": torch.zeros(4)}, gate=0)
    assert torch.equal(carry.read("s")["numbers"], torch.full((4,), 2.0))


def test_what_it_does_not_carry_is_refused_and_nothing_is_written() -> None:
    carry = Carry(SHAPES)
    for item in ({"numbers": torch.ones(4), "other": torch.ones(1)}, {"map": torch.ones(3, 2)}):
        with pytest.raises(ValueError, match="carry has no"):
            carry.write("s", item)
    assert not carry.read("s")["numbers"].any()


def test_half_precision_and_graphs_stay_outside() -> None:
    carry = Carry(SHAPES)
    carry.write("s", {"numbers": torch.ones(4, dtype=torch.bfloat16).requires_grad_()})
    held = carry.read("s")["numbers"]
    assert (held.dtype, held.requires_grad) == (torch.float32, False)


def test_a_snapshot_with_impossible_numbers_is_refused() -> None:
    carry = Carry(SHAPES)
    saved = carry.snapshot("s")
    broken = saved.tensors | {"numbers": np.full(4, np.nan, np.float32)}
    with pytest.raises(StateError, match="'numbers' holds values that are not finite"):
        carry.restore("s", State(broken, saved.header))


def test_a_carry_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one tensor"):
        Carry({})
