"""A cheap stage that remembers within a limit of bytes, and graphs of such stages."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np

from retain.pipeline.errors import UsageError
from retain.pipeline.graph import Budget, Graph, Promise
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.shares import Use, apportion

PARTS = "rounds_parts:"


class Hoard:
    """Takes ``each`` bytes of every frame from ``begin`` on, until it has ``most``; what does not
    fit makes the oldest go. Says limit, bytes held and how many went, under its ``name``.

    ``die_at``: it is killed at this frame, unless the file ``once`` is there.
    """

    def __init__(
        self, name: str, each: int, most: int = 10**9, begin: int = 0, limit: int = 0,
        die_at: int = -1, once: str = "",
    ) -> None:  # fmt: skip
        self.name, self.each, self.most, self.begin, self.limit = name, each, most, begin, limit
        self.die_at, self.once = die_at, once
        self.held = self.gone = 0

    def process(self, packet: Packet) -> Packet:
        if packet.frame.seq == self.die_at and not Path(self.once).exists():
            Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if packet.frame.seq >= self.begin and self.held + self.each <= self.most:
            self.held += self.each
        self._fit()
        told = np.array([self.limit, self.held, self.gone], np.float64)
        return packet.plus(**{self.name: Embedding(told, "bytes")})

    def _fit(self) -> None:
        while self.held > self.limit:
            self.held -= self.each
            self.gone += 1

    def shrink_to(self, nbytes: int) -> None:
        if nbytes < self.each:
            raise UsageError(f"{self.name} needs {self.each} bytes.")
        self.limit = nbytes
        self._fit()

    def use(self) -> Use:
        more = self.held + self.each
        return Use(self.limit, more if more <= self.most else max(self.held, self.each))

    def save(self, path: str) -> None:
        Path(path).write_text(json.dumps([self.held, self.gone]))

    def load(self, path: str) -> None:
        self.held, self.gone = json.loads(Path(path).read_text())
        self._fit()

    def close(self) -> None: ...


def hoards(
    stages: dict[str, dict[str, object]],
    nbytes: int,
    frames: int,
    promise: Promise = "finite",
    every: int = 8,
    least: int = 100,
    **source: object,
) -> Graph:
    """cam -> the stages -> out."""
    shares = apportion(nbytes, dict.fromkeys(stages, least), {})
    graph = Graph(
        promise=promise,
        nodes={},
        edges=[],
        budget=Budget(nbytes, {}, dict.fromkeys(stages, least), every, shares),
    )
    graph.source("cam", "runtime_parts:Clip", frames=frames, **source)  # type: ignore[arg-type]
    for name, options in stages.items():
        graph.stage(name, PARTS + "Hoard", name=name, **options)  # type: ignore[arg-type]
    graph.sink("out")
    policy = "block" if promise == "finite" else "drop_oldest(4)"
    graph.connect("cam", *stages, "out", policy=policy)
    return graph
