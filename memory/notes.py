"""Named arrays of any length within a byte limit: the odds and ends a model's state is made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retain.memory.base import Json, State
from retain.memory.carry import refuse_to_shrink
from retain.pipeline.errors import StateError, UsageError

Arrays = Mapping[str, np.ndarray]
_KINDS = {np.dtype(k) for k in ("u1", "u2", "i1", "i4", "i8", "f2", "f4", "f8")}


class Notes:
    """What was written last, whole, bit for bit; any number of streams. Nothing before that.

    ``max_bytes`` is promised to the hub, however little is written. Where a state must keep its
    shape, ``Carry`` is the stricter memory.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 1:
            raise UsageError(f"A memory of notes needs at least one byte, not {max_bytes}.")
        self._max_bytes = max_bytes
        self._streams: dict[str, dict[str, np.ndarray]] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "notes", "max_bytes": self._max_bytes}

    @property
    def min_bytes(self) -> int:
        return self._max_bytes

    def write(self, stream: str, item: Arrays, gate: float = 1.0) -> None:
        """Put ``item`` in place of what was there, with ``gate`` > 0. Raises ValueError, changing
        nothing, when it is too long or of a type that cannot be saved."""
        held = {name: np.array(value) for name, value in item.items()}
        for name, value in held.items():
            if value.dtype not in _KINDS:
                raise ValueError(f"notes cannot keep {name!r}: its type is {value.dtype}")
        if (size := _bytes(held)) > self._max_bytes:
            raise ValueError(f"notes of {size} bytes are over the limit of {self._max_bytes}")
        if gate > 0:
            self._streams[stream] = held

    def read(self, stream: str, query: None = None) -> Arrays:
        """Copies of the arrays."""
        return {name: value.copy() for name, value in self._streams.get(stream, {}).items()}

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return _bytes(self._streams.get(stream, {}))

    @property
    def max_bytes(self) -> int:
        return self._max_bytes

    def need(self, stream: str) -> int:
        return self._max_bytes

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Nothing here can shrink. Raises UsageError when ``nbytes`` is under ``min_bytes``."""
        refuse_to_shrink("memory of notes", nbytes, self.min_bytes)

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        return {"arrays": len(self._streams.get(stream, {})), "bytes": self.nbytes(stream)}

    def snapshot(self, stream: str) -> State:
        held = self.read(stream)
        return State(held, {"layout": _layout(held)})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError for arrays that are too long, of other types, or not all there."""
        if state.header.get("layout") != _layout(state.tensors):
            raise StateError("The snapshot's notes are not the arrays that were saved.")
        try:
            self.write(stream, state.tensors)
        except ValueError as error:
            raise StateError(f"The snapshot's notes do not fit: {error}.") from error


def _layout(held: Arrays) -> dict[str, Json]:
    return {name: [str(a.dtype), *map(int, a.shape)] for name, a in sorted(held.items())}


def _bytes(held: Arrays) -> int:
    return sum(value.nbytes for value in held.values())
