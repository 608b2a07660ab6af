"""`retain bench`: every published number, measured beside its peer in one run.

A benchmark is a file in ``benchmarks/`` with ``measure(quick: bool) -> list[Row]``. Times on a
shared machine mean little alone, so each row carries a peer of the same run and their ratio.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import msgspec

import retain
from retain.pipeline.errors import UsageError, nearest


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
    """Where the benchmarks are. They belong to the repository, not to the installed package."""
    path = Path(retain.__file__).resolve().parents[2] / "benchmarks"
    if not path.is_dir():
        raise UsageError(
            "The benchmarks are not part of the installed package.",
            hint="Clone the repository and run `make bench`.",
        )
    return path


def names() -> list[str]:
    return sorted(p.stem for p in folder().glob("*.py") if not p.stem.startswith("_"))


def run(chosen: Iterable[str] = (), *, quick: bool = False) -> list[Row]:
    """Measure the chosen benchmarks (default: all), printing each table as it is done."""
    known = names()
    wanted = list(chosen) or known
    for name in wanted:
        if name not in known:
            raise UsageError(f"There is no benchmark {name!r}.", hint=nearest(name, known))
    print(machine(), file=sys.stderr)
    rows: list[Row] = []
    for name in wanted:
        found = _load(name).measure(quick=quick)
        show(name, found)
        rows.extend(found)
    return rows


def _load(name: str) -> ModuleType:
    """Under its own name, so that a process which a benchmark starts can import it too."""
    if str(folder()) not in sys.path:
        sys.path.append(str(folder()))
    return importlib.import_module(name)


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
            _number(row.value),
            row.unit,
            row.peer,
            _number(row.peer_value),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.bar + mark,
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def machine() -> str:
    """One line about where the numbers come from."""
    load = os.getloadavg()[0]
    return (
        f"retain {retain.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores "
        f"{platform.machine()}, load {load:.1f}"
    )


def save(rows: list[Row], path: Path) -> None:
    """Rows as JSON, written atomically."""
    document = {"machine": machine(), "rows": rows}
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
    temporary.replace(path)


def script(measure: Callable[..., list[Row]], title: str) -> None:
    """`python benchmarks/NAME.py [--json FILE] [--quick]`."""
    import argparse

    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="smaller runs; for a first look")
    given = parser.parse_args()
    rows = measure(quick=given.quick)
    show(title, rows)
    if given.json:
        save(rows, given.json)
