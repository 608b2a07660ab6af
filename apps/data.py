"""`retain data doctor` and `retain data list`: findings as tables, and as JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.apps import console
from retain.datasets.doctor.base import Finding, Line, Report
from retain.datasets.doctor.kits import KITS
from retain.pipeline.errors import MissingExtra, UsageError
from retain.pipeline.files import write_whole

if TYPE_CHECKING:
    from rich.progress import Progress

NOT_WHOLE, UNKNOWN = 3, 2
_WORDS = {
    "ok": ("ok", "green"),
    "note": ("note", "cyan"),
    "absent": ("absent", "dim"),
    "partial": ("partial", "yellow"),
    "broken": ("broken", "red"),
}


def doctor(path: Path, *, deep: bool, out: Path | None) -> int:
    """Print what is at ``path``; 0 whole, 3 partial or broken, 2 unknown.

    ``out`` gets the same as JSON. KeyboardInterrupt during a deep check, or MissingExtra, passes on
    after what was found until then has been printed. Raises UsageError when ``out`` cannot be
    written.
    """
    from retain.datasets.doctor.deep import examine
    from retain.datasets.doctor.recognise import recognise

    with _quiet(), _progress() as shown:
        listed = shown.add_task("listing", total=None)
        report = recognise(path, lambda count: shown.update(listed, completed=count))
        shown.remove_task(listed)
        stopped: KeyboardInterrupt | MissingExtra | None = None
        for finding in report.findings if deep else ():
            task = shown.add_task(f"opening {finding.kit.title}", total=None)
            try:
                examine(finding, lambda done, n, t=task: shown.update(t, completed=done, total=n))  # type: ignore[misc]
            except (KeyboardInterrupt, MissingExtra) as error:
                stopped = error
                break
    _show(report)
    if out is not None:
        try:
            write_whole(out, json.dumps(document(report), indent=1).encode())
        except OSError as error:
            raise UsageError(f"{str(out)!r} cannot be written: {error.strerror}.") from None
    if stopped is not None:
        raise stopped
    return {"whole": 0, "unknown": UNKNOWN}.get(report.state, NOT_WHOLE)


def document(report: Report) -> dict[str, Any]:
    """A report as JSON's types."""
    return {
        "path": str(report.path),
        "state": report.state,
        "guess": report.guess,
        "findings": [
            {
                "dataset": finding.kit.key,
                "title": finding.kit.title,
                "root": str(finding.root),
                "state": finding.state,
                "items": finding.items,
                "unit": finding.kit.unit,
                "checks": [asdict(line) for line in finding.lines],
                "commands": finding.commands,
                "terms": finding.kit.terms,
                "where": finding.kit.where,
                "page": finding.kit.page,
            }
            for finding in report.findings
        ],
    }


def known() -> None:
    """Print every data set that is known."""
    from rich.text import Text

    out = console.output()
    for kit in KITS:
        if not kit.page:
            continue
        table = _table()
        for name, text in (
            ("for", kit.use),
            ("terms", kit.terms),
            ("get it", kit.where),
            ("page", kit.page),
            ("layout", kit.layout),
            ("sizes", ", ".join(f"{p.name} {p.items:,}" for p in kit.parts)),
            ("judged by", kit.protocol),
        ):
            if text:
                table.add_row("", name, Text(text))
        out.print(Text(f"{kit.title} ({kit.key})", "bold"))
        out.print(table)


def _show(report: Report) -> None:
    from rich.text import Text

    out = console.output()
    for finding in report.findings:
        out.print(Text(f"{finding.kit.title}", "bold"), Text(f" {finding.root}"), sep="")
        table = _table()
        for line in finding.lines:
            _row(table, line)
        if finding.state != "whole" and finding.kit.page:
            table.add_row("", "get it", Text(finding.kit.page))
            table.add_row("", "terms", Text(finding.kit.terms))
        out.print(table)
        out.print(f"\n{_verdict(finding)}")
        for command in finding.commands:  # not in the table, which would break them into lines
            out.print(Text(f"    {command}", "bold"))
    if not report.findings:
        out.print(f"{report.path}: no data set that is known.")
    if report.guess:
        out.print(report.guess)


def _row(table: Any, line: Line) -> None:
    from rich.text import Text

    word, style = _WORDS[line.state]
    table.add_row(Text(word, style), line.name, Text(line.found))
    if line.count:
        table.add_row("", "", Text(line.listing, "dim"))
    if line.fix and line.state in ("partial", "broken"):
        table.add_row("", "", Text(line.fix, "bold"))


def _verdict(finding: Finding) -> str:
    what = {
        "whole": "whole",
        "partial": "usable in part: something is missing",
        "broken": "broken: something cannot be used as it is",
    }
    return f"{finding.kit.title}: {what[finding.state]}"


def _table() -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    return table


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr, where that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shows = sys.stderr.isatty()
    with Progress(*columns, console=console.messages(), transient=True, disable=not shows) as one:
        yield one


@contextmanager
def _quiet() -> Iterator[None]:
    """Readers log what they meet; here it is counted and shown instead."""
    log = logging.getLogger("retain.datasets")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
