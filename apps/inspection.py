"""`retain inspect`: what a saved state holds, of which version, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table

from retain.apps import console
from retain.memory import migrate, snapshot
from retain.models.curvestream_many import SCHEMA, VERSION, memories_in
from retain.pipeline import states
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.files import similar

MANY = f"{SCHEMA}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Held:
    """A memory in a file."""

    name: str
    kind: str
    version: int
    """The one it is in."""
    newest: int
    """The one it is read as."""
    nbytes: int
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A node of a graph, or a stream of a file."""

    name: str
    role: str = ""
    """Import path, of a node."""
    sent: int = 0
    """Frames that a source had sent."""
    nbytes: int = 0
    """Of its file."""
    frame: int = -1
    """The last that the memories have seen."""
    memories: tuple[Held, ...] = ()
    damage: str = ""
    """Why its file cannot be read."""


@dataclass(frozen=True, slots=True)
class Found:
    place: str
    what: str
    schema: str
    newest: str
    """What is written today."""
    by: str
    """Version of the program that wrote it; empty where it does not say."""
    written: str
    """UTC."""
    nbytes: int
    parts: tuple[Part, ...] = field(default=())

    @property
    def good(self) -> bool:
        return not any(part.damage for part in self.parts)


def inspect(place: Path, as_json: bool = False) -> int:
    """Print what ``place``, a state's file or a snapshot's folder, holds; 1 when a part of it is
    damaged. Raises UsageError where there is nothing, StateError where all of it is."""
    if not place.exists():
        raise UsageError(f"There is no state {str(place)!r}.", hint=similar(place))
    found = _folder(place) if place.is_dir() else _file(place)
    if as_json:
        print(json.dumps({"good": found.good, **asdict(found)}, indent=1, ensure_ascii=False))
    else:
        _show(found)
    return 0 if found.good else 1


def _folder(folder: Path) -> Found:
    told = states.manifest(folder)
    parts = tuple(_part(folder, node) for node in told.nodes)
    written = ""
    if told.wall_ns:
        written = datetime.fromtimestamp(told.wall_ns // 10**9, UTC).strftime("%F %TZ")
    nbytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    what = f"{told.promise} graph of {len(parts)} nodes"
    newest = f"{states.SCHEMA}/{states.VERSION}"
    return Found(str(folder), what, told.schema, newest, told.by, written, nbytes, parts)


def _part(folder: Path, node: states.NodeState) -> Part:
    nbytes = node.state.nbytes if node.state else 0
    try:
        path = states.state_file(folder, node)
        own = [_stream(name, *found) for name, found in _files(path).items()] if path else []
    except StateError as error:
        return Part(node.name, node.target, node.sent, nbytes, damage=str(error))
    frame = max((part.frame for part in own), default=-1)
    memories = tuple(held for part in own for held in part.memories)
    return Part(node.name, node.target, node.sent, nbytes, frame, memories)


def _file(path: Path) -> Found:
    files = _files(path)
    schema, newest = MANY, MANY
    if "" in files:
        schema, newest = files[""][0].schema, f"{migrate.SCHEMA}/{migrate.FILE_VERSION}"
    by = ", ".join(sorted({file.by for file, _ in files.values() if file.by}))
    parts = tuple(_stream(name, *found) for name, found in files.items())
    what = "memories of " + (", ".join(repr(part.name) for part in parts) or "no stream")
    return Found(str(path), what, schema, newest, by, "", path.stat().st_size, parts)


def _files(path: Path) -> dict[str, tuple[snapshot.MemoryFile, int]]:
    """The memory files in ``path`` and their bytes, by stream; under no name if it is one itself.
    Raises StateError."""
    many = memories_in(path)
    if many is None:
        return {"": (snapshot.load(path), path.stat().st_size)}
    found = {}
    with TemporaryDirectory(prefix="retain-inspect-") as spare:
        for name, data in sorted(many.items()):
            (Path(spare) / "state").write_bytes(data)
            found[name] = snapshot.load(Path(spare) / "state"), len(data)
    return found


def _stream(name: str, file: snapshot.MemoryFile, nbytes: int) -> Part:
    held = []
    for memory, (config, state) in file.memories.items():
        kind = str(config.get("kind", ""))
        size = sum(array.nbytes for array in state.tensors.values())
        version = file.versions[memory]
        held.append(Held(memory, kind, version, migrate.newest(kind), size, dict(config)))
    return Part(name or file.stream, frame=file.seq, nbytes=nbytes, memories=tuple(held))


def _show(found: Found) -> None:
    out = console.output()
    wrote = f"retain {found.by}" if found.by else "a retain that did not say which it was"
    out.print(f"{found.place}: {found.what}, {found.nbytes:,} bytes")
    older = "" if found.schema == found.newest else f", read as {found.newest}"
    out.print(f"  {found.schema}{older}, written by {wrote} {found.written}".rstrip())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("part", "memory", "kind", "version", "bytes", "last frame"):
        table.add_column(column, overflow="fold")
    for part in found.parts:
        if part.sent:
            table.add_row(part.name, f"{part.sent} frames sent")
        for place, one in enumerate(part.memories):
            frame = str(part.frame) if part.frame >= 0 else "–"
            version = str(one.version)
            if one.version != one.newest:
                version += f", read as {one.newest}"
            row = (one.name, one.kind, version, f"{one.nbytes:,}", frame)
            table.add_row("" if place else part.name, *row)
    out.print(table)
    for part in found.parts:
        if part.damage:
            out.print(f"{part.name} is damaged: {part.damage}")
    for part in found.parts:
        for one in part.memories:
            config = ", ".join(f"{k}={v}" for k, v in one.config.items() if k != "kind")
            out.print(f"  {part.name}/{one.name}: {config}")
