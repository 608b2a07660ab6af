"""CurveStream (arXiv 2603.19571) as two stages: describe each frame, then remember what mattered.

The encoder is a stage of its own because it costs milliseconds and the memory microseconds: in the
local runner they are two processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.shares import Use
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
    from retain.memory.hub import Hub

Mode = Literal["robust", "paper"]


class Encode:
    """Adds ``embedding``: the frame's global feature, float32 [D], unit length.

    Frames go through one at a time and on ``threads`` threads, whatever the runner, because both
    change the last bit of a feature: this is what makes runs comparable bit for bit.
    """

    def __init__(
        self,
        encoder: str = "mobilenetv2",
        device: str = "auto",
        threads: int = 1,
        download: bool = False,
    ) -> None:
        from retain.models.encoders.base import TorchEncoder, create

        if threads < 1:
            raise UsageError(f"The option 'threads' of encode must be at least 1, not {threads}.")
        self._encoder = create(encoder, device=device, download=download)
        self._threads = threads if isinstance(self._encoder, TorchEncoder) else 0
        self._frames = 0

    def process(self, packet: Packet) -> Packet:
        with torch_threads(self._threads):
            (vector,) = self._encoder.encode([packet.frame.image])
        self._frames += 1
        return packet.plus(embedding=Embedding(vector, self._encoder.name))

    def stats(self) -> Mapping[str, StatValue]:
        return {"encoder": self._encoder.name, "dim": self._encoder.dim, "encoded": self._frames}

    def close(self) -> None:
        pass


class Remember:
    """Adds ``route`` (the decision and its numbers) and ``held`` (what the memory holds now).

    One stage remembers one stream. Options left at 0 or empty are the mode's own defaults (see
    ``memory/curvestream.py``). ``resume`` continues a saved memory; with ``replayed`` the stream
    comes again from its start, and frames the memory has seen are passed over, so that the rest
    gives what an uninterrupted run would have given. Without, the stream is taken as new footage:
    its numbers and times go on after the newest kept frame.
    """

    def __init__(
        self,
        mode: Mode = "robust",
        max_entries: int = 0,
        token_budget: int = 0,
        byte_budget: int = 0,
        policy: str = "",
        family: str = "",
        resume: str = "",
        replayed: bool = False,
    ) -> None:
        from retain.memory.curvestream import FrameMemoryConfig

        given: dict[str, Any] = {
            "max_entries": max_entries,
            "token_budget": token_budget,
            "byte_budget": byte_budget,
            "policy": policy,
            "family": family,
        }
        self._changes = {name: value for name, value in given.items() if value}
        if mode not in ("robust", "paper"):
            raise UsageError(f"The mode of remember is 'robust' or 'paper', not {mode!r}.")
        self._make = FrameMemoryConfig.paper if mode == "paper" else FrameMemoryConfig
        self._make(**self._changes)  # refuses options that cannot work before any frame comes
        self._memory: FrameMemory | None = None
        self._hub: Hub | None = None
        self._resume, self._replayed = resume, replayed
        self._seen_to = -1
        self._shift: tuple[int, Fraction] | None = None
        self._joint = True
        """The next frame is the first that follows the memory's own."""
        self._last_seq = -1
        if resume:
            from retain.memory.snapshot import load

            load(resume)  # a damaged file is refused at once

    def process(self, packet: Packet) -> Packet | None:
        embedding = packet.get("embedding", Embedding)
        hub, memory = self._open(packet.frame.stream, embedding)
        frame = self._continued(packet.frame)
        if frame.stream != hub.stream:
            raise UsageError(
                f"One remember stage got frames of {hub.stream!r} and of {frame.stream!r}.",
                hint="Give each stream a remember stage of its own.",
            )
        if frame.seq <= self._seen_to:
            return None
        route, held = memory.observe(frame.stream, frame, embedding.vector)
        self._last_seq = frame.seq
        return Packet(frame, packet.results).plus(route=route, held=held)

    def save(self, path: str) -> None:
        """Write the memory to ``path``, atomically. Raises StateError before the first frame."""
        if self._hub is None:
            raise StateError("There is no memory to save: not one frame came.")
        self._hub.snapshot(path, self._last_seq)

    def shrink_to(self, nbytes: int) -> None:
        """Remember within ``nbytes`` from now on."""
        if self._hub is not None:
            self._hub.shrink_to(nbytes)
        self._changes["byte_budget"] = nbytes

    def use(self) -> Use:
        """What it may hold and what it needs."""
        return self._hub.use() if self._hub else Use(self._changes.get("byte_budget", 0), 0)

    def load(self, path: str) -> None:
        """Continue from ``path``, passing over frames it has seen. One that does not fit is refused
        with a StateError when the first frame comes."""
        self._hub = self._memory = self._shift = None
        self._resume, self._replayed = path, True

    def stats(self) -> Mapping[str, StatValue]:
        if self._hub is None or self._memory is None:
            return {"memory_bytes": 0}
        own = self._memory.stats(self._hub.stream)
        return {**own, "memory_bytes": self._hub.nbytes, "budget_bytes": self._hub.budget_bytes}

    def close(self) -> None:
        pass

    def _open(self, stream: str, embedding: Embedding) -> tuple[Hub, FrameMemory]:
        """The memory, made when the first embedding says how long they are."""
        if self._hub is None or self._memory is None:
            from retain.memory.curvestream import FrameMemory
            from retain.memory.hub import Hub

            config = self._make(dim=len(embedding.vector), **self._changes)
            if self._resume:
                config = _as_saved(config, self._resume)
            self._memory = FrameMemory(config)
            self._hub = Hub(config.byte_budget, stream)
            # Features of two encoders do not compare, so the name says whose they are: a hub
            # refuses a file with other names.
            self._hub.add(f"frames by {embedding.encoder.replace('/', '_')}", self._memory)
            if self._resume:
                self._restore(self._hub, self._memory)
        return self._hub, self._memory

    def _restore(self, hub: Hub, memory: FrameMemory) -> None:
        self._last_seq = hub.restore(self._resume)
        if self._replayed:
            self._seen_to = self._last_seq
            return
        entries = memory.held(hub.stream).entries
        newest = max((entry.seconds for entry in entries), default=0.0)
        self._shift = self._last_seq + 1, Fraction(newest).limit_denominator(1_000_000)

    def _continued(self, frame: Frame) -> Frame:
        """``frame`` with the numbers it has in the continued stream."""
        if self._shift is None:
            return frame
        seqs, seconds = self._shift
        ticks = int(seconds / frame.time_base) + 1
        joint, self._joint = self._joint, False
        return replace(
            frame,
            seq=frame.seq + seqs,
            pts=frame.pts + ticks,
            discontinuity=frame.discontinuity or joint,
        )


def _as_saved(config: FrameMemoryConfig, path: str) -> FrameMemoryConfig:
    """``config`` with the router's numbers of the memory in ``path``: no option of the stage sets
    them, and their defaults may have changed since it was written."""
    from retain.memory.router import RouterConfig
    from retain.memory.snapshot import load

    for saved, _ in load(path).memories.values():
        router = saved.get("router")
        if isinstance(router, dict) and router.get("mode") == config.router.mode:
            return replace(config, router=RouterConfig.from_json(router))
    return config


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Torch on ``number`` threads; 0 leaves torch alone."""
    if not number:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
