"""The memories that `writes` and `bytes` measure: one file each, with a ``SUBJECT`` in it.

A subject turns a stream, a write rule and a byte budget into one number of quality and what it
cost. Its streams hold what a write rule is for: stretches in which nothing happens, motion, cuts,
and spoilt frames. What the rules share of a stream (frames, truth, the router's decisions) is
computed once, by ``streams``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from retain.memory.gate import WriteRule
from retain.models.curvestream import Encode, Remember
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Route


@dataclass(frozen=True)
class Stream:
    """One stream as every rule sees it."""

    name: str
    frames: Sequence[Frame]
    """Numbered from another ``seq`` in each stream, for rules that go by it to differ."""
    routes: Sequence[Route]
    """What the router said of each frame."""
    truth: Any = None
    """What the subject judges by."""

    def packets(self) -> list[Packet]:
        """New ones, as they come from `encode` and `remember`."""
        return [Packet(f, {"route": r}) for f, r in zip(self.frames, self.routes, strict=True)]

    def gates(self, rule: WriteRule) -> list[float]:
        """Of each frame, the first being taken by an empty memory."""
        return [
            rule.gate(frame.seq, route, empty=n == 0)
            for n, (frame, route) in enumerate(zip(self.frames, self.routes, strict=True))
        ]


@dataclass(frozen=True)
class Outcome:
    """What one stream came to under one rule and one budget."""

    quality: float
    """In the subject's ``unit``; more is better."""
    writes: float
    """Share of the frames that were written (gate above 0)."""
    ms: float
    """CPU milliseconds per frame, of one thread (``time.thread_time``)."""
    nbytes: int
    """Held at the end."""
    more: Mapping[str, float] = field(default_factory=dict)
    """Further measures, by name and unit."""


class Subject(Protocol):
    """A memory under measurement."""

    name: str
    unit: str
    """Of ``Outcome.quality``."""
    gated: bool
    """Whether write rules are for it; if not, only its curve over bytes is drawn."""

    def streams(self, quick: bool) -> Sequence[Stream]:
        """At least 3, 1 in a quick run; the same each time."""
        ...

    def budgets(self, quick: bool) -> Sequence[int]:
        """Bytes to try, from the least it works with, by factors of about 2; a single one for a
        memory of fixed size."""
        ...

    def run(self, stream: Stream, rule: WriteRule, budget_bytes: int | None = None) -> Outcome:
        """``budget_bytes`` None: as the stage is by default."""
        ...


def found() -> list[Subject]:
    """Every subject in this folder, by name."""
    files = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    return [importlib.import_module(f"{__name__}.{file.stem}").SUBJECT for file in files]


def routed(frames: Sequence[Frame], encoder: str = "mobilenetv2") -> list[Route]:
    """What the router says of each frame, as in a graph with `encode` and `remember`."""
    encode, remember = Encode(encoder, device="cpu"), Remember()
    routes = []
    for frame in frames:
        packet = remember.process(encode.process(Packet(frame)))
        assert packet is not None
        routes.append(packet.get("route", Route))
    return routes


def at_equal_writes(stream: Stream, writes: float) -> WriteRule:
    """``random:P`` that writes as many frames of ``stream`` as the share ``writes`` says, to one
    frame."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        gates = stream.gates(WriteRule("random", middle))
        low, high = (middle, high) if sum(gates) < writes * len(gates) - 0.5 else (low, middle)
    return WriteRule("random", high)


def each(writes: float) -> WriteRule:
    """``every:K`` that comes nearest to the share ``writes``."""
    k = max(1, int(1 / writes))
    return WriteRule("every", min((k, k + 1), key=lambda k: abs(1 / k - writes)))
