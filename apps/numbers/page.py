"""docs/numbers.md, made of nothing but the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from retain.apps.bench import Row, number
from retain.apps.numbers.records import Measured, Record

FILE = "docs/numbers.md"
AREAS = ("runtime", "memory", "kernels", "models", "apps", "other")
HEAD = """# Numbers

`retain bench --page` writes this page from the records in `benchmarks/records/`; nothing here is
typed, and a test fails where page and records differ. The command beside a figure measures it
again, beside its peer; with `--record` it keeps what it finds and writes the page. `make bench`
does that for all (`retain bench --record --minutes 40`: what fits into 40 minutes, longest last;
`--resume` goes on; `retain bench --list` tells what each takes). The last record of each command
counts, of machines with and without a GPU by themselves; "quick" runs never do.

**Ratio**: how many times better than the peer of the same run, whatever the unit; below 1 the peer
is better. Where a machine was busy (its load is told below) ratios hold better than times, and
wall times not at all. **Bar**: what we promised ourselves, and whether it was met.

![Ratios to peers over time, one panel for each benchmark](pictures/numbers.webp)
"""


class Entry(msgspec.Struct, frozen=True):
    """What a command found last."""

    command: str
    measured: Measured
    record: Record


def text(every: Sequence[Record]) -> str:
    """``every`` oldest first. Raises nothing: records are checked when they are read."""
    found = latest(every)
    used = [r for r in every if any(r is entry.record for entry in found)]
    label = {id(record): letters(k) for k, record in enumerate(used)}
    parts = [HEAD, *_missed(found), *_failures(every)]
    for area in AREAS:
        if of_it := [e for e in found if e.measured.area == area or
                     (area == "other" and e.measured.area not in AREAS)]:  # fmt: skip
            parts += [f"\n## {area.capitalize()}\n", *_table(of_it, label)]
    return "\n".join([*parts, *_records(used, label, found)]) + "\n"


def latest(every: Sequence[Record]) -> list[Entry]:
    """By command: the last that has rows and is no quick look, with a GPU and without."""
    found: dict[tuple[str, bool], Entry] = {}
    for record in every:
        for command, one in record.measured.items():
            if one.rows and not one.quick:
                key = command, bool(record.machine.gpu)
                if key not in found or found[key].measured.at <= one.at:
                    found[key] = Entry(command, one, record)
    return [found[key] for key in sorted(found)]


def full_names(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """A name that begins with … goes on from the last that does not."""
    head = ""
    for row in rows:
        if row.name.startswith("…"):
            yield f"{head} {row.name}", row
        else:
            head = row.name
            yield head, row


def _missed(found: Sequence[Entry]) -> Iterator[str]:
    missed = [
        f"- {cell(name)}: {value(row)}{_ratio(row)}, bar {cell(row.bar)} "
        f"(`{entry.command}`{_load(entry.measured)})"
        for entry in found
        for name, row in full_names(entry.measured.rows)
        if row.met is False
    ]
    bars = sum(row.met is not None for entry in found for row in entry.measured.rows)
    yield "\n## Bars missed\n"
    yield f"{len(missed)} of {bars}." if missed else f"None of {bars}."
    if missed:
        yield ""
        yield from missed


def _ratio(row: Row) -> str:
    return "" if row.ratio is None else f", {row.ratio:.2f} times {cell(row.peer)}"


def _load(one: Measured) -> str:
    return "" if one.load is None else f", load {max(one.load):.0f}"


def _failures(every: Sequence[Record]) -> Iterator[str]:
    """What the last try of a command did not measure."""
    last: dict[tuple[str, bool], Measured] = {}
    for record in every:
        for command, one in record.measured.items():
            key = command, bool(record.machine.gpu)
            if not one.quick and (key not in last or last[key].at <= one.at):
                last[key] = one
    failed = [
        (command, one)
        for (command, _), one in sorted(last.items(), key=lambda one: one[0])
        if one.failed
    ]
    if failed:
        yield "\n## Not run\n"
        yield "The last try of these failed; what an earlier record has stands below.\n"
        for command, one in failed:
            yield f"- `{command}`, {one.at[:10]}: {cell(one.failed)}"


def _table(entries: Sequence[Entry], label: dict[int, str]) -> Iterator[str]:
    yield "| what | value | peer | ratio | bar | record | command |"
    yield "|---|---|---|---|---|---|---|"
    for entry in entries:
        where = f"{entry.measured.at[:10]} {label[id(entry.record)]}"
        where += ", from a page" if entry.measured.source else ""
        for row in entry.measured.rows:
            peer = "" if row.peer_value is None else f": {number(row.peer_value)}"
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            verdict = "" if row.met is None else (" met" if row.met else " **MISSED**")
            columns = (cell(row.name), value(row), cell(row.peer) + peer, ratio)
            line = (*columns, cell(row.bar) + verdict, where, f"`{entry.command}`")
            yield "| " + " | ".join(line) + " |"


def _records(
    used: Sequence[Record], label: dict[int, str], found: Sequence[Entry]
) -> Iterator[str]:
    yield "\n## Records\n"
    yield "A commit with + had changes. Load: of the machine over a minute, least and most.\n"
    yield "| | date | commit | machine | load | versions |"
    yield "|---|---|---|---|---|---|"
    sources = []
    for record in used:
        own = [entry.measured for entry in found if entry.record is record]
        loads = [load for one in own if one.load for load in one.load]
        load = f"{min(loads):.1f} to {max(loads):.1f}" if loads else "not told"
        threads = f", OMP_NUM_THREADS={record.omp_threads}" if record.omp_threads else ""
        versions = ", ".join(f"{name} {v}" for name, v in record.versions.items()) or "not told"
        commit = record.commit + ("+" if record.dirty else "")
        mark = label[id(record)]
        line = (mark, record.date, commit, f"{record.machine}{threads}", load, versions)
        yield "| " + " | ".join(line) + " |"
        sources += [f"- {mark}, `{e.command}`: {e.measured.source}" for e in found
                    if e.record is record and e.measured.source]  # fmt: skip
    if sources:
        yield "\nNot measured by the run that keeps them, but written down once from a page:\n"
        yield from sources


def letters(k: int) -> str:
    """A, B, … Z, AA, …"""
    return (letters(k // 26 - 1) if k >= 26 else "") + chr(ord("A") + k % 26)


def value(row: Row) -> str:
    return f"{number(row.value)} {cell(row.unit)}".strip()


def cell(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
