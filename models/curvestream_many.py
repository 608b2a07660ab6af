"""CurveStream for many streams at once: one encoder for all, a memory for each."""

from __future__ import annotations

import logging
import re
import stat
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from retain.memory.snapshot import MAX_FILE, load
from retain.models.curvestream import Encode, Mode, Remember, torch_threads
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.files import write_whole
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.stage import StatValue
from retain.pipeline.versions import refuse_newer, version_of

log = logging.getLogger(__name__)

_NAME = re.compile(r"[\w-]{1,64}", re.ASCII)
ENDING = ".safetensors"


class EncodeMany(Encode):
    """As ``Encode``; with ``batch`` above 1, frames that their source sent together go through the
    network together, up to so many.

    A frame's meta ``more`` says how many of its round follow for certain; so none waits for a
    frame that may never come. Batching changes the last bits of a feature: with ``batch`` 1 (the
    default) each frame's is that of ``Encode``.
    """

    def __init__(
        self,
        encoder: str = "mobilenetv2",
        device: str = "auto",
        threads: int = 1,
        download: bool = False,
        batch: int = 1,
    ) -> None:
        super().__init__(encoder, device, threads, download)
        if batch < 1:
            raise UsageError(f"The option 'batch' of encode must be at least 1, not {batch}.")
        self._batch, self._waiting = batch, list[Packet]()
        self._calls = 0

    def process(self, packet: Packet) -> Iterable[Packet]:  # type: ignore[override]
        self._waiting.append(packet)
        more = int(packet.frame.meta.get("more", 0))
        return self._go() if not more or len(self._waiting) >= self._batch else ()

    @property
    def collected(self) -> int:
        return len(self._waiting)

    def flush(self) -> Iterable[Packet]:
        """A round cut short by the end."""
        return self._go()

    def _go(self) -> list[Packet]:
        packets, self._waiting = self._waiting, []
        if not packets:
            return []
        with torch_threads(self._threads):
            vectors = self._encoder.encode([packet.frame.image for packet in packets])
        self._frames += len(packets)
        self._calls += 1
        name = self._encoder.name
        return [
            packet.plus(embedding=Embedding(vector, name))
            for packet, vector in zip(packets, vectors, strict=True)
        ]

    def stats(self) -> Mapping[str, StatValue]:
        return {**super().stats(), "calls": self._calls}


SCHEMA, VERSION = "retain-memories", 1


class _Many(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All memories in one file: each is a whole memory file with its own checksum."""

    schema: str
    streams: dict[str, bytes]


def memories_in(path: str | Path) -> dict[str, bytes] | None:
    """By stream, the memory files in one that ``RememberMany`` saved; None for a file of another
    kind. Raises StateError."""
    path = Path(path)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE:  # a pipe never ends
            raise StateError(f"{path} is no file, or too large for one of memories.")
        told = msgspec.msgpack.decode(path.read_bytes(), type=dict[str, Any])
        if not (version := version_of(told.get("schema"), SCHEMA)):
            return None
        refuse_newer(f"{path} is a file of memories", version, VERSION)
        return msgspec.convert(told, _Many).streams
    except OSError as error:
        raise StateError(f"The memories {path} cannot be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class RememberMany:
    """A ``Remember`` for each stream that comes, with its options.

    evict_after_s  a stream silent for so long, by the arrival of other streams' frames, is written
                   to ``folder`` and let go; 0: never
    folder         where memories of streams lie that are not in use; taken up again when their
                   stream comes back, with other footage as well as in the same run. One that does
                   not fit any more is put aside as NAME.refused
    """

    def __init__(
        self,
        folder: str,
        mode: Mode = "robust",
        max_entries: int = 0,
        token_budget: int = 0,
        byte_budget: int = 0,
        policy: str = "",
        family: str = "",
        evict_after_s: float = 600.0,
    ) -> None:
        if evict_after_s < 0:
            raise UsageError(f"The option 'evict_after_s' must be at least 0, not {evict_after_s}.")
        self._options: dict[str, int | str] = {
            "max_entries": max_entries,
            "token_budget": token_budget,
            "byte_budget": byte_budget,
            "policy": policy,
            "family": family,
        }
        self._mode: Mode = mode
        self._made()  # refuses options that cannot work before any frame comes
        self._folder = Path(folder)
        self._silent_ns = int(evict_after_s * 1e9)
        self._memories: dict[str, Remember] = {}
        self._heard: dict[str, int] = {}
        """When each stream's last frame arrived, monotonic ns."""
        self._evicted = self._restored = 0

    def process(self, packet: Packet) -> Packet | None:
        frame = packet.frame
        if frame.stream not in self._memories:
            made = self._first(packet)
        else:
            made = self._memories[frame.stream].process(packet)
        self._heard[frame.stream] = frame.t_arrival_ns
        if self._silent_ns:
            for stream, heard in list(self._heard.items()):
                if frame.t_arrival_ns - heard > self._silent_ns:
                    self._evict(stream)
        return made

    def save(self, path: str) -> None:
        """Write all memories in use to one file, atomically."""
        with tempfile.TemporaryDirectory(prefix="retain-memories-") as spare:
            streams = {}
            for stream, memory in self._memories.items():
                memory.save(f"{spare}/state")
                streams[stream] = Path(f"{spare}/state").read_bytes()
        write_whole(Path(path), msgspec.msgpack.encode(_Many(f"{SCHEMA}/{VERSION}", streams)))

    def load(self, path: str) -> None:
        """Continue from ``path``. Each memory is checked here and taken up with its stream's next
        frame. Raises StateError."""
        if (streams := memories_in(path)) is None:
            raise StateError(f"{path} is not a file of memories, or is damaged.")
        self._memories, self._heard = {}, {}
        for stream, data in streams.items():
            place = self._place(stream)
            write_whole(place, data)
            load(place)

    def flush(self) -> Iterable[Packet]:
        """At the end every memory goes to the folder, for the next run."""
        for stream in list(self._memories):
            self._evict(stream)
        return ()

    def stats(self) -> Mapping[str, StatValue]:
        told: dict[str, StatValue] = {}
        total = 0
        for stream, memory in self._memories.items():
            own = memory.stats()
            total += int(own["memory_bytes"])
            told[f"{stream}.memory_bytes"] = own["memory_bytes"]
        return {
            "memory_bytes": total,
            "streams": len(self._memories),
            "evicted": self._evicted,
            "restored": self._restored,
            **told,
        }

    def close(self) -> None:
        pass

    def _first(self, packet: Packet) -> Packet | None:
        """The first frame of a stream, or of one that had been let go."""
        stream, place = packet.frame.stream, self._place(packet.frame.stream)
        if place.exists():
            try:
                memory, made = self._again(place, packet)
                self._memories[stream] = memory
                self._restored += 1
                return made
            except StateError as error:
                log.warning("The memory of %s begins anew. %s", stream, error)
                with suppress(OSError):
                    place.replace(place.with_suffix(".refused"))
        self._memories[stream] = self._made()
        return self._memories[stream].process(packet)

    def _again(self, place: Path, packet: Packet) -> tuple[Remember, Packet | None]:
        """The stream goes on in its numbers, or it is new footage that begins to count."""
        if packet.frame.seq > load(place).seq:
            memory = self._made()
            memory.load(str(place))
        else:
            memory = self._made(str(place))
        return memory, memory.process(packet)

    def _made(self, resume: str = "") -> Remember:
        return Remember(self._mode, resume=resume, **self._options)  # type: ignore[arg-type]

    def _evict(self, stream: str) -> None:
        self._memories[stream].save(str(self._place(stream)))
        del self._memories[stream], self._heard[stream]
        self._evicted += 1

    def _place(self, stream: str) -> Path:
        if not _NAME.fullmatch(stream):
            raise UsageError(f"A stream called {stream!r} cannot have a file of its own.")
        return self._folder / f"{stream}{ENDING}"
