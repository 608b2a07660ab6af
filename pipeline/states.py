"""The state of a whole graph on disk: a folder that can be moved and copied like any other.

``graph.json`` says of which graph it is, how far each source had come, and which bytes belong to
it; beside it lies a file per stage with a state. What lacks a file, or has one of another snapshot,
is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

import retain
from retain.pipeline.errors import StateError
from retain.pipeline.files import similar, write_whole
from retain.pipeline.graph import Graph, Promise
from retain.pipeline.past import Past
from retain.pipeline.runners.rounds import Holdings, checked
from retain.pipeline.versions import refuse_newer, version_of

NAME = "graph.json"
MOST_BYTES = 1 << 20
"""Of ``graph.json``."""
SCHEMA = "retain-graph"
_CHUNK = 1 << 20
_COPY = "Copy it again, whole, once it is there under its own name."

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class StateFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file with a stage's state."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,4}$")]
    nbytes: Count
    sha256: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$")]
    """Empty in a snapshot of version 1, which did not say."""


class NodeState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    target: str
    sent: Count
    """Frames a source had sent."""
    state: StateFile | None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``graph.json`` says."""

    schema: str
    by: str
    """Version of the program that wrote it; empty where it did not say."""
    wall_ns: Count
    """UTC nanoseconds since the epoch when it was written, 0 likewise."""
    promise: Promise
    nodes: list[NodeState]
    """All but sinks, in the graph's order."""
    holdings: Holdings | None
    """Where bytes may move between stages: who has what."""
    sha256: str
    """Of all the rest; empty in a snapshot of version 1."""


def _graph_2(told: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Files have names and sums. They were named by their stages' places in the graph, where sinks
    count too, so only their order tells whose they are."""
    files = sorted((p for p in folder.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    nodes = [dict(node) for node in told["nodes"]]
    stateful = [node for node in nodes if node["state"]]
    if len(files) != len(stateful):
        raise StateError(
            f"The snapshot {folder} has {len(files)} files with a state; {len(stateful)} stages "
            "have one.",
            hint=_COPY,
        )
    for node in nodes:
        node["state"] = None
    for node, path in zip(stateful, files, strict=True):
        node["state"] = {"name": path.name, "nbytes": path.stat().st_size, "sha256": ""}
    holdings = told.get("holdings")
    return {**told, "by": "", "wall_ns": 0, "nodes": nodes, "holdings": holdings, "sha256": ""}


_STEPS: tuple[Callable[[dict[str, Any], Path], dict[str, Any]], ...] = (_graph_2,)
"""From each version to the next."""
VERSION = 1 + len(_STEPS)


def manifest(folder: Path) -> Manifest:
    """What the snapshot in ``folder`` says of itself, as today's version does; its ``schema`` is
    the one it was written in. Raises StateError."""
    path = folder / NAME
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:  # a pipe never ends
            raise StateError(f"{path} is no file, or too long to be a snapshot's.")
        told = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        schema = told.get("schema")
        if not (version := version_of(schema, SCHEMA)):
            raise StateError(f"{folder} is a damaged snapshot: its schema is {schema!r}.")
        refuse_newer(f"{folder} is a snapshot", version, VERSION, told.get("by"))
        if version > 1 and told.get("sha256") != _sum(told):
            raise StateError(f"{path} was altered or damaged: its checksum is wrong.")
        for step in _STEPS[version - 1 :]:
            told = step(told, folder)
        return msgspec.convert(told, Manifest)
    except FileNotFoundError:
        if folder.is_dir():
            raise StateError(f"{folder} is no snapshot: it has no {NAME}.") from None
        raise StateError(f"There is no folder {folder}.", hint=similar(folder)) from None
    except NotADirectoryError:
        raise StateError(f"{folder} is no folder, as a snapshot of a graph is.") from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError,
            KeyError, TypeError, ValueError) as error:  # fmt: skip
        raise StateError(f"{folder} is a damaged snapshot: {error}") from error


def _sum(told: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in told.items() if name != "sha256"}
    return hashlib.sha256(msgspec.json.encode(rest, order="sorted")).hexdigest()


def state_file(folder: Path, node: NodeState) -> Path | None:
    """The file with the state of ``node``, which is the one that was saved; None where the node has
    none. Raises StateError."""
    if node.state is None:
        return None
    path, saved = folder / node.state.name, node.state
    try:
        if not path.is_file():
            raise StateError(f"{folder} lacks the state of {node.name!r}, {path.name}.", hint=_COPY)
        if (size := path.stat().st_size) != saved.nbytes:
            raise StateError(
                f"{path}, the state of {node.name!r}, has {size} bytes, not {saved.nbytes}.",
                hint=_COPY,
            )
        if saved.sha256:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != saved.sha256:
                raise StateError(
                    f"{path} is not the state of {node.name!r} that was saved: it was altered, or "
                    "is of another snapshot.",
                    hint="Take it from where this snapshot was copied from.",
                )
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}.") from error
    return path.resolve()


def write(
    folder: Path,
    graph: Graph,
    sent: Mapping[str, int],
    states: Mapping[str, str],
    holdings: Holdings | None = None,
) -> None:
    """Write a snapshot, whole or not at all: ``sent`` frames by source, ``states`` files by stage.

    Raises StateError when ``folder`` exists or cannot be written.
    """
    if folder.exists():
        raise StateError(f"{folder} exists already.", hint="Name a new folder.")
    nodes = []
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for index, node in enumerate(graph.order()):
                if node.role == "sink":
                    continue
                saved = states.get(node.name)
                state = _copied(Path(saved), unfinished / str(index)) if saved else None
                nodes.append(NodeState(node.name, node.target, sent.get(node.name, 0), state))
            told: dict[str, Any] = msgspec.to_builtins(Manifest(
                f"{SCHEMA}/{VERSION}", retain.__version__, time.time_ns(), graph.promise, nodes,
                holdings, sha256="",
            ))  # fmt: skip
            told["sha256"] = _sum(told)
            write_whole(unfinished / NAME, msgspec.json.encode(told))
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise StateError(f"The snapshot {folder} cannot be written: {error.strerror}.") from error


def _copied(source: Path, to: Path) -> StateFile:
    """Onto the disk, not only into its cache: the folder gets its name when all of it is there."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as given, to.open("wb") as taken:
        while chunk := given.read(_CHUNK):
            digest.update(chunk)
            size += taken.write(chunk)
        taken.flush()
        os.fsync(taken.fileno())
    return StateFile(to.name, size, digest.hexdigest())


def read(folder: Path, graph: Graph) -> tuple[dict[str, Past], Holdings | None]:
    """What each node of ``graph`` takes over from the snapshot in ``folder``, and who had which
    bytes. Raises StateError when it is not whole, damaged or of another graph."""
    told = manifest(folder)
    nodes = [node for node in graph.order() if node.role != "sink"]
    if [(n.name, n.target) for n in told.nodes] != [(n.name, n.target) for n in nodes]:
        raise StateError(
            f"{folder} is of a graph of {', '.join(node.name for node in told.nodes)}; this one "
            f"has {', '.join(node.name for node in nodes)}."
        )
    pasts = {}
    for saved, node in zip(told.nodes, nodes, strict=True):
        path = state_file(folder, saved)
        again = graph.promise == "finite" and node.role == "source"
        pasts[node.name] = Past(
            load=str(path) if path else None,
            sent=saved.sent if again else 0,
            gap=graph.promise == "live" and node.role == "stage",
        )
    return pasts, checked(told.holdings) if told.holdings else None


def adopt(pasts: Mapping[str, Past], directory: str) -> dict[str, Past]:
    """The same with the states copied to ``directory``: they are needed as long as the run is."""
    kept = {}
    for place, (name, past) in enumerate(pasts.items()):
        if past.load:
            copy = f"{directory}/resumed-{place}"
            shutil.copyfile(past.load, copy)
            past = msgspec.structs.replace(past, load=copy)
        kept[name] = past
    return kept
