"""What every memory promises, whatever it remembers.

Laws, tested for each entry of ``memory/catalog.py``: bytes never exceed the budget; reading does
not change the state; streams do not mix; a snapshot restores bit for bit; the same seed and input
give the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Frame

Write = TypeVar("Write", contravariant=True)
Query = TypeVar("Query", contravariant=True)
Readout = TypeVar("Readout", covariant=True)

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class State:
    """One stream's memory, ready for disk: arrays plus what JSON can say."""

    tensors: Mapping[str, np.ndarray]
    header: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """How the laws make a memory of one kind, what they write into it and what they ask it: what a
    function ``trial`` beside the class returns."""

    make: Callable[[], Memory[Any, Any, Any]]
    budget: int
    """Bytes that one of them never exceeds."""
    items: Callable[[int, int], Iterator[Any]]
    """(count, seed) -> what is written."""
    query: Any


class Memory(Protocol[Write, Query, Readout]):
    """Bounded state per stream.

    ``config`` is what a snapshot must agree with to be restored. ``min_bytes`` is the least
    the memory can work with for one stream.
    """

    @property
    def config(self) -> Mapping[str, Json]: ...

    @property
    def min_bytes(self) -> int: ...

    def write(self, stream: str, item: Write, gate: float = 1.0) -> object:
        """Take ``item`` in; ``gate`` in [0, 1] scales or drops the write."""
        ...

    def read(self, stream: str, query: Query) -> Readout:
        """Answer from the state, without changing it."""
        ...

    def reset(self, stream: str) -> None:
        """Forget this stream, and only this one."""
        ...

    def nbytes(self, stream: str) -> int: ...

    def snapshot(self, stream: str) -> State: ...

    def restore(self, stream: str, state: State) -> None:
        """Take ``state`` in place of what is there. Raises StateError when it does not fit."""
        ...

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Live within ``nbytes`` from now on, more or less than before, keeping what is newest."""
        ...

    def stats(self, stream: str) -> Mapping[str, int | float | str]: ...


@runtime_checkable
class Elastic(Protocol):
    """A memory that can use more or less room; the others take what they take. Both numbers follow
    from what it holds, so a snapshot brings them back."""

    @property
    def max_bytes(self) -> int | None:
        """More are of no use to it for one stream; None: all are."""
        ...

    def need(self, stream: str) -> int:
        """Bytes within which it keeps all it holds and takes in one thing more, as large as those
        it holds."""
        ...


def refuse_made(frame: Frame) -> None:
    """Raises UsageError for a frame that a model made: for stages that remember what they see."""
    if frame.synthetic:
        raise made_by_model(f"Frame {frame.seq} of {frame.stream!r}")


def made_by_model(what: str) -> UsageError:
    """For ``what`` a model made: every memory that takes pictures refuses it."""
    return UsageError(f"{what} was made by a model; what is generated never enters a memory.")
