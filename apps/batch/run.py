"""`retain batch`: one task for every item of a list, once, whatever happens on the way.

list -> manifest -> engine -> results. The manifest, not the engine, is in charge of what is done
and what is left; the engine only works jobs off.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import itertools
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from retain.apps import console
from retain.apps.batch.engine import NO_SPACE, Engine, Outcome, Spec
from retain.apps.batch.fingerprint import fingerprint
from retain.apps.batch.items import list_items
from retain.apps.batch.local import LocalEngine
from retain.apps.batch.manifest import BAD, Manifest
from retain.apps.batch.progress import Progress, shown
from retain.apps.batch.results import write_tables
from retain.apps.batch.tasks import TARGET, check
from retain.apps.console import INTERRUPTED, PARTIAL
from retain.apps.folder import stream_name
from retain.pipeline.errors import RetainError, UsageError, no_space
from retain.pipeline.redact import redact

MANIFEST, ITEMS, LOGS, WORK, LOCK, REPORT = (
    "manifest.sqlite", "items", "logs", ".work", ".lock", "report.html",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What `retain batch` was asked. Zeros and empty words mean: the default."""

    given: str
    task: str
    settings: dict[str, str] = field(default_factory=dict)
    """Options of the task, as typed."""
    out: Path | None = None
    jobs: int = 0
    timeout_s: float = 0.0
    retry_failed: bool = False
    engine: str = "local"
    """Or ``ray``, with ``address`` and ``gpus`` of RayEngine."""
    address: str = ""
    gpus: float = 0.0
    command: str = "retain batch"

    @property
    def place(self) -> Path:
        """Where the results go: the same for the same words, so that the same command goes on."""
        given = self.given
        if "://" not in given:
            parts = Path(given).parts
            if not os.path.exists(given):  # 'ward/*.avi': ward
                parts = tuple(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
            given = os.path.abspath(Path(*parts))
        return self.out or Path("retain-out") / f"batch-{stream_name(given)}-{self.task}"

    @property
    def origin(self) -> str:
        """The list, whatever folder the command is given in."""
        return redact(self.given if "://" in self.given else os.path.abspath(self.given))


def batch(options: BatchOptions, engine: Callable[[Spec], Engine] | None = None) -> int:
    """Work everything off and return the exit code: 0, PARTIAL where items failed, INTERRUPTED.
    Raises UsageError when there is nothing to work on, or no place for it."""
    settings = check(options.task, options.settings)
    spec = Spec(TARGET, {"task": options.task, "set": settings})
    mark = fingerprint(options.task, settings)
    made = engine or (lambda spec: choose(options, spec))
    return work_off(options, made(spec), mark)


def choose(options: BatchOptions, spec: Spec) -> Engine:
    """The engine that was asked for. Raises UsageError where options do not go with it."""
    if options.engine == "ray":
        from retain.apps.batch.ray_engine import RayEngine

        return RayEngine(
            spec,
            jobs=options.jobs,
            timeout_s=options.timeout_s,
            address=options.address,
            gpus=options.gpus,
        )
    if options.engine != "local":
        raise UsageError(f"There is no engine {options.engine!r}.", hint="local or ray.")
    if options.address or options.gpus:
        raise UsageError("--address and --gpus are for --engine ray.")
    return LocalEngine(spec, jobs=options.jobs, timeout_s=options.timeout_s)


def work_off(options: BatchOptions, engine: Engine, mark: str) -> int:
    """``batch`` with an engine and a fingerprint."""
    from retain.apps.batch.report import write_report

    items, twice = list_items(options.given, scenes=options.task == "reconstruct")
    out = options.place
    with _owned(out), _told(out):
        manifest = Manifest(out / MANIFEST, options.task)
        try:
            manifest.belongs(options.origin, vouched=options.out is not None)
            there = {entry.name for entry in os.scandir(out / ITEMS)}
            manifest.plan(items, mark, there, options.retry_failed)
            if twice:
                console.messages().print(f"{twice} items are named more than once; done once.")
            progress = Progress(manifest.counts(), engine)
            del items, there
            with progress.shown(), _signals(engine) as asked:
                for outcome in engine.run(manifest.jobs(out / WORK, out / LOGS)):
                    if outcome.cause == NO_SPACE:
                        raise OSError(errno.ENOSPC, outcome.message)
                    size = manifest.record(outcome, _publish(out, outcome))
                    progress.ended(outcome, size)
            manifest.release()
            tables = write_tables(out, manifest)
            counts = {state: number for state, (number, _) in manifest.counts().items()}
            write_report(out / REPORT, options, manifest, progress, mark)
            _tell(out, counts, manifest, progress, tables)
        finally:
            manifest.close()
    if asked and counts.keys() & {"pending", "running"}:
        return INTERRUPTED
    return PARTIAL if any(state in counts for state in BAD) else 0


@contextmanager
def _owned(out: Path) -> Iterator[None]:
    """The folder, as the only batch in it; what an earlier one left half done is gone."""
    try:
        for folder in (out, out / ITEMS, out / LOGS):
            folder.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("w")
    except OSError as error:
        raise UsageError(
            f"Results cannot be written to {str(out)!r}: {error.strerror}.",
            hint="Choose a folder you may write to with --out.",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"Another batch works in {str(out)!r}.",
                hint="Wait for it, or choose another --out.",
            ) from None
        shutil.rmtree(out / WORK, ignore_errors=True)
        (out / WORK).mkdir()
        try:
            yield
        finally:
            shutil.rmtree(out / WORK, ignore_errors=True)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """What keeps the batch itself from its folder, as an error that says so."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        full = no_space(error) or "disk is full" in str(error)
        raise RetainError(
            f"The batch cannot go on in {str(out)!r}: {str(error).rstrip('.')}.",
            hint=("Make room on that disk" if full else "Put that right")
            + "; the same command goes on, and no item is charged for it.",
        ) from error


@contextmanager
def _signals(engine: Engine) -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM lets what is under way end, the second drops it. Yields the
    signals that came."""
    asked: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        engine.stop(drain=len(asked) == 1)
        if len(asked) == 1:
            console.messages().print(
                "finishing what is under way; once more drops it. The same command goes on later."
            )

    before = {n: signal.signal(n, on_signal) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _publish(out: Path, outcome: Outcome) -> str:
    """Put the results in place of earlier ones; returns where, relative to ``out``. Earlier results
    of what failed now go away: they are of another file or other options."""
    place = out / ITEMS / outcome.id
    try:
        if place.exists():
            place.rename(out / WORK / f"{outcome.id}.old-{time.monotonic_ns()}")
        if outcome.state != "done":
            return ""
        (out / WORK / outcome.id).rename(place)
    except OSError as error:
        raise OSError(error.errno, f"no results at {str(place)!r}: {error.strerror}") from error
    (out / LOGS / f"{outcome.id}.log").unlink(missing_ok=True)
    return f"{ITEMS}/{outcome.id}"


def _tell(
    out: Path, counts: dict[str, int], manifest: Manifest, progress: Progress, tables: list[Path]
) -> None:
    say: Callable[..., Any] = console.output().print
    say(progress.summary(counts))
    causes = manifest.causes()
    if not counts.get("done") and {cause for _, cause, *_ in causes} == {"usage"}:
        say("Every item was refused: look at the options (--set) first.")
    for state, cause, number, key, message in causes:
        say(f"  {state}: {number} {cause}, such as {shown(key)}: {shown(message)}")
    for path in (*tables, out / REPORT, out / ITEMS):
        say(f"  {path}")
