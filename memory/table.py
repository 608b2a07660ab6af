"""Numbers about rows, in columns allocated once: what all row-based memories share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from retain.pipeline.errors import StateError

Columns = Mapping[str, DTypeLike]
"""Name and type of each; ``(np.float32, (4,))`` is a column of four numbers a row."""

ARRIVAL = "arrival"
"""The column that says in which order rows came, where their places do not."""


class Table:
    """At most ``capacity`` rows of ``columns``. Rows hold the places 0 ... len - 1."""

    def __init__(self, capacity: int, columns: Columns) -> None:
        self.capacity = capacity
        self.turn = 0
        """How often its owner wrote: what random policies draw with."""
        self._count = 0
        self._columns = {name: np.zeros(capacity, dtype) for name, dtype in columns.items()}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, column: str) -> NDArray[Any]:
        """A column of the rows held, a writable view."""
        return self._columns[column][: len(self)]

    @property
    def order(self) -> NDArray[np.int64]:
        """[rows] rising with arrival: the places, or a column of that name."""
        if ARRIVAL in self._columns:
            return self[ARRIVAL]
        return np.arange(len(self))

    @property
    def similarity(self) -> NDArray[np.float32]:
        """[rows, rows] cosines, for stores that keep them."""
        raise AssertionError("this store keeps no similarities")

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._columns.values())

    def put(self, places: NDArray[np.int64], values: Mapping[str, Any]) -> None:
        """Write rows, over those that hold these places or at the end. All columns are given."""
        end = int(places.max(initial=-1)) + 1
        assert end <= self.capacity, "a place beyond the table"
        for name, column in self._columns.items():
            column[places] = values[name]
        self._count = max(self._count, end)

    def tensors(self) -> dict[str, np.ndarray]:
        """The rows held, as arrays for a snapshot."""
        return {f"rows.{name}": self[name].copy() for name in self._columns}

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take saved rows in place of those held. Raises StateError, changing nothing."""
        first = tensors.get(f"rows.{next(iter(self._columns))}")
        self._set(self._checked(tensors, 0 if first is None else len(np.atleast_1d(first))))

    def _checked(self, tensors: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        if rows > self.capacity:
            raise StateError(
                f"The snapshot holds {rows} rows, but this memory only {self.capacity}."
            )
        return {
            name: taken(tensors, name, column.dtype, (rows, *column.shape[1:]))
            for name, column in self._columns.items()
        }

    def _set(self, columns: Mapping[str, np.ndarray]) -> None:
        for name, values in columns.items():
            self._columns[name][: len(values)] = values
            self._count = len(values)


def taken(
    tensors: Mapping[str, np.ndarray],
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...] | None,
) -> np.ndarray:
    """The array ``rows.name``; of one dimension if ``shape`` is None. Raises StateError."""
    array = tensors.get(f"rows.{name}")
    if array is None:
        raise StateError(f"The snapshot has no array 'rows.{name}'.")
    if array.dtype != dtype or (array.ndim != 1 if shape is None else array.shape != shape):
        wanted = "one dimension" if shape is None else list(shape)
        raise StateError(
            f"'rows.{name}' is {array.dtype} {list(array.shape)}, expected {dtype} {wanted}."
        )
    return array
