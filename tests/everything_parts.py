"""The graph of docs/examples/everything.yaml, small, and what it says of a frame, as bytes."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np

from retain.apps.graphs import load
from retain.apps.page.state import PageState
from retain.models.scene.told import known
from retain.pipeline.graph import CALLER, Graph, Node
from retain.pipeline.packet import Packet
from retain.pipeline.results import Held, Novelty, Pose, Recall, SplatDelta
from retain.pipeline.run import Runner, start

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
FRAMES = 12
BUDGET_MB = 9
"""Little more than the least: most of the stages must let something go."""


def everything(mb: float = BUDGET_MB) -> tuple[Graph, dict[str, int]]:
    """With a sink of the caller in place of the file; and the stages' shares. Full stages are found
    after frame 3, others lend after 6, the full ones have it after 9."""
    changes = {
        "camera.limit": str(FRAMES),
        "budget.mb": str(mb),
        "budget.every": "3",
        "follow.mask": str(EXAMPLES / "everything-mask.png"),
    }
    graph, shares = load(EXAMPLES / "everything.yaml", changes)
    graph.nodes["log"] = Node("log", "sink", CALLER)
    return graph, shares


def said(packet: Packet) -> str:
    """A digest of every bit of the frame and its results, but for what the clock said: ``parts_ms``
    are the milliseconds that parts of a stage took, which no two runs share."""
    hashed = hashlib.sha256(np.ascontiguousarray(packet.frame.image))
    for name, result in sorted(packet.results.items()):
        if isinstance(result, Pose | Recall):
            result = msgspec.structs.replace(result, parts_ms={})
        fields = msgspec.structs.asdict(result)
        hashed.update(repr((name, *_bits(fields))).encode())
    return hashed.hexdigest()


def _bits(fields: dict[str, object]) -> list[object]:
    return [
        (key, value.dtype.str, value.shape, value.tobytes())
        if isinstance(value, np.ndarray)
        else (key, repr(value))
        for key, value in fields.items()
    ]


class Map:
    """A map as a receiver of deltas has it."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}

    def take(self, delta: SplatDelta) -> None:
        if delta.whole:
            self.records.clear()
        for number in delta.removed.tolist():
            self.records.pop(number, None)
        told = zip(delta.ids.tolist(), delta.records, strict=True)
        self.records.update((number, record.tobytes()) for number, record in told)

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(sorted(self.records.items())).encode()).hexdigest()


class Listener:
    """What came, by frame. From frame ``wait_at`` on, each waits until ``go`` is set: so a snapshot
    asked for meanwhile is of the middle."""

    def __init__(self, wait_at: int = sys.maxsize) -> None:
        self.rows: list[tuple[int, str]] = []
        self.names: list[set[str]] = []
        self.map = Map()
        self.page: PageState | None = None
        self.held: list[dict[str, tuple[int, int]]] = []
        """By result: the bytes its stage held after each frame, and those it may hold."""
        self.here, self.go, self._wait_at = threading.Event(), threading.Event(), wait_at

    def process(self, packet: Packet) -> None:
        self.rows.append((packet.frame.seq, said(packet)))
        self.names.append(set(packet.results))
        if self.page:
            self.page.observe(packet)
        told = packet.results.items()
        self.held.append(
            {
                name: (r.nbytes, r.byte_budget)
                for name, r in told
                if isinstance(r, Held | Novelty | Pose | Recall)
            }
        )
        if isinstance(delta := packet.results.get("splats"), SplatDelta):
            self.map.take(delta)
        if packet.frame.seq >= self._wait_at:
            self.here.set()
            self.go.wait(2)

    def close(self) -> None: ...


def heard(runner: Runner, resume: str | None = None) -> Listener:
    out = Listener()
    if resume and (map_so_far := known(f"{resume}/6")):  # it was not there before
        out.map.take(map_so_far)
    report = start(everything()[0], runner=runner, sinks={"log": out}, resume=resume).wait(120)
    assert report.ok, report.errors
    return out


if __name__ == "__main__":  # another process: goes on from a snapshot, says what it heard
    went_on = heard("inline", sys.argv[1])
    json.dump([went_on.rows, went_on.map.digest], sys.stdout)
