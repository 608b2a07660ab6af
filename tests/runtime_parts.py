"""Small sources, stages and sinks that tests of the runtime name by import path."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.stage import SourceInfo, StatValue


def frame(seq: int, width: int = 16, height: int = 8, stream: str = "s", fps: int = 30) -> Frame:
    """A picture whose every byte says its number."""
    image = np.full((height, width, 3), seq % 251, np.uint8)
    return Frame(stream, seq, seq, Fraction(1, fps), image)


class Clip:
    """``frames`` numbered pictures, then the end or (``fault``) a SourceError."""

    def __init__(
        self,
        frames: int = 10,
        width: int = 16,
        height: int = 8,
        stream: str = "s",
        fault: str = "",
        pause_s: float = 0.0,
        grow_at: int = -1,
    ) -> None:
        self.count, self.width, self.height = frames, width, height
        self.stream, self.fault, self.pause_s, self.grow_at = stream, fault, pause_s, grow_at
        self._closed = threading.Event()

    def open(self) -> SourceInfo:
        if self.fault and not self.count:
            raise SourceError(SourceFault(self.fault), "The clip never opened.")
        kind = "live" if self.pause_s else "finite"
        return SourceInfo(kind, "clip", self.width, self.height, 30.0)

    def frames(self) -> Iterator[Frame]:
        for seq in range(self.count):
            if self._closed.wait(self.pause_s) if self.pause_s else self._closed.is_set():
                return
            large = 0 <= self.grow_at <= seq
            yield frame(seq, self.width * (2 if large else 1), self.height, self.stream)
        if self.fault:
            raise SourceError(SourceFault(self.fault), "The clip broke.", decoded=self.count)

    def close(self) -> None:
        self._closed.set()


class Told(Clip):
    """Pictures that come with a result, as from another host."""

    def packets(self) -> Iterator[Packet]:
        for frame in self.frames():
            yield Packet(frame).plus(told=Embedding(np.array([frame.seq], np.float32), "seq"))


class Mean:
    """Says the mean colour of each picture."""

    def __init__(self, name: str = "mean", delay_s: float = 0.0) -> None:
        self.name, self.delay_s, self.seen = name, delay_s, 0

    def process(self, packet: Packet) -> Packet:
        if self.delay_s:
            time.sleep(self.delay_s)
        self.seen += 1
        mean = packet.frame.image.reshape(-1, 3).mean(axis=0, dtype=np.float64)
        return packet.plus(**{self.name: Embedding(mean.astype(np.float32), "mean")})

    def close(self) -> None: ...

    def stats(self) -> Mapping[str, StatValue]:
        return {"memory_bytes": 24, "seen": self.seen}

    def save(self, path: str) -> None:
        Path(path).write_text(str(self.seen))

    def load(self, path: str) -> None:
        self.seen = int(Path(path).read_text())


class Brittle(Mean):
    """Fails at its fifth packet; ``salvages``: what it has seen is of use all the same."""

    def __init__(self, salvages: bool) -> None:
        super().__init__()
        if salvages:
            self.salvage = self.save

    def process(self, packet: Packet) -> Packet:
        if self.seen == 4:
            raise ValueError("four is enough")
        return super().process(packet)


class Invert:
    """A new picture for each packet."""

    def process(self, packet: Packet) -> Packet:
        new = replace(packet.frame, image=255 - packet.frame.image)
        return Packet(new, packet.results)

    def close(self) -> None: ...


class Halves:
    """Keeps every other packet back until the end: none, one or several come out."""

    def __init__(self) -> None:
        self.kept: list[Packet] = []

    def process(self, packet: Packet) -> Packet | None:
        if packet.frame.seq % 2:
            self.kept = [*self.kept, packet][-2:]
            return None
        return packet

    def flush(self) -> Iterable[Packet]:
        yield from self.kept

    def close(self) -> None: ...


class Trouble:
    """At packet ``at``: raises, hangs, dies by a signal, or calls ``sys.exit``."""

    def __init__(self, how: str, at: int = 3, delay_s: float = 0.0) -> None:
        self.how, self.at, self.delay_s, self.seen = how, at, delay_s, 0

    def process(self, packet: Packet) -> Packet:
        self.seen += 1
        time.sleep(self.delay_s)
        if self.seen > self.at:
            if self.how == "raise":
                raise ValueError("seven is not a colour")
            if self.how == "exit":
                raise SystemExit(3)
            if self.how == "hang":
                time.sleep(600)
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        return packet

    def close(self) -> None: ...


class Mortal:
    """Passes packets on and counts them; at frame ``seq`` does something that ends or stops its
    process: always, or (``once``, a file that is made then) only the first time."""

    def __init__(self, how: str, seq: int, once: str = "", delay_s: float = 0.0) -> None:
        self.how, self.seq, self.once, self.delay_s, self.seen = how, seq, once, delay_s, 0

    def process(self, packet: Packet) -> Packet:
        time.sleep(self.delay_s)
        if self._time_has_come(packet.frame.seq):
            if self.how == "raise":
                raise ValueError("seven is not a colour")
            if self.how == "hang":
                time.sleep(600)
            os.kill(os.getpid(), getattr(signal, self.how))
            time.sleep(600)
        self.seen += 1
        gap = float(packet.frame.discontinuity)
        return packet.plus(mortal=Embedding(np.array([self.seen, gap], np.float32), "seen, gap"))

    def _time_has_come(self, seq: int) -> bool:
        if not self.once:
            return seq == self.seq
        if seq < self.seq or Path(self.once).exists():  # that very frame may have been dropped
            return False
        Path(self.once).write_text(str(seq))
        return True

    def close(self) -> None: ...

    def save(self, path: str) -> None:
        Path(path).write_text(str(self.seen))

    def load(self, path: str) -> None:
        self.seen = int(Path(path).read_text())


class Batches:
    """Gives packets in fours. Once (``once``, a file that is made then), after frame ``seq``, its
    process dies with two collected and one in hand."""

    def __init__(self, seq: int, once: str) -> None:
        self.seq, self.once = seq, once
        self.kept: list[Packet] = []

    @property
    def collected(self) -> int:
        return len(self.kept)

    def process(self, packet: Packet) -> Iterable[Packet]:
        over = packet.frame.seq > self.seq and not Path(self.once).exists()
        if over and len(self.kept) == 2:
            Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.kept.append(packet)
        if len(self.kept) < 4:
            return ()
        given, self.kept = self.kept, []
        return given

    def flush(self) -> Iterable[Packet]:
        return self.kept

    def close(self) -> None: ...


class Hoard:
    """Never lets go of a picture."""

    def __init__(self) -> None:
        self.kept: list[Packet] = []

    def process(self, packet: Packet) -> Packet:
        self.kept.append(packet)
        return packet

    def close(self) -> None: ...


class Recorder:
    """A sink in the caller's process that remembers what came, pixels summed."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.packets: list[tuple[int, int, dict[str, object]]] = []
        self.gaps: list[int] = []
        """Frames that said there was a gap before them."""
        self.closed = 0

    def process(self, packet: Packet) -> None:
        time.sleep(self.delay_s)
        image = packet.frame.image
        self.packets.append((packet.frame.seq, int(image.sum()), dict(packet.results)))
        if packet.frame.discontinuity:
            self.gaps.append(packet.frame.seq)

    def close(self) -> None:
        self.closed += 1

    @property
    def seqs(self) -> list[int]:
        return [seq for seq, _, _ in self.packets]
