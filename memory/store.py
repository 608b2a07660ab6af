"""Rows of a memory: an embedding, some numbers and some bytes each, in order of arrival."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retain.memory.table import Columns as Columns
from retain.memory.table import Table, taken
from retain.pipeline.errors import StateError


class RowStore(Table):
    """At most ``capacity`` rows in arrays allocated once. Row 0 is the oldest.

    ``columns`` names the numbers of a row and their types. With ``similarity`` the cosines between
    all rows are kept too (float32 [capacity, capacity]), computed once per new row.
    """

    def __init__(
        self, capacity: int, dim: int, columns: Columns, *, similarity: bool = False
    ) -> None:
        super().__init__(capacity, columns)
        self.dim = dim
        self._embedding = np.zeros((capacity, dim), np.float32)
        self._similarity = np.zeros((capacity, capacity), np.float32) if similarity else None
        self._payloads: list[bytes] = []
        self._payload_bytes = 0

    @staticmethod
    def fixed_bytes(capacity: int, dim: int, columns: Columns, *, similarity: bool = False) -> int:
        """Bytes of the arrays such a store allocates, before any payload."""
        row = 4 * dim + sum(np.dtype(dtype).itemsize for dtype in columns.values())
        return capacity * row + (4 * capacity * capacity if similarity else 0)

    @property
    def embedding(self) -> NDArray[np.float32]:
        """[rows, D], a view."""
        return self._embedding[: len(self)]

    @property
    def similarity(self) -> NDArray[np.float32]:
        """[rows, rows] cosines (of unit embeddings), a view."""
        assert self._similarity is not None, "this store keeps no similarities"
        return self._similarity[: len(self), : len(self)]

    @property
    def nbytes(self) -> int:
        kept = 0 if self._similarity is None else self._similarity.nbytes
        return super().nbytes + self._embedding.nbytes + kept + self._payload_bytes

    def payload(self, row: int) -> bytes:
        return self._payloads[row]

    def replace_payload(self, row: int, payload: bytes) -> None:
        self._payload_bytes += len(payload) - len(self._payloads[row])
        self._payloads[row] = payload

    def append(self, embedding: NDArray[np.float32], payload: bytes = b"", **values: float) -> int:
        """Add a row and return its number. A full store is a bug of its caller."""
        row = len(self)
        assert row < self.capacity, "append to a full store"
        self._count += 1
        self._embedding[row] = embedding
        for name, column in self._columns.items():
            column[row] = values[name]
        self._payloads.append(payload)
        self._payload_bytes += len(payload)
        if self._similarity is not None:
            cosines = self.embedding @ self._embedding[row]
            self._similarity[row, : row + 1] = cosines
            self._similarity[: row + 1, row] = cosines
        return row

    def remove(self, row: int) -> None:
        """Take a row out; later rows move up."""
        n = len(self)
        for array in (self._embedding, *self._columns.values()):
            array[row : n - 1] = array[row + 1 : n]
        if self._similarity is not None:
            s = self._similarity
            s[row : n - 1, :n] = s[row + 1 : n, :n]
            s[: n - 1, row : n - 1] = s[: n - 1, row + 1 : n]
        self._payload_bytes -= len(self._payloads.pop(row))
        self._count -= 1

    def tensors(self) -> dict[str, np.ndarray]:
        """The rows held, as arrays for a snapshot."""
        lengths = np.array([len(payload) for payload in self._payloads], np.int64)
        saved: dict[str, np.ndarray] = {
            "rows.embedding": self.embedding.copy(),
            "rows.payload": np.frombuffer(b"".join(self._payloads), np.uint8),
            "rows.payload_length": lengths,
        }
        saved |= super().tensors()
        if self._similarity is not None:
            saved["rows.similarity"] = self.similarity.copy()
        return saved

    def load(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take saved rows in place of those held. Raises StateError, changing nothing."""
        lengths = taken(tensors, "payload_length", np.dtype(np.int64), None)
        n = len(lengths)
        columns = self._checked(tensors, n)
        embedding = taken(tensors, "embedding", np.dtype(np.float32), (n, self.dim))
        similarity = None
        if self._similarity is not None:
            similarity = taken(tensors, "similarity", np.dtype(np.float32), (n, n))
            if not (np.abs(similarity) < 1.01).all():
                raise StateError("The snapshot holds similarities that are no cosines.")
        data = taken(tensors, "payload", np.dtype(np.uint8), None)
        # Each alone first: their sum could come round to the right number.
        wrong = (lengths < 0) | (lengths > data.size)
        if wrong.any() or int(lengths.sum()) != data.size:
            raise StateError("The payload lengths of the snapshot do not add up to its payload.")
        ends = np.cumsum(lengths)
        self._embedding[:n] = embedding
        self._set(columns)
        self._count = n
        if self._similarity is not None and similarity is not None:
            self._similarity[:n, :n] = similarity
        self._payloads = [
            data[end - length : end].tobytes() for end, length in zip(ends, lengths, strict=True)
        ]
        self._payload_bytes = int(data.size)
