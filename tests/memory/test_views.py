"""The memory of views beyond the laws: which pictures stay, and what a picture is when read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.kernels.geometry import rigid
from retain.memory.base import State
from retain.memory.views import StoredView, ViewConfig, ViewMemory
from retain.pipeline.errors import StateError, UsageError

W, H = 6, 4


def view(seq: int, anchor: int = 0, depth: float = 1.0) -> StoredView:
    rng = np.random.default_rng(seq)
    image = rng.integers(0, 256, (H, W, 3), np.uint8)
    local, lens = rigid.exp(0.1 * rng.normal(size=6)), np.array([5.0, 6.0, 3.0, 2.0]) + seq
    return StoredView(seq, anchor, local, lens, image, np.full((H, W), depth, np.float32))


def memory(views: int = 12, newest: int = 3) -> ViewMemory:
    return ViewMemory(ViewConfig(W, H, views, newest))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_the_first_and_the_newest_always_stay(steps: list[int]) -> None:
    kept, seqs = memory(), np.cumsum(steps)
    for seq in seqs:
        kept.write("s", view(int(seq)))
    held = kept.seqs("s")
    assert len(held) == min(len(seqs), 12)
    assert held[0] == seqs[0]
    assert list(held[-4:]) == list(seqs[-4:])
    assert (np.diff(held) > 0).all()
    assert set(held) <= set(seqs)


def test_old_pictures_are_spread_over_the_past() -> None:
    kept = memory(12, 3)
    for seq in range(400):
        kept.write("s", view(seq))
    old = kept.seqs("s")[:-3]
    assert np.diff(old).max() <= 4 * 400 / len(old)


def test_a_picture_is_read_as_it_was_written() -> None:
    kept, one = memory(), view(7, anchor=3)
    one.depth[0, :4] = (0.0, 0.0014, 65.535, 80.0)
    kept.write("s", one)
    (read,) = kept.read("s")
    assert (read.seq, read.anchor) == (7, 3)
    assert np.array_equal(read.image, one.image)
    assert np.array_equal(read.local, one.local)
    assert np.array_equal(read.lens, one.lens)
    assert np.allclose(read.depth[0, :4], (0.0, 0.001, 65.535, 65.535))
    assert np.abs(read.depth - np.minimum(one.depth, 65.535)).max() <= 0.0005 + 1e-6
    one.image[:] = 0
    read.image[:] = 0
    read.local[:] = 0
    assert kept.read("s")[0].image.any(), "what is read or written is shared"
    assert kept.read("s")[0].local.any()


def test_some_pictures_are_asked_for_by_their_frames() -> None:
    kept = memory()
    for seq in (1, 4, 9, 12):
        kept.write("s", view(seq))
    assert [one.seq for one in kept.read("s", [9, 1, 5])] == [1, 9]
    assert kept.read("s", []) == ()
    assert len(kept.read("s")) == 4


@pytest.mark.parametrize("seq", [4, 3, 0])
def test_pictures_out_of_order_are_refused_and_change_nothing(seq: int) -> None:
    kept = memory()
    kept.write("s", view(4))
    with pytest.raises(ValueError, match="order"):
        kept.write("s", view(seq))
    assert list(kept.seqs("s")) == [4]


def test_pictures_of_another_size_are_refused() -> None:
    large = StoredView(
        0, 0, np.eye(4), np.ones(4), np.zeros((H, W + 1, 3), np.uint8), np.zeros((H, W), np.float32)
    )
    with pytest.raises(ValueError, match=f"{W}x{H}"):
        memory().write("s", large)


def test_a_smaller_memory_keeps_the_first_and_the_newest() -> None:
    kept = memory(12, 3)
    for seq in range(0, 60, 5):
        kept.write("s", view(seq))
    kept.shrink_to("s", 6 * kept.min_bytes // 4)
    held = list(kept.seqs("s"))
    assert len(held) == 6
    assert held[0] == 0
    assert held[-3:] == [45, 50, 55]
    assert kept.nbytes("s") <= 6 * kept.min_bytes // 4
    kept.write("s", view(60))
    assert list(kept.seqs("s"))[-3:] == [50, 55, 60]
    with pytest.raises(UsageError, match="cannot live in"):
        kept.shrink_to("s", kept.min_bytes - 1)


@pytest.mark.parametrize(("views", "newest"), [(3, 3), (0, 0), (5, 0)])
def test_configurations_that_cannot_be(views: int, newest: int) -> None:
    with pytest.raises(UsageError):
        ViewConfig(W, H, views, newest)
    with pytest.raises(UsageError):
        ViewConfig(0, H)


def forged(**arrays: np.ndarray) -> State:
    kept = memory()
    for seq in (1, 2, 3):
        kept.write("s", view(seq))
    state = kept.snapshot("s")
    return State(dict(state.tensors) | arrays, state.header)


@pytest.mark.parametrize(
    "arrays",
    [
        {"seq": np.array([1, 1, 2])},
        {"seq": np.array([3, 2, 1])},
        {"seq": np.array([1, 2])},
        {"local": np.zeros((3, 4, 4))},
        {"local": np.full((3, 4, 4), np.nan)},
        {"lens": np.zeros((3, 4))},
        {"lens": np.full((3, 4), np.inf)},
        {"depth": np.zeros((3, H, W), np.float32)},
        {"image": np.zeros((3, H, W + 1, 3), np.uint8)},
        {"more": np.zeros(3)},
    ],
)
def test_forged_snapshots_are_refused_and_change_nothing(arrays: dict[str, np.ndarray]) -> None:
    kept = memory()
    kept.write("s", view(8))
    with pytest.raises(StateError):
        kept.restore("s", forged(**arrays))
    assert list(kept.seqs("s")) == [8]
    kept.restore("s", forged())
    assert list(kept.seqs("s")) == [1, 2, 3]
    for room in (2, 13, "12", None):
        with pytest.raises(StateError):
            kept.restore("s", State(forged().tensors, {"room": room}))
