"""The row store: order, exact bytes, saving and loading."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.memory.store import RowStore
from retain.pipeline.errors import StateError

COLUMNS = {"seq": np.int64, "score": np.float64}


def store(capacity: int = 6) -> RowStore:
    return RowStore(capacity, 4, COLUMNS, similarity=True)


def add(rows: RowStore, seq: int) -> None:
    unit = np.random.default_rng(seq).standard_normal(4).astype(np.float32)
    rows.append(unit / np.linalg.norm(unit), bytes(seq % 7), seq=seq, score=seq / 2)


@given(st.lists(st.integers(-1, 5), max_size=60))
def test_rows_stay_in_order_with_their_values_and_bytes(moves: list[int]) -> None:
    """-1 adds a row, another number takes that row out, if it is there."""
    rows, model = store(), list[int]()
    for step, move in enumerate(moves):
        if move < 0 and len(model) < rows.capacity:
            add(rows, step)
            model.append(step)
        elif 0 <= move < len(model):
            rows.remove(move)
            del model[move]
    assert rows["seq"].tolist() == model
    assert [len(rows.payload(i)) for i in range(len(model))] == [seq % 7 for seq in model]
    np.testing.assert_allclose(rows.similarity, rows.embedding @ rows.embedding.T, atol=1e-6)
    fixed = RowStore.fixed_bytes(6, 4, COLUMNS, similarity=True)
    assert rows.nbytes == fixed + sum(seq % 7 for seq in model)


def test_a_loaded_store_equals_the_saved_one() -> None:
    rows, other = store(), store()
    for seq in range(5):
        add(rows, seq)
    rows.remove(1)
    other.load(rows.tensors())
    saved, loaded = rows.tensors(), other.tensors()
    assert {k: v.tobytes() for k, v in saved.items()} == {k: v.tobytes() for k, v in loaded.items()}
    assert other.nbytes == rows.nbytes


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("rows.embedding", np.zeros((3, 5), np.float32), r"expected float32 \[3, 4\]"),
        ("rows.seq", np.zeros(3, np.int32), "expected int64"),
        ("rows.payload_length", np.array([1, 1, -2]), "do not add up"),
        ("rows.payload_length", np.zeros(9, np.int64), "holds 9 rows"),
        ("rows.score", None, "no array 'rows.score'"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    name: str, array: np.ndarray | None, message: str
) -> None:
    rows = store()
    for seq in range(3):
        add(rows, seq)
    saved = rows.tensors()
    if array is None:
        del saved[name]
    else:
        saved[name] = array
    before = {k: v.tobytes() for k, v in rows.tensors().items()}
    with pytest.raises(StateError, match=message):
        rows.load(saved)
    assert {k: v.tobytes() for k, v in rows.tensors().items()} == before
