"""A cheap stage that remembers within a limit of bytes, and graphs of such stages."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from retain.pipeline.errors import UsageError
from retain.pipeline.graph import Budget, Graph, Promise
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.shares import Use, apportion

PARTS = "rounds_parts:"
LEAST = 500


class Hoard:
    """Takes ``each`` bytes of every frame from ``begin`` on, until it has ``most``; what does not
    fit makes the oldest go. Says limit, bytes held and how many went, under its ``name``.

    ``board``: a folder where all stages say their limit whenever it changes; whoever finds there
    that together they have more than ``budget`` fails. ``dies``: once (``once``, a file that is
    made then) it is killed as it takes a limit that is ``less`` or ``more`` than before; ``after``
    that another one, started again, fails.
    """

    def __init__(
        self, name: str, each: int, most: int = 10**9, begin: int = 0, board: str = "",
        budget: int = 0, dies: str = "", once: str = "",
    ) -> None:  # fmt: skip
        self.name, self.each, self.most, self.begin = name, each, most, begin
        self.board, self.budget, self.dies, self.once = board, budget, dies, once
        self.limit = self.held = self.gone = 0

    def process(self, packet: Packet) -> Packet:
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
        before, self.limit = self.limit, nbytes
        self._fit()
        if self.board:
            self._tell()
        if self.dies == "after" and not before and Path(self.once).exists():
            raise UsageError("Somebody has died.")
        now = "less" if nbytes < before else "more" if before else ""
        if self.dies and now == self.dies and not Path(self.once).exists():
            Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def _tell(self) -> None:
        mine = Path(self.board) / self.name
        mine.with_suffix(".new").write_text(f"{os.getpid()} {self.limit}")
        mine.with_suffix(".new").rename(mine)
        told = [path.read_text().split() for path in Path(self.board).iterdir() if not path.suffix]
        if sum(int(limit) for pid, limit in told if psutil.pid_exists(int(pid))) > self.budget:
            raise UsageError("Together they have more than the budget.")

    def use(self) -> Use:
        more = self.held + self.each
        return Use(self.limit, more if more <= self.most else max(self.held, self.each))

    def save(self, path: str) -> None:
        Path(path).write_text(json.dumps([self.held, self.gone]))

    def load(self, path: str) -> None:
        self.held, self.gone = json.loads(Path(path).read_text())
        self._fit()

    def close(self) -> None: ...


class Lazy(Hoard):
    """Opens its state with the next packet, as most models do."""

    waiting = ""

    def process(self, packet: Packet) -> Packet:
        if self.waiting:
            super().load(self.waiting)
            self.waiting = ""
        return super().process(packet)

    def use(self) -> Use:
        return Use(self.limit, 0) if self.waiting else super().use()

    def load(self, path: str) -> None:
        self.waiting = path


class Thin:
    """Lets every ``nth`` frame pass."""

    def __init__(self, nth: int) -> None:
        self.nth = nth

    def process(self, packet: Packet) -> Packet | None:
        return None if packet.frame.seq % self.nth else packet

    def close(self) -> None: ...


def hoards(
    stages: dict[str, dict[str, Any]],
    nbytes: int,
    frames: int,
    promise: Promise = "finite",
    every: int = 8,
    board: Path | None = None,
    kind: str = "Hoard",
    **source: Any,
) -> Graph:
    """cam -> the stages -> out."""
    least = dict.fromkeys(stages, LEAST)
    budget = Budget(nbytes, {}, least, every, apportion(nbytes, least, {}))
    graph = Graph(promise=promise, nodes={}, edges=[], budget=budget)
    graph.source("cam", "runtime_parts:Clip", frames=frames, **source)
    for name, options in stages.items():
        told = {"board": str(board), "budget": nbytes} if board else {}
        graph.stage(name, PARTS + kind, **{"name": name, **told, **options})
    graph.sink("out")
    policy = "block" if promise == "finite" else "drop_oldest(4)"
    graph.connect("cam", *stages, "out", policy=policy)
    return graph
