"""What the protocols share: options, tables, and results kept per item so that a run goes on.

A protocol is a function of ``SetOptions`` and ``Kept`` that gives ``Table``s. What it finds out of
one item (a clip, a sequence) it asks of ``Kept``, which answers from the folder where it was found
out before.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import retain
from retain.apps import console
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.files import write_whole

ITEMS, RUN, TABLES, LOCK = "items", "run.json", "tables.json", ".lock"


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """What `retain eval set` was asked."""

    path: str
    protocol: str = ""
    """One of ``PROTOCOLS``; empty: told from what lies at ``path``."""
    split: str = ""
    """Empty: the published one."""
    limit: int = 0
    """Items at most; 0: all. A table of some items says so."""
    weights: str = ""
    """Of the network that is judged; empty: what ships."""
    device: str = "cpu"
    out: Path = Path()
    """Empty: ``retain-out/eval-NAME``."""
    json: Path | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """As it is published, and as it is printed."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str | float | int, ...]]
    notes: tuple[str, ...] = ()
    """What was left out, and how this differs from the published protocol."""


class Kept:
    """What was found out per item, in a folder; of these options alone.

    Raises StateError when the folder holds results of other options or another version, or another
    run is at work in it; UsageError when it cannot be written.
    """

    def __init__(self, folder: Path, options: SetOptions, **more: object) -> None:
        self.folder = folder
        self.failed = 0
        """Items that could not be judged."""
        own = {k: v for k, v in asdict(options).items() if k not in ("limit", "out", "json")}
        own["path"] = os.path.realpath(options.path)
        about = {**own, **more, "weights_sha256": _digest(options.weights)}
        self._key = json.loads(json.dumps({**about, "version": retain.__version__}, default=str))
        self._lock = _locked(folder)
        mark = folder / RUN
        if mark.exists() and _read(mark) != self._key:
            self.close()
            raise StateError(
                f"{str(folder)!r} holds results of other options, weights or of another version.",
                hint="Choose another --out, or remove that folder.",
            )
        write_whole(mark, json.dumps(self._key, indent=1).encode())

    def close(self) -> None:
        """Others may work in the folder."""
        self._lock.close()

    def ask(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The facts of item ``name``: from the folder, or of ``make``, which are kept. What has an
        ``error`` is tried again the next time: its files may have been mended."""
        short = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        path = self.folder / ITEMS / f"{short}.json"
        if path.exists():
            held = _read(path)
            if isinstance(held, dict) and held.get("item") == name and "facts" in held:
                return dict(held["facts"])
        facts = dict(make())
        if facts.get("error"):
            self.failed += 1
        else:
            write_whole(path, json.dumps({"item": name, "facts": facts}).encode())
        return json.loads(json.dumps(facts))  # type: ignore[no-any-return]


def _locked(folder: Path) -> BinaryIO:
    """The folder, made, for nobody else until this is closed."""
    try:
        (folder / ITEMS).mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("ab")
    except OSError as error:
        raise UsageError(
            f"Results cannot be written to {str(folder)!r}: {error.strerror}.",
            hint="Choose a folder you may write to with --out.",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise StateError(
            f"Another `retain eval set` is at work in {str(folder)!r}.",
            hint="Wait for it, or choose another --out.",
        ) from error
    return lock


def _read(path: Path) -> object:
    """Of JSON; None where it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def _digest(weights: str) -> str:
    """SHA-256 of a file of weights; empty for a name, whose weights are of the version."""
    path = Path(weights)
    if not weights or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Tell = Callable[[str, int, int], None]
"""Text, items done, of how many (0: unknown)."""
Protocol = Callable[[SetOptions, Kept, Tell], Iterable[Table]]


@dataclass(frozen=True, slots=True)
class Known:
    """A protocol by name."""

    name: str
    what: str
    recognises: Callable[[Path], bool]
    run: str
    """``module:function``."""
    splits: tuple[str, ...] = field(default=())
    """The published one first."""
    network: bool = False
    """Whether it has --weights and a --device to choose."""


def chosen(options: SetOptions, known: Sequence[Known]) -> Known:
    """The protocol that was named, or the one for what lies at ``path``. Raises UsageError."""
    by = {one.name: one for one in known}
    if not Path(options.path).exists():
        raise UsageError(f"There is nothing at {options.path!r}.")
    if options.protocol:
        if options.protocol not in by:
            raise UsageError(
                f"There is no protocol {options.protocol!r}.", hint=nearest(options.protocol, by)
            )
        found = by[options.protocol]
    else:
        path = Path(options.path)
        fitting = [one for one in known if one.recognises(path)]
        if not fitting:
            raise UsageError(
                f"{options.path!r} is none of the data sets with a protocol "
                f"({', '.join(one.name for one in known)}).",
                hint=f"retain data doctor {options.path} says what it is and what is missing.",
            )
        found = fitting[0]
    if options.split and options.split not in found.splits:
        raise UsageError(
            f"{found.name} has the splits {', '.join(found.splits) or '(none)'}, "
            f"not {options.split!r}."
        )
    if not found.network and (options.weights or options.device not in ("cpu", "auto")):
        raise UsageError(
            f"What {found.name} judges has no network to choose.",
            hint="Leave out --weights and --device.",
        )
    return found


def show(tables: Iterable[Table]) -> None:
    """On stdout."""
    from rich.table import Table as Rich

    say = console.output().print
    for table in tables:
        out = Rich(title=_text(table.title), title_justify="left")
        for k, column in enumerate(table.head):
            out.add_column(column, justify="right" if k else "left")
        for row in table.rows:
            out.add_row(*(_cell(value) for value in row))
        say(out)
        for note in table.notes:
            say(f"  {_text(note)}", style="dim", highlight=False)


def save(path: Path, tables: Sequence[Table]) -> None:
    """As JSON; numbers that are not finite as null."""

    def plain(value: object) -> object:
        return None if isinstance(value, float) and value - value != 0 else value

    document = [{**asdict(t), "rows": [[plain(v) for v in row] for row in t.rows]} for t in tables]
    try:
        write_whole(path, json.dumps(document, indent=1).encode())
    except OSError as error:
        raise UsageError(
            f"The tables cannot be written to {str(path)!r}: {error.strerror}."
        ) from error


def _cell(value: str | float | int) -> str:
    if isinstance(value, str | int):
        return _text(str(value))
    return "" if value != value else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _text(value: str) -> str:
    """As it can be printed: names of files need not be text."""
    return value.encode(errors="replace").decode()


@contextmanager
def told() -> Iterator[Tell]:
    """One line on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    screen = console.messages()
    if not screen.is_terminal:
        yield lambda text, done, of: None
        return
    text = TextColumn("{task.description}", markup=False)  # a name may have brackets
    columns = text, BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("")
        yield lambda text, done, of: bar.update(
            task, description=_text(text), completed=done, total=of or None
        )


def limited(options: SetOptions, items: Iterable[Any]) -> Iterator[Any]:
    """At most ``limit`` of ``items``."""
    for k, item in enumerate(items):
        if options.limit and k >= options.limit:
            return
        yield item


def partly(options: SetOptions) -> tuple[str, ...]:
    """What a table has to say where items were left out on purpose."""
    return (f"The first {options.limit} items alone (--limit).",) if options.limit else ()
