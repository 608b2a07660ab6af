"""`retain bench`: each benchmark in a process of its own; none can spoil or end the rest."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from retain.apps.bench import area, names, purpose, show
from retain.apps.numbers import records
from retain.apps.numbers.records import Measured, Record
from retain.pipeline.errors import UsageError, nearest

PATIENCE_S = 1800.0
"""A benchmark that is not done by then never will be."""
UNKNOWN_S = 60.0
"""What has to be left for a benchmark that no record knows."""


def command(name: str) -> str:
    return f"retain bench {name}"


def chosen(wanted: Iterable[str], usual: dict[str, float]) -> list[str]:
    """Those named, in that order; else all, the longest last, and what no record knows after it.
    Raises UsageError for a name that is none."""
    known = names()
    named = list(wanted)
    for name in named:
        if name not in known:
            raise UsageError(f"There is no benchmark {name!r}.", hint=nearest(name, known))
    return named or sorted(known, key=lambda name: usual.get(name, math.inf))


def usual() -> dict[str, float]:
    """Seconds that each benchmark takes on a machine with nothing else to do, about."""
    found: dict[str, float] = {}
    for record in records.read_all(records.place()):
        for name in names():
            one = record.measured.get(command(name))
            if one and one.seconds is not None and not one.quick and not one.failed:
                seconds = _undisturbed(one, record.machine.cores)
                found[name] = min(seconds, found.get(name, seconds))
    return found


def _undisturbed(one: Measured, cores: int) -> float:
    """What it took, less what its work was slowed down by others: as often as there was more to do
    than cores. Waiting is not slowed down."""
    assert one.seconds is not None
    if one.cpu_s is None or one.load is None:
        return one.seconds
    slowed = max(1.0, sum(one.load) / 2 / cores)
    return max(one.cpu_s, one.seconds - one.cpu_s * (slowed - 1))


def run(
    wanted: Iterable[str] = (),
    *,
    quick: bool = False,
    path: Path | None = None,
    resume: bool = False,
    within_s: float = math.inf,
) -> Record:
    """Measure, print each table, and keep all in ``path`` after each: what is done when it is
    interrupted stays. ``resume``: what ``path`` has is not measured again. ``within_s``: what
    usually takes longer than is left of it is left out, what does so unexpectedly is stopped."""
    times, until = usual(), time.monotonic() + within_s
    order = chosen(wanted, times)
    record = _begun(path)
    left_out = []
    changes = " and changes" if record.dirty else ""
    say(f"{record.machine}; load {records.load()}; commit {record.commit}{changes}")
    for number, name in enumerate(order, 1):
        have = record.measured.get(command(name))
        if resume and have and not have.failed and have.quick == quick:
            continue
        if time.monotonic() + times.get(name, UNKNOWN_S) > until:
            left_out.append(name)
            continue
        took = f", about {minutes(times[name])}" if name in times and not quick else ""
        say(f"[{number}/{len(order)}] {name}{took}: {purpose(name)}")
        found = measured(name, quick, min(PATIENCE_S, until - time.monotonic()))
        if found.failed:
            say(f"{name} was not run: {found.failed}")
        else:
            show(name, found.rows)
        record = msgspec.structs.replace(record, measured={**record.measured, command(name): found})
        if path:
            records.write(record, path)
    if left_out:
        say(f"Left out, for want of time: {', '.join(left_out)}; --resume goes on with them.")
    return record


def _begun(path: Path | None) -> Record:
    """What ``path`` holds so far. Raises UsageError where that is of another commit or machine."""
    record = records.new()
    if path is None or not path.exists():
        return record
    before = records.read(path)
    if (before.commit, before.machine) != (record.commit, record.machine):
        raise UsageError(
            f"{path} was measured at commit {before.commit} on {before.machine}; "
            f"this is {record.commit} on {record.machine}.",
            hint="Give another file: a record is of one commit and one machine.",
        )
    return msgspec.structs.replace(before, dirty=before.dirty or record.dirty)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def measured(name: str, quick: bool, patience_s: float) -> Measured:
    """One benchmark in a process of its own, whatever becomes of that."""
    at, before, began = records.now(), records.load(), time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "measured.json"
        words = [sys.executable, "-m", "retain.apps.numbers.one", name, str(out)]
        failed = _wait(subprocess.Popen([*words, "--quick"] if quick else words), patience_s)
        if out.exists():
            return records.read_part(out)
    return Measured(
        area=area(name),
        at=at,
        failed=failed,
        seconds=round(time.monotonic() - began, 1),
        load=(before, records.load()),
        quick=quick,
    )


def _wait(process: subprocess.Popen[bytes], patience_s: float) -> str:
    """How it ended. Interrupted or out of time it is asked to stop, then made to."""
    try:
        code = process.wait(patience_s)
        ending = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its process ended by {ending}"
    except subprocess.TimeoutExpired:
        return f"it was stopped after {minutes(patience_s)}"
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
