"""Records: what was measured, when, by which command, of which commit, on which machine.

A file in ``benchmarks/records/`` is one run. `retain bench --record` writes one, as does any
command whose ``--json`` keeps rows; one more in the folder is one more on the page.
"""

from __future__ import annotations

import math
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from retain.apps.bench import Row, folder
from retain.pipeline.errors import StateError

PACKAGES = (
    *("retain", "numpy", "torch", "torchvision", "triton", "numba", "scipy", "pillow"),
    *("opencv-python-headless", "av", "decord", "pyzmq", "msgspec", "safetensors", "pydicom"),
    *("imagezmq", "vidgear", "simplejpeg", "scenedetect-headless", "gsplat", "ray", "diffusers"),
)
"""Whose versions a record tells, where they are installed: what computes, and the peers."""


T = TypeVar("T")


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    processor: str
    cores: int
    memory_gib: float | None = None
    """None: not known, of figures taken from an old page."""
    gpu: str = ""

    def __str__(self) -> str:
        memory = "" if self.memory_gib is None else f", {self.memory_gib:.0f} GiB"
        return f"{self.processor}, {self.cores} cores{memory}, {self.gpu or 'no GPU'}"

    @property
    def slug(self) -> str:
        """For the name of a file."""
        name = re.sub(r"[^a-z0-9]+", "-", f"{self.processor} {self.cores} {self.gpu}".lower())
        return name.strip("-")


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one command found."""

    area: str
    at: str
    """When it began: UTC, ISO 8601."""
    rows: tuple[Row, ...] = ()
    failed: str = ""
    """Why there are no rows."""
    seconds: float | None = None
    cpu_s: float | None = None
    """Of its processes: what ``seconds`` would hardly be below on a machine with nothing else to do
    and one core."""
    load: tuple[float, float] | None = None
    """Of the machine over a minute, before and after."""
    quick: bool = False
    """A first look: never on the page."""
    source: str = ""
    """Where the rows were written down from, if this run did not measure them."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    date: str
    commit: str
    dirty: bool
    """The code that was measured had changes the commit has not."""
    machine: Machine
    versions: dict[str, str]
    omp_threads: str = ""
    """OMP_NUM_THREADS, where it was set."""
    measured: dict[str, Measured] = {}
    """By command, as it is typed."""

    @property
    def file(self) -> str:
        return f"{self.date}-{self.commit}-{self.machine.slug}.json"


def place() -> Path:
    return folder() / "records"


def new() -> Record:
    """An empty record of this moment, machine and commit."""
    commit, dirty = _commit(folder().parent)
    return Record(
        date=now()[:10],
        commit=commit,
        dirty=dirty,
        machine=this_machine(),
        versions=_versions(),
        omp_threads=os.environ.get("OMP_NUM_THREADS", ""),
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _commit(root: Path) -> tuple[str, bool]:
    """Short hash, and whether code differs from it; records and pages are no code."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=7", "HEAD")
        changed = git("status", "--porcelain", "--", ".", ":!docs", ":!benchmarks/records")
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False
    return commit, bool(changed)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "linux": platform.release()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def this_machine() -> Machine:
    import psutil

    named = re.search(r"^model name\s*: (.*)$", _text("/proc/cpuinfo"), re.M)
    cards = Path("/proc/driver/nvidia/gpus").glob("*/information")
    models = (re.search(r"^Model:\s*(.*)$", _text(card), re.M) for card in cards)
    return Machine(
        processor=named[1].strip() if named else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=", ".join(sorted(model[1] for model in models if model)),
    )


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def write(document: Record | Measured, path: Path) -> None:
    """Whole or not at all, in a folder that is made if need be. Infinite values (a peer that never
    came back) are kept as text."""
    data = msgspec.json.encode(_spelt(msgspec.to_builtins(document)))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(msgspec.json.format(data, indent=1) + b"\n")
    temporary.replace(path)


def _spelt(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _spelt(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_spelt(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def read(path: Path) -> Record:
    """Raises StateError for what is no record."""
    return _read(path, Record)


def read_part(path: Path) -> Measured:
    """What a process of its own has written. Raises StateError."""
    return _read(path, Measured)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind, strict=False)
    except (OSError, msgspec.DecodeError) as error:
        raise StateError(
            f"{path} is not a record of measurements: {error}.",
            hint="Take it back from git, or remove it; `retain bench --record` writes new ones.",
        ) from error


def read_all(where: Path) -> list[Record]:
    """Oldest first."""
    found = [read(path) for path in where.glob("*.json")]
    return sorted(
        found, key=lambda r: (r.date, max((m.at for m in r.measured.values()), default=""))
    )


def keep(rows: Iterable[Row], command: str, area: str, path: Path, *, quick: bool = False) -> None:
    """What a single command found, as a record of its own. Where it is kept is no part of what
    was measured, and not of ``command`` either."""
    words = shlex.split(command)
    for at, word in enumerate(words):
        if word == "--json" or word.startswith("--json="):
            del words[at : at + 1 + ("=" not in word)]
            command = shlex.join(words)
            break
    measured = Measured(area=area, at=now(), rows=tuple(rows), load=(load(), load()), quick=quick)
    write(msgspec.structs.replace(new(), measured={command: measured}), path)


def load() -> float:
    return round(os.getloadavg()[0], 2)
