"""What `retain bench` does: measure and keep, list, or write the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from retain.apps import bench, console
from retain.apps.numbers import page, picture, records, run
from retain.pipeline.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options:
    names: tuple[str, ...] = ()
    quick: bool = False
    json: Path | None = None
    record: bool = False
    resume: bool = False
    minutes: float = math.inf


def measure(options: Options) -> int:
    """Exit code 1 where a bar is missed or a benchmark fails."""
    path = _file(options)
    if options.resume and path is None:
        raise UsageError("There is nothing to resume from.", hint="Say --record or --json FILE.")
    try:
        record = run.run(
            options.names,
            quick=options.quick,
            path=path,
            resume=options.resume,
            within_s=60 * options.minutes,
        )
    except KeyboardInterrupt:
        if path and path.exists():
            run.say(f"What is done is kept in {path}; the same command with --resume goes on.")
        raise
    missed = [row for one in record.measured.values() for row in one.rows if row.met is False]
    failed = [name for name, one in record.measured.items() if one.failed]
    run.say(f"{len(missed)} bars missed; not run: {', '.join(failed) or 'none'}")
    if path and path.exists():
        run.say(f"Kept in {path}")
    if options.record:
        write_page()
    return 1 if missed or failed else 0


def _file(options: Options) -> Path | None:
    """Where to keep it. A run that goes on takes the newest file of this commit and machine."""
    if options.json or not options.record:
        return options.json
    if options.quick:
        raise UsageError("A quick run is no record.", hint="Keep it with --json FILE.")
    here = records.new()
    begun = sorted(records.place().glob(f"*-{here.commit}-{here.machine.slug}.json"))
    return begun[-1] if options.resume and begun else records.place() / here.file


def list_all() -> int:
    """A line for each benchmark: name, area, what it took, what it measures, who cites it."""
    from rich.table import Table

    times = run.usual()
    table = Table(box=None, pad_edge=False)
    for column in ("name", "area", "takes", "measures", "cited by"):
        table.add_column(column, overflow="fold")
    for name in run.chosen((), times):
        took = run.minutes(times[name]) if name in times else "?"
        cited = ", ".join(bench.pages(name))
        table.add_row(name, bench.area(name), took, bench.purpose(name), cited)
    console.output().print(table)
    return 0


def write_page() -> int:
    """docs/numbers.md and its picture, as the records give them."""
    root = bench.folder().parent
    every = records.read_all(records.place())
    picture.draw(every, root / picture.FILE)
    (root / page.FILE).write_text(page.text(every))
    run.say(f"{page.FILE} and {picture.FILE} are what {len(every)} records give")
    return 0
