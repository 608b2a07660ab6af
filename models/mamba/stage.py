"""The stage that detects: a frozen detector, and a memory between its features and its boxes.

What a frame shows badly is read from what earlier frames showed well. Everything remembered lies in
one hub of one stream; a cut, a gap in the stream or frames of another size make it begin anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from retain.memory.base import refuse_made
from retain.memory.gate import WriteRule
from retain.models.mamba.host import Cells, Host, Predicted
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.frame import Frame, Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall, Result, Route
from retain.pipeline.shares import Use
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from torch import Tensor

    from retain.datasets.detect.base import Found
    from retain.models.mamba.memory import Memory
    from retain.models.mamba.reading import Readout

RESETS = {
    "": "",
    "source": "a gap in the stream",
    "size": "frames of another size",
    "cut": "another scene",
}
"""Why the memory began anew, in words."""
NONE_SHIPS = "none ships for this detector"
MOST = 100
"""Boxes told of a frame, the surest; as many as COCO's evaluation counts."""


class Detect:
    """Adds ``boxes`` and ``recall`` to each packet; with ``compare`` also ``plain``, what the
    detector alone says. See the module's text.

    host       ``small``, or a file of YOLOX weights (.onnx, .pth)
    bank       ``auto``: the read-out that ships for the host; ``none``; or a file written by
               `retain train mamba`
    mode       ``gated`` or ``paper``: how the bank is read
    carry      boxes live on for a while where nothing new is found
    budget_mb  of everything remembered, in 10^6 bytes; 0: as much as the memory needs at most
    threads    of torch; results are the same bits for the same number only
    names      a file with the names of the host's classes, a line each
    classes    those that are told, by name and commas; empty: all
    min_score  boxes of a lower score are not told
    write      which frames enter the bank: a rule of ``memory/gate.py``
    resume     a state saved by ``save``; frames it has seen are passed over

    One stage detects in one stream.
    """

    def __init__(
        self,
        host: str = "small",
        bank: str = "auto",
        mode: str = "gated",
        carry: bool = True,
        compare: bool = False,
        budget_mb: float = 0.0,
        device: str = "auto",
        threads: int = 1,
        names: str = "",
        classes: str = "",
        min_score: float = 0.05,
        write: str = "every",
        resume: str = "",
    ) -> None:
        from retain.models.encoders.base import choose_device

        if mode not in ("gated", "paper"):
            raise UsageError(f"The mode of detect is gated or paper, not {mode!r}.")
        if threads < 1 or not 0 <= min_score < 1 or not 0 <= budget_mb < float("inf"):
            raise UsageError("Of detect: threads >= 1, min_score in [0, 1), budget_mb >= 0.")
        self._compare, self._threads, self._min_score = compare, threads, min_score
        self._write = WriteRule.parse(write)
        opened = open_parts(host, bank, mode, carry, budget_mb, choose_device(device), names)
        self._host, self._open, self._told = opened
        self._classes = _chosen(classes, self._host.names)
        self._memory: Memory | None = None
        self._limit = int(budget_mb * 1e6)
        self._seq = self._seen_to = -1
        self._boxes = self._from_memory = self._resets = 0
        self._resume = resume
        if resume:
            from retain.memory.snapshot import load as check

            check(resume)  # a damaged file is refused at once

    def process(self, packet: Packet) -> Packet | None:
        frame = packet.frame
        refuse_made(frame)
        if self._memory is None:
            self._memory = self._begin(frame)
        if frame.stream != self._memory.stream:
            raise UsageError(
                f"One detect stage got frames of {self._memory.stream!r} and of {frame.stream!r}.",
                hint="Give each stream a detect stage of its own.",
            )
        if frame.seq <= self._seen_to:
            return None
        return self._look(packet, self._memory)

    def _look(self, packet: Packet, memory: Memory) -> Packet:
        from retain.models.curvestream import torch_threads

        frame, route = packet.frame, packet.results.get("route")
        route = route if isinstance(route, Route) else None
        cut, gate = route.cut if route else None, self._write.gate(frame.seq, route)
        self._host.clear()
        began = time.perf_counter()
        with torch_threads(self._threads):
            fresh = frame.discontinuity
            seen = memory.look(
                frame.image, frame.seq, frame.seconds, fresh=fresh, cut=cut, gate=gate
            )
        total = 1000 * (time.perf_counter() - began)
        self._seq = frame.seq
        boxes = self._chosen(seen.boxes)
        self._count(boxes, seen.reset)
        results: dict[str, Result] = dict(packet.results)
        results["boxes"] = boxes
        if self._compare:
            results["plain"] = self._chosen(seen.plain)
        detector = min(self._host.plain_ms, total)
        parts = {"detector": round(detector, 3), "memory": round(total - detector, 3)}
        hub, (rows, room) = memory.hub, _filled(memory)
        reset = RESETS[seen.reset]
        results["recall"] = Recall(reset, rows, room, hub.nbytes, hub.budget_bytes, parts)
        return Packet(frame, results)

    def _chosen(self, found: Boxes) -> Boxes:
        """What is told: the wanted classes, no weak boxes, the surest ``MOST``."""
        keep = found.scores >= self._min_score
        if self._classes:
            keep &= np.isin(found.labels, self._classes)
        rows = np.flatnonzero(keep)[:MOST]
        if len(rows) == len(found.scores):
            return found
        supports = tuple(found.supports[row] for row in rows) if found.supports else ()
        return msgspec.structs.replace(
            found,
            boxes=found.boxes[rows],
            scores=found.scores[rows],
            labels=found.labels[rows],
            tracks=found.tracks[rows],
            memory=found.memory[rows],
            supports=supports,
        )

    def _count(self, boxes: Boxes, reset: str) -> None:
        self._boxes += len(boxes.scores)
        self._from_memory += int((boxes.memory > 0.5).sum())
        if reset:
            self._resets += 1

    def _begin(self, frame: Frame) -> Memory:
        memory = self._open(frame.stream)
        if self._limit:
            memory.hub.shrink_to(self._limit)
        if self._resume:
            path, self._resume = self._resume, ""
            self._seen_to = self._seq = memory.hub.restore(path)
        return memory

    def save(self, path: str) -> None:
        """Write the memory to ``path``, atomically. Raises StateError while there is none."""
        if self._memory is None or self._seq < 0:
            raise StateError("There is no memory to save: no frame was seen yet.")
        self._memory.hub.snapshot(path, self._seq)

    def shrink_to(self, nbytes: int) -> None:
        """Remember within ``nbytes`` from now on."""
        if self._memory is not None:
            self._memory.hub.shrink_to(nbytes)
        self._limit = nbytes

    def use(self) -> Use:
        """What it may hold and what it needs."""
        return self._memory.hub.use() if self._memory else Use(self._limit, 0)

    def load(self, path: str) -> None:
        """Continue from ``path``, passing over frames it has seen. One that does not fit is refused
        with a StateError when the first frame comes."""
        self._resume, self._memory = path, None

    def stats(self) -> Mapping[str, StatValue]:
        told: dict[str, StatValue] = dict(self._told)
        if self._memory is not None:
            rows, room = _filled(self._memory)
            told |= {"memory_bytes": self._memory.hub.nbytes, "rows": rows, "room": room}
        told["resets"] = self._resets
        told["boxes"] = self._boxes
        told["boxes_from_memory"] = self._from_memory
        return told

    def close(self) -> None:
        pass


def open_parts(
    host: str, bank: str, mode: str, carry: bool, budget_mb: float, device: str, names: str
) -> tuple[Timed, Callable[[str], Memory], dict[str, StatValue]]:
    """The host, what makes a memory for a stream, and what there is to say of them."""
    from retain.models.mamba.hosts.open import open_host
    from retain.models.mamba.memory import Memory, MemoryOptions

    opened = Timed(open_host(host, device, names=names))
    readout, which = _readout(bank, mode, opened)
    budget = {"budget_bytes": int(budget_mb * 1e6)} if budget_mb else {}
    options = MemoryOptions(mode=mode if readout else "none", carry=carry, **budget)  # type: ignore[arg-type]
    told: dict[str, StatValue] = {"host": host, "readout": which, "device": device}
    return opened, lambda stream: Memory(opened, readout, options, stream), told


def _readout(bank: str, mode: str, host: Host) -> tuple[Readout | None, str]:
    """The read-out that was asked for, and what to call it."""
    if bank == "none":
        return None, "none"
    from retain.models.mamba.weights import load_readout, shipped_for

    name = shipped_for(host) if bank == "auto" else bank
    if not name:
        return None, NONE_SHIPS
    return load_readout(name, host, mode), name


T = TypeVar("T")


class Timed:
    """A host, and what its own work took since ``clear``: what a detector alone would take."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.names, self.channels = host.names, host.channels
        self.digest, self.side = host.digest, host.side
        self.clear()

    def clear(self) -> None:
        self._ms: dict[str, float] = {}

    @property
    def plain_ms(self) -> float:
        """One call of each part."""
        return sum(self._ms.values())

    def describe(self, images: Sequence[Image]) -> list[Cells]:
        return self._timed("describe", lambda: self._host.describe(images))

    def predict(self, rows: Tensor, cells: Cells, which: Tensor | None = None) -> Predicted:
        return self._timed("predict", lambda: self._host.predict(rows, cells, which))

    def found(
        self, predicted: Predicted, cells: Cells, threshold: float = 0.01
    ) -> tuple[Found, Tensor]:
        return self._timed("found", lambda: self._host.found(predicted, cells, threshold))

    def _timed(self, part: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        out = work()
        self._ms.setdefault(part, 1000 * (time.perf_counter() - began))
        return out


def _filled(memory: Memory) -> tuple[int, int]:
    """Rows of the bank, and how many fit; none without one."""
    if "bank" not in memory.hub:
        return 0, 0
    told = memory.hub["bank"].stats(memory.stream)
    return int(told["rows"]), int(told["room"])


def _chosen(classes: str, names: Sequence[str]) -> list[int]:
    """Places of the wanted classes. Raises UsageError for one the host does not know."""
    wanted = [word.strip() for word in classes.split(",") if word.strip()]
    for word in wanted:
        if word not in names:
            raise UsageError(f"The detector knows no class {word!r}.", hint=nearest(word, names))
    return [names.index(word) for word in wanted]
