"""Columns of rows with places: overwriting, order, saving and loading."""

from __future__ import annotations

import numpy as np
import pytest

from retain.memory.eviction import Fifo
from retain.memory.table import Table
from retain.pipeline.errors import StateError

COLUMNS = {"arrival": np.int64, "box": (np.float32, (4,))}


def filled() -> Table:
    table = Table(6, COLUMNS)
    table.put(np.arange(3), {"arrival": np.arange(3), "box": np.ones((3, 4))})
    return table


def test_rows_are_appended_and_overwritten() -> None:
    table = filled()
    table.put(np.array([1, 3]), {"arrival": [3, 4], "box": np.full((2, 4), 2.0)})
    assert len(table) == 4
    assert table.order.tolist() == [0, 3, 2, 4]
    assert table["box"][:, 0].tolist() == [1, 2, 1, 2]
    assert table.nbytes == 6 * (8 + 16)


def test_first_in_first_out_goes_by_arrival_not_by_place() -> None:
    table = filled()
    table.put(np.array([0]), {"arrival": [3], "box": np.zeros((1, 4))})
    assert int(np.argmin(Fifo().rank(table))) == 1


def test_no_row_is_no_change() -> None:
    table = filled()
    table.put(np.zeros(0, np.int64), {"arrival": [], "box": np.zeros((0, 4))})
    assert len(table) == 3


def test_a_loaded_table_equals_the_saved_one() -> None:
    table, other = filled(), Table(6, COLUMNS)
    other.load(table.tensors())
    assert len(other) == 3
    assert all(np.array_equal(v, other.tensors()[k]) for k, v in table.tensors().items())


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("rows.box", np.zeros((3, 5), np.float32), r"expected float32 \[3, 4\]"),
        ("rows.box", np.zeros(3, np.float32), "expected float32"),
        ("rows.arrival", np.zeros(9, np.int64), "holds 9 rows"),
        ("rows.arrival", np.array(3), "expected int64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, array: np.ndarray, message: str) -> None:
    table = filled()
    with pytest.raises(StateError, match=message):
        table.load(table.tensors() | {name: array})
    assert table["arrival"].tolist() == [0, 1, 2]
