"""The three roles in a graph. They are Protocols: a class that fits is one, without inheriting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.shares import Use
from retain.pipeline.wire import Fault

StatValue = int | float | str


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a source knows of itself once opened. Unknown numbers are 0."""

    kind: Literal["finite", "live"]
    """finite: every frame matters. live: the newest frame matters."""
    description: str
    """For people, credentials removed."""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    declared_frames: int = 0
    """What the container claims. Compared with what was decoded; never trusted."""
    duration_s: float = 0.0
    repeats: bool = True
    """Of a finite source: opened again, it gives the same frames again."""


@runtime_checkable
class Source(Protocol):
    """Gives frames of one stream, in order, with rising pts."""

    def open(self) -> SourceInfo:
        """Connect. Raises SourceError; never blocks longer than the source's timeout."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Frames until the end. A broken source raises SourceError after its last good frame."""
        ...

    def close(self) -> None:
        """Free everything; safe to call twice and from another thread while ``frames`` waits."""
        ...


@runtime_checkable
class GivesPackets(Protocol):
    """A source whose frames come with results; it is asked for these instead of ``frames``."""

    def packets(self) -> Iterator[Packet]: ...


@runtime_checkable
class Stage(Protocol):
    """Turns a packet into one, several or none."""

    def process(self, packet: Packet) -> Packet | Iterable[Packet] | None: ...

    def close(self) -> None: ...


@runtime_checkable
class Sink(Protocol):
    """Takes packets. Writes atomically, so that an interrupted run leaves no half file."""

    def process(self, packet: Packet) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class Flushes(Protocol):
    """A stage or sink that has work to do at the end of a finite stream."""

    def flush(self) -> Iterable[Packet]: ...


@runtime_checkable
class HearsFaults(Protocol):
    """A stage or sink to which a stream that broke is another matter than one that ended."""

    def broke(self, fault: Fault) -> None:
        """Something upstream failed; called before ``flush``, when the rest has come."""
        ...


@runtime_checkable
class Collects(Protocol):
    """A stage that gathers packets and works on them together; so it must say how many it has.
    They count as finished when they have left it, and as failed when they die with its process."""

    @property
    def collected(self) -> int: ...


@runtime_checkable
class Remembers(Protocol):
    """A stage with state. The runner saves and restores it; numbers it reports reach the page."""

    def save(self, path: str) -> None:
        """Write the state to ``path``, atomically."""
        ...

    def load(self, path: str) -> None:
        """Take the state from ``path``. Raises StateError when it does not fit."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A stage that remembers within a limit, which may change between two packets."""

    def shrink_to(self, nbytes: int) -> None:
        """Live within ``nbytes`` from now on: less or more than before. Also before the first
        packet and before ``load``. Raises UsageError for less than it can live in."""
        ...

    def use(self) -> Use:
        """What it may hold and what it needs, as its state alone says it: the same after ``load``,
        or, until the next packet, that it cannot say."""
        ...


@runtime_checkable
class Salvages(Protocol):
    """A stage whose state is of use also when it failed at a packet."""

    def salvage(self, path: str) -> None:
        """Write the state as the failure left it to ``path``, atomically, in place of ``save``."""
        ...


@runtime_checkable
class Reports(Protocol):
    """A stage, source or sink with numbers of its own (memory bytes, decoded frames, ...)."""

    def stats(self) -> Mapping[str, StatValue]: ...
