"""Memories in one file: safetensors, with a JSON header and a checksum over every byte.

A file that is truncated, altered, of a newer version or of other configurations is refused with a
sentence; sizes are compared with the file before anything is allocated. One of an earlier version
is read as today's (memory/migrate.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

import retain
from retain.memory import migrate
from retain.memory.base import Json, State
from retain.pipeline.errors import StateError
from retain.pipeline.files import write_whole
from retain.pipeline.versions import refuse_newer

log = logging.getLogger(__name__)

MAX_HEADER = 16 << 20
MAX_FILE = 8 << 30
_NO_SUM = "0" * 64
_DTYPES = {
    "U8": np.uint8,
    "U16": np.uint16,
    "I8": np.int8,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_MAX_DIMENSIONS = 8

Config = Mapping[str, Json]


class _Info(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An array, as safetensors describes it."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Described(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=0, le=9999)]
    """As memory/migrate.py counts them; 0: from before they were written down."""
    config: dict[str, Any]
    config_sha256: str
    header: dict[str, Any]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: str
    sha256: str
    by: str
    """Version of the program that wrote it."""
    stream: str
    seq: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
    memories: dict[str, _Described]


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """What a file holds: per memory its configuration and its state."""

    stream: str
    seq: int
    """Last frame the state has taken in."""
    memories: Mapping[str, tuple[Config, State]]
    by: str = retain.__version__
    """Version of the program that wrote it; empty where that was not written down."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Of a file that was read: in which version it holds each memory. Those that are not today's
    have been brought up to it."""
    schema: str = f"{migrate.SCHEMA}/{migrate.FILE_VERSION}"
    """The one it was written in."""


def config_hash(config: Config) -> str:
    """SHA-256 of the configuration as canonical JSON."""
    return hashlib.sha256(_canonical(config)).hexdigest()


def save(path: str | Path, file: MemoryFile) -> None:
    """Write atomically: whoever reads ``path`` sees the old file or the whole new one."""
    from safetensors.numpy import save as serialise

    tensors: dict[str, np.ndarray] = {}
    described: dict[str, Json] = {}
    for name, (config, state) in file.memories.items():
        for key, array in state.tensors.items():
            if array.dtype not in _NAMES:
                raise StateError(f"Array {key!r} of {name!r} has unsupported type {array.dtype}.")
            tensors[f"{name}/{key}"] = np.ascontiguousarray(array)
        described[name] = {
            "version": migrate.newest(str(config.get("kind", ""))),
            "config": dict(config),
            "config_sha256": config_hash(config),
            "header": dict(state.header),
        }
    header = {
        "schema": f"{migrate.SCHEMA}/{migrate.FILE_VERSION}",
        "sha256": _NO_SUM,
        "by": retain.__version__,
        "stream": file.stream,
        "seq": file.seq,
        "memories": described,
    }
    data = bytearray(serialise(tensors, {"retain": _canonical(header).decode()}))
    place = _sum_place(data)
    data[place : place + 64] = hashlib.sha256(data).hexdigest().encode()
    write_whole(Path(path), bytes(data))


def load(path: str | Path) -> MemoryFile:
    """Read and check a memory file. Raises StateError for anything that is not one, whole."""
    path = Path(path)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # a pipe never ends
            raise StateError(f"{path} is not a memory file.")
        size = about.st_size
        with path.open("rb") as stream:
            head = stream.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 0 < length <= min(MAX_HEADER, size - 8) or size > MAX_FILE:
                raise StateError(f"{path} is not a memory file, or only the start of one.")
            raw = stream.read(length)
            layout, header = _parse(path, raw, size - 8 - length)
            data = head + raw + stream.read(size - 8 - length)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StateError(f"The memory file {path} cannot be read: {reason}.") from error
    if len(data) != size or _checksum(data) != header.sha256:
        raise StateError(
            f"{path} was altered or damaged after it was written: its checksum is wrong."
        )
    arrays = {
        name: np.frombuffer(data, dtype, count, 8 + length + start).reshape(shape)
        for name, (dtype, shape, start, count) in layout.items()
    }
    return _assemble(path, header, arrays)


def check_config(name: str, mine: Config, saved: Config) -> None:
    """Raises StateError, naming what differs, unless both configurations are the same. How many
    bytes a memory begins with may differ: its limit is whoever's that restores it."""
    differ = sorted(
        key
        for key in {*mine, *saved} - {"byte_budget"}
        if _canonical(mine.get(key)) != _canonical(saved.get(key))
    )
    if not differ:
        return
    raise StateError(
        f"The snapshot of {name!r} was made under another configuration "
        f"(different: {', '.join(differ)}).",
        hint="Restore it with the configuration it was saved with.",
    )


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _sum_place(data: bytes | bytearray) -> int:
    """Where the checksum's 64 digits stand in the file."""
    end = 8 + struct.unpack_from("<Q", data)[0]
    found = list(re.finditer(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"', data[:end]))
    if len(found) != 1:
        raise StateError("The memory file has no checksum, or more than one.")
    return found[0].start(1)


def _checksum(data: bytes) -> str:
    place = _sum_place(data)
    digest = hashlib.sha256(data[:place])
    digest.update(_NO_SUM.encode())
    digest.update(memoryview(data)[place + 64 :])
    return digest.hexdigest()


Layout = dict[str, tuple[Any, tuple[int, ...], int, int]]


def _parse(path: Path, raw: bytes, room: int) -> tuple[Layout, _Header]:
    """Array places and our header. Nothing of the data has been read or allocated yet."""
    try:
        outer = _json(raw)
        inner = migrate.file_header(path, _json(outer.pop("__metadata__")["retain"]))
        infos = msgspec.convert(outer, dict[str, _Info])
        layout: Layout = {}
        place = 0
        for name, info in sorted(infos.items(), key=lambda item: item[1].data_offsets):
            dtype, shape = np.dtype(_DTYPES[info.dtype]), info.shape
            start, end = info.data_offsets
            count = math.prod(shape)
            # Numpy has limits of its own, also for arrays of no bytes at all.
            fits = len(shape) <= _MAX_DIMENSIONS and min(shape, default=0) >= 0
            fits = fits and math.prod(side or 1 for side in shape) <= MAX_FILE
            if not fits or start != place or end - start != count * dtype.itemsize:
                raise StateError(f"{path} is damaged: array {name!r} is not where it should be.")
            layout[name] = dtype, shape, start, count
            place = end
        if place != room:
            raise StateError(f"{path} is truncated or has bytes too many: {room} of {place}.")
        header = msgspec.convert(inner, _Header)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateError(f"{path} is not a memory file: its header cannot be read.") from error
    return layout, header


def _json(text: str | bytes) -> Any:
    """Strictly: no key twice, no NaN. Raises ValueError."""
    return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _assemble(path: Path, header: _Header, arrays: dict[str, np.ndarray]) -> MemoryFile:
    memories: dict[str, tuple[Config, State]] = {}
    tensors: dict[str, dict[str, np.ndarray]] = {name: {} for name in header.memories}
    for key, array in arrays.items():
        owner, _, name = key.partition("/")
        if owner not in tensors:
            raise StateError(f"{path}: the array {key!r} belongs to no memory of the file.")
        tensors[owner][name] = array
    versions, older = {}, []
    for name, described in header.memories.items():
        if config_hash(described.config) != described.config_sha256:
            raise StateError(f"{path}: the configuration of {name!r} was altered.")
        saved = migrate.Saved(described.config, tensors[name], described.header)
        versions[name] = version = described.version or migrate.unmarked(saved)
        known = migrate.newest(saved.kind)
        refuse_newer(f"{path} holds {name!r}", version, known, header.by)
        if version < known:
            try:
                migrate.bring_up(saved, version)
            except StateError as error:
                raise StateError(
                    f"{path} cannot be read: its {name!r} is damaged. {error}"
                ) from error
            older.append(f"{name!r} of version {version}, read as {known}")
        memories[name] = saved.config, State(saved.tensors, saved.header)
    if older:
        _tell(path, header.sha256, "; ".join(older))
    return MemoryFile(header.stream, header.seq, memories, header.by, versions, header.schema)


@lru_cache(maxsize=1024)
def _tell(path: Path, sha256: str, older: str) -> None:
    """Once for each file, however often it is read."""
    log.warning("%s holds %s.", path, older)
