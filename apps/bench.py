"""`retain bench`: every published number, measured beside its peer in one run.

A benchmark is a file in ``benchmarks/`` with ``measure(quick: bool) -> list[Row]``, a docstring
whose first sentence says what it measures, and an ``AREA`` of docs/numbers.md. Times on a shared
machine mean little alone, so each row carries a peer of the same run and their ratio.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import msgspec

import retain
from retain.pipeline.errors import UsageError


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number. ``ratio`` > 1 means better than the peer, whatever the unit."""

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    bar: str = ""
    """What we promise, in words: ``>= 3x``, ``<= 20 us``. Empty: no promise."""
    met: bool | None = None


def folder() -> Path:
    """Where the benchmarks are. They belong to the repository, not to the installed package;
    RETAIN_BENCHMARKS names another place, of your own."""
    ours = Path(retain.__file__).resolve().parents[2] / "benchmarks"
    path = Path(os.environ.get("RETAIN_BENCHMARKS", ours))
    if not path.is_dir():
        raise UsageError(
            "The benchmarks are not part of the installed package.",
            hint="Clone the repository and run `make bench`.",
        )
    return path


def names() -> list[str]:
    return sorted(p.stem for p in folder().glob("*.py") if not p.stem.startswith("_"))


def load(name: str) -> ModuleType:
    """Under its own name, so that a process which a benchmark starts can import it too."""
    if str(folder()) not in sys.path:
        sys.path.append(str(folder()))
    return importlib.import_module(name)


def area(name: str) -> str:
    """What a benchmark's ``AREA = "…"`` says, read without running it."""
    for line in _tree(name).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "AREA":
            return str(ast.literal_eval(line.value))
    return "other"


def purpose(name: str) -> str:
    """The first sentence of its docstring."""
    first = " ".join((ast.get_docstring(_tree(name)) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) ", first)[0].rstrip(".")


def _tree(name: str) -> ast.Module:
    return ast.parse((folder() / f"{name}.py").read_text())


def pages(name: str) -> list[str]:
    """Which documents send their reader to it, but for the one that names all."""
    root = folder().parent
    texts = [root / "README.md", *sorted({*root.glob("docs/*.md")} - {root / "docs/numbers.md"})]
    texts += sorted(root.glob("models/*/shipped/MODEL_CARD.md"))
    mention = re.compile(rf"retain bench [\w ]*\b{name}\b|benchmarks/{name}\.py|\| `{name}` \|")
    return [str(p.relative_to(root)) for p in texts if mention.search(p.read_text())]


def show(title: str, rows: Iterable[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in ("what", "value", "unit", "peer", "peer value", "ratio", "bar"):
        justify = "right" if column in ("value", "peer value", "ratio") else "left"
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        mark = "" if row.met is None else (" met" if row.met else " MISSED")
        table.add_row(
            row.name,
            number(row.value),
            row.unit,
            row.peer,
            number(row.peer_value),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.bar + mark,
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def script(measure: Callable[..., list[Row]], title: str) -> None:
    """`python benchmarks/NAME.py [--json FILE] [--quick]`; `[--picture FILE]` too where ``measure``
    takes the ``picture`` it is to draw."""
    import argparse
    import inspect

    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="smaller runs; for a first look")
    draws = "picture" in inspect.signature(measure).parameters
    if draws:
        parser.add_argument("--picture", type=Path, help="draw it (.webp)")
    given = parser.parse_args()
    rows = measure(quick=given.quick, **({"picture": given.picture} if draws else {}))
    show(title, rows)
    if given.json:
        from retain.apps.numbers import records

        name = Path(sys.argv[0]).stem
        records.keep(rows, f"retain bench {name}", area(name), given.json, quick=given.quick)
