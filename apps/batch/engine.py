"""What works items off: the contract, and how it ended for one item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import msgspec

State = Literal["done", "failed", "quarantined"]
NO_SPACE = "no_space"
"""The cause that is nobody's item: there is no room for results. It ends the batch."""


class Spec(msgspec.Struct, frozen=True):
    """What every worker does, the same for all items."""

    target: str
    """``module:function``; called with (Job, options), returns facts or raises."""
    options: dict[str, Any]


class Job(msgspec.Struct, frozen=True):
    """One item, once. ``folder`` does not exist; the results are in it afterwards, whole."""

    id: str
    path: str
    size: int
    """Bytes when it was listed; below 0 where it was not there or has no size."""
    mtime_ns: int
    folder: str
    log: str
    """File for everything said on the way; removed when all went well."""


class Outcome(msgspec.Struct, frozen=True):
    """How it ended. ``quarantined``: the item itself is no good, and will not be another time."""

    id: str
    state: State
    cause: str = ""
    """A ``SourceFault`` value, or ``vanished``, ``changed``, ``usage``, ``no_result`` (the task
    had nothing to show), ``defect`` (a bug), ``died``, ``timeout``."""
    message: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    """Most memory the worker has ever taken."""
    facts: dict[str, Any] = {}


class ItemError(Exception):
    """The task could not do the item, and knows why."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Engine(Protocol):
    """Works jobs off, several at a time, in any order."""

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        """Take jobs as there is room for them; every job taken has one outcome, unless the engine
        was stopped without draining."""
        ...

    def stop(self, drain: bool) -> None:
        """From a signal handler: take no more jobs; without ``drain`` drop those under way."""
        ...

    @property
    def workers(self) -> int:
        """How many there are at the moment."""
        ...
