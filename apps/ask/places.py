"""Where memories are: a file, the folder of a result, the folder of a snapshot."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from retain.pipeline import states
from retain.pipeline.errors import SourceError, StateError, UsageError
from retain.pipeline.sources.common import local_path

if TYPE_CHECKING:
    from retain.memory.entries import Entry

MEMORY, SUMMARY, RESULTS = "memory.safetensors", "summary.json", "results.jsonl"
BY = "frames by "
"""How the names of frame memories begin; the encoder's follows, with _ for /."""
_STAGE = "retain.models.curvestream:Remember"
_MAX_LINE = 1 << 20


@dataclass(frozen=True)
class Remembered:
    """What a memory holds, and what is known of where it came from."""

    stream: str
    encoder: str
    """Whose features they are; empty when the memory does not say."""
    entries: list[Entry]
    source: str = ""
    """The footage: a file's path or an address without credentials; empty when not known."""
    file: Path | None = None
    """The memory's own, beside which features of other encoders are kept."""

    @cached_property
    def embedding(self) -> NDArray[np.float32]:
        """[N, D]."""
        if not self.entries:
            return np.zeros((0, 1), np.float32)
        return np.stack([entry.embedding for entry in self.entries])

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """[N], of the stream."""
        return np.array([entry.seconds for entry in self.entries], np.float64)

    @property
    def seqs(self) -> list[int]:
        """[N], numbers of the frames."""
        return [entry.seq for entry in self.entries]

    @property
    def span(self) -> tuple[float, float]:
        """Times of the first and the last frame held; NaN when there is none."""
        times = self.seconds
        return (float(times.min()), float(times.max())) if len(times) else (math.nan, math.nan)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the pictures held: the same pictures need describing once."""
        digest = hashlib.sha256()
        for entry in self.entries:
            digest.update(f"{entry.seq} {len(entry.jpeg)} ".encode())
            digest.update(entry.jpeg)
        return digest.hexdigest()


class _Summary(msgspec.Struct, frozen=True):
    """What matters here of a result's summary.json."""

    source: str
    held: int
    encoder: str = ""


class _Line(msgspec.Struct, frozen=True):
    seq: int


def open_memory(place: str | Path) -> Remembered:
    """The memory in a ``memory.safetensors``, in the folder of a `retain watch`, or in the folder
    of a `retain snapshot`. A result says which footage it is of; a snapshot does not, and a file
    alone does not either.

    Raises UsageError for what is none of these or is damaged.
    """
    try:
        path = local_path(str(place))
    except SourceError as error:  # no file can be called so
        raise UsageError(error.what) from error
    if not path.exists():
        raise UsageError(
            f"There is no memory {str(path)!r}.",
            hint="Name a memory.safetensors, a folder of `retain watch` or `retain snapshot`, or "
            "the port of a running watch.",
        )
    try:
        if not path.is_dir():
            return _result(path) if path.name == MEMORY else _read(path)
        if (path / MEMORY).is_file():
            return _result(path / MEMORY)
        if (path / states.NAME).is_file():
            return _read(_state(path))
    except StateError as error:
        raise UsageError(error.what, hint=error.hint) from error
    raise UsageError(
        f"The folder {str(path)!r} holds no memory: neither {MEMORY}, as `retain watch` leaves, "
        f"nor {states.NAME}, as `retain snapshot` does.",
        hint=_others(path),
    )


def _others(folder: Path) -> str:
    """Where a memory may be meant to be found instead."""
    found = sorted([*folder.glob("[!.]*.safetensors"), *folder.glob(f"[!.]*/{MEMORY}")])
    return f"Name a memory in it, such as {str(found[0])!r}." if found else ""


def _read(path: Path, known: _Summary | None = None) -> Remembered:
    """Raises StateError for a file that is damaged, or holds no frame memory."""
    from retain.memory import snapshot
    from retain.memory.entries import entries_of

    file = snapshot.load(path)
    entries = entries_of(file, str(path))
    name = next(n for n, (config, _) in file.memories.items() if config.get("kind") == "frames")
    encoder, source = name.removeprefix(BY) if name.startswith(BY) else "", ""
    if known is not None:
        if plain(known.encoder) == encoder:
            encoder = known.encoder
        if known.held == len(entries):
            source = known.source
    return Remembered(file.stream, encoder, entries, source, path)


def plain(encoder: str) -> str:
    """``encoder`` as names of memories write it."""
    return encoder.replace("/", "_")


def _result(memory: Path) -> Remembered:
    """Of a run, whose summary says more than the memory. A memory that another run began holds
    frames of other footage too, so then no source is named."""
    try:
        with _regular(memory.parent / SUMMARY) as text:
            known = msgspec.json.decode(text.read(_MAX_LINE), type=_Summary)
        with _regular(memory.parent / RESULTS) as lines:
            first = msgspec.json.decode(lines.readline(_MAX_LINE), type=_Line)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _read(memory)
    return _read(memory, known if first.seq == 0 else msgspec.structs.replace(known, source=""))


def _regular(path: Path) -> BinaryIO:
    """The file, opened. Raises OSError, also for what is no file: a pipe never ends."""
    if not path.is_file():
        raise FileNotFoundError(path)
    return path.open("rb")


def _state(folder: Path) -> Path:
    """The file with the memory's state in a snapshot. Raises StateError."""
    told = states.manifest(folder)
    for node in told.nodes:
        if node.target == _STAGE and (path := states.state_file(folder, node)):
            return path
    names = ", ".join(node.name for node in told.nodes) or "nothing"
    raise StateError(
        f"The snapshot {folder} holds no memory of one stream; it is of {names}.",
        hint="Ask a snapshot of `retain watch`; of `retain serve`, ask a stream's own file.",
    )
