"""Notes beyond the laws: bit for bit, within the limit, whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retain.memory.base import State
from retain.memory.hub import Hub
from retain.memory.notes import Notes
from retain.pipeline.errors import StateError, UsageError

TYPES = st.sampled_from(["u1", "u2", "i1", "i4", "i8", "f2", "f4", "f8"])


@given(st.dictionaries(st.text(min_size=1, max_size=5),
                       hnp.arrays(TYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0,
                                                          max_side=3)), max_size=4))  # fmt: skip
def test_what_is_written_is_read_bit_for_bit(item: dict[str, np.ndarray]) -> None:
    notes = Notes(1 << 16)
    notes.write("s", item)
    other = Notes(1 << 16)
    other.restore("s", notes.snapshot("s"))
    for held in (notes.read("s"), other.read("s")):
        assert set(held) == set(item)
        for name, array in item.items():
            assert held[name].dtype == array.dtype
            assert held[name].shape == array.shape
            assert held[name].tobytes() == array.tobytes()  # NaNs, signs of zero


def test_only_the_last_is_held() -> None:
    notes = Notes(100)
    notes.write("s", {"a": np.zeros(3), "b": np.zeros(2)})
    notes.write("s", {"c": np.ones(1)})
    assert list(notes.read("s")) == ["c"]
    assert notes.nbytes("s") == 8
    notes.write("s", {"d": np.ones(2)}, gate=0.0)
    assert list(notes.read("s")) == ["c"]


def test_too_much_is_refused_and_changes_nothing() -> None:
    notes = Notes(80)
    notes.write("s", {"a": np.arange(10.0)})  # exactly full
    with pytest.raises(ValueError, match="over the limit of 80"):
        notes.write("s", {"a": np.arange(10.0), "b": np.zeros(1, np.uint8)})
    assert notes.nbytes("s") == 80
    with pytest.raises(StateError, match="do not fit"):
        Notes(79).restore("s", notes.snapshot("s"))


@pytest.mark.parametrize("value", [np.array(["x"]), np.array([True]), np.array([1j]),
                                   np.array([None]), np.zeros(2, "m8[s]")])  # fmt: skip
def test_types_that_no_file_holds_are_refused(value: np.ndarray) -> None:
    with pytest.raises(ValueError, match="its type is"):
        Notes(100).write("s", {"a": value})


def test_what_is_written_and_read_is_not_shared() -> None:
    notes, mine = Notes(100), np.zeros(2)
    notes.write("s", {"a": mine})
    mine[:] = 1
    dict(notes.read("s"))["a"][:] = 2
    assert not notes.read("s")["a"].any()


def test_snapshots_that_lack_something_are_refused() -> None:
    notes = Notes(1000)
    notes.write("s", {"a": np.zeros((2, 3)), "b": np.zeros(4, np.int64)})
    state = notes.snapshot("s")
    whole = dict(state.tensors)
    a = whole["a"]
    changed = ({"a": a.astype(np.float32)}, {"a": a.reshape(3, 2)}, {"c": whole["b"]})
    for tensors in ({"a": a}, *(whole | change for change in changed)):
        with pytest.raises(StateError):
            notes.restore("s", State(tensors, state.header))
    with pytest.raises(StateError):
        notes.restore("s", State(whole, {}))
    assert notes.nbytes("s") == 80


def test_the_hub_sets_all_of_it_aside() -> None:
    """However little is written: a state that grows must not find the budget spent."""
    hub, notes = Hub(1000, "s"), Notes(600)
    hub.add("notes", notes)
    with pytest.raises(UsageError, match="at least 1200 bytes"):
        hub.add("more", Notes(600))
    with pytest.raises(UsageError):
        notes.shrink_to("s", 599)
    with pytest.raises(UsageError):
        Notes(0)
