"""What the protocols share: options, tables, and results kept per item so that a run goes on.

A protocol is a function of ``SetOptions`` and ``Kept`` that gives ``Table``s. What it finds out of
one item (a clip, a sequence) it asks of ``Kept``, which answers from the folder where it was found
out before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import retain
from retain.apps import console
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.files import write_whole

ITEMS, RUN, TABLES = "items", "run.json", "tables.json"


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

    Raises StateError when the folder holds results of other options or another version.
    """

    def __init__(self, folder: Path, options: SetOptions, **more: object) -> None:
        self.folder = folder
        own = {k: v for k, v in asdict(options).items() if k not in ("limit", "out", "json")}
        about = {**own, **more, "version": retain.__version__}
        self._key = json.loads(json.dumps(about, default=str))
        mark = folder / RUN
        if mark.exists() and json.loads(mark.read_bytes()) != self._key:
            raise StateError(
                f"{str(folder)!r} holds results of other options or of another version.",
                hint="Choose another --out, or remove that folder.",
            )
        (folder / ITEMS).mkdir(parents=True, exist_ok=True)
        write_whole(mark, json.dumps(self._key, indent=1).encode())

    def ask(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The facts of item ``name``: from the folder, or of ``make``, which are kept."""
        short = hashlib.sha256(name.encode()).hexdigest()[:16]
        path = self.folder / ITEMS / f"{short}.json"
        if path.exists():
            try:
                held = json.loads(path.read_bytes())
                if held["item"] == name:
                    return dict(held["facts"])
            except (ValueError, KeyError, TypeError):
                pass  # broken off while it was written by something else: found out again
        facts = dict(make())
        write_whole(path, json.dumps({"item": name, "facts": facts}).encode())
        return json.loads(json.dumps(facts))  # type: ignore[no-any-return]


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


def chosen(options: SetOptions, known: Sequence[Known]) -> Known:
    """The protocol that was named, or the one for what lies at ``path``. Raises UsageError."""
    by = {one.name: one for one in known}
    if options.protocol:
        if options.protocol not in by:
            raise UsageError(
                f"There is no protocol {options.protocol!r}.", hint=nearest(options.protocol, by)
            )
        found = by[options.protocol]
    else:
        path = Path(options.path)
        if not path.exists():
            raise UsageError(f"There is nothing at {options.path!r}.")
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
    return found


def show(tables: Iterable[Table]) -> None:
    """On stdout."""
    from rich.table import Table as Rich

    say = console.output().print
    for table in tables:
        out = Rich(title=table.title, title_justify="left")
        for k, column in enumerate(table.head):
            out.add_column(column, justify="right" if k else "left")
        for row in table.rows:
            out.add_row(*(_cell(value) for value in row))
        say(out)
        for note in table.notes:
            say(f"  {note}", style="dim", highlight=False)


def save(path: Path, tables: Sequence[Table]) -> None:
    """As JSON; numbers that are not finite as null."""

    def plain(value: object) -> object:
        return None if isinstance(value, float) and value - value != 0 else value

    document = [{**asdict(t), "rows": [[plain(v) for v in row] for row in t.rows]} for t in tables]
    write_whole(path, json.dumps(document, indent=1).encode())


def _cell(value: str | float | int) -> str:
    if isinstance(value, str | int):
        return str(value)
    return "" if value != value else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


@contextmanager
def told() -> Iterator[Tell]:
    """One line on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    screen = console.messages()
    if not screen.is_terminal:
        yield lambda text, done, of: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("")
        yield lambda text, done, of: bar.update(
            task, description=text, completed=done, total=of or None
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
