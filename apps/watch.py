"""`retain watch`: see a stream, remember what mattered, leave a folder that says so.

source -> encode -> remember -> results (and the live page). The folder is built beside its place
under a hidden name and renamed when it is whole, so what stands under its name is complete.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retain.apps import console
from retain.apps.drawing import clock
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.graph import Graph
from retain.pipeline.redact import redact
from retain.pipeline.run import Run, Runner, RunReport, run_until_done, start
from retain.pipeline.stage import Sink

if TYPE_CHECKING:
    from retain.apps.journal import Journal
    from retain.apps.page.server import Page

MEMORY, RESULTS, REPORT = "memory.safetensors", "results.jsonl", "report.html"
VIDEO, SUMMARY = "summary.mp4", "summary.json"
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What `retain watch` was asked. Zeros and empty words mean: the default."""

    source: str
    name: str = ""
    """Of the stream and its folder; taken from the source when empty."""
    out: Path | None = None
    fps: float = 2.0
    mode: str = "robust"
    token_budget: int = 0
    byte_budget: int = 0
    max_entries: int = 0
    policy: str = ""
    encoder: str = "mobilenetv2"
    device: str = "auto"
    download: bool = False
    page: bool = True
    port: int = 0
    open_page: bool = False
    limit: int = 0
    seconds: float = 0.0
    pace: float = 0.0
    """Times real time at which a finite source plays; 0: as fast as it can be watched."""
    runner: Runner = "local"
    resume: Path | None = None
    linger_s: float = 10.0
    """How long the page stays at the end, while somebody has it open."""
    command: str = "retain watch"
    """The command line, for the report."""

    @property
    def stream(self) -> str:
        return self.name or stream_name(self.source)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """How it went: the folder (None when nothing was decoded), what was kept, the exit code."""

    out: Path | None
    exit_code: int
    journal: Journal
    kept: int = 0
    took_s: float = math.inf

    @property
    def times_real_time(self) -> float:
        return self.journal.footage_s / self.took_s


def watch(options: WatchOptions, tell: Callable[[Watched], None]) -> Watched:
    """Run it, with progress on stderr. ``tell`` is called when the results are in place, before
    the page goes. Raises RetainError when there is nothing to show for it."""
    from retain.apps.journal import Journal

    live = is_live(options.source)
    out = _free_place(options)
    with ExitStack() as stack:
        folder = stack.enter_context(_building(out))
        journal = Journal(folder / RESULTS)
        stack.callback(journal.close)
        sinks: dict[str, Sink] = {"results": journal}
        page = stack.enter_context(_page(options)) if options.page else None
        if page:
            sinks["page"] = page
        graph = build_graph(options, live=live, page=page is not None)
        save = {"remember": str(folder / MEMORY)}
        began = time.monotonic()
        run = stack.enter_context(start(graph, runner=options.runner, sinks=sinks, save=save))
        journal.on_reached(_end_after(options, live), run.stop)
        if page:
            page.attach(run)
        with _progress(run, journal, began):
            report = run_until_done(run)
        if report.stopped == "aborted":
            return Watched(out=None, exit_code=INTERRUPTED, journal=journal)
        if not journal.frames:
            raise _nothing(report)
        took = time.monotonic() - began
        try:
            kept = _write_outputs(folder, options, report, journal, took)
            folder.replace(out)
        except OSError as error:
            raise RetainError(
                f"The results could not be written to {str(out)!r}: {error.strerror}."
            ) from error
        code = 1 if report.errors else INTERRUPTED if _interrupted(report, journal) else 0
        done = Watched(out=out, exit_code=code, journal=journal, kept=kept, took_s=took)
        tell(done)
        for fault in report.errors[:1]:
            console.say_error(RetainError(fault.message))
        if page:
            _finish_page(page, out, report, options.linger_s)
    return done


def tell(done: Watched) -> None:
    """The result, on stdout: what was kept, and where it is."""
    assert done.out is not None
    say = console.output().print
    journal = done.journal
    say(
        f"watched {clock(journal.footage_s)} ({journal.frames} frames at "
        f"{done.times_real_time:.1f}x real time), kept {done.kept}"
    )
    for name in (REPORT, VIDEO, RESULTS, MEMORY):
        if (done.out / name).exists():
            say(f"  {done.out / name}")


def build_graph(options: WatchOptions, *, live: bool, page: bool) -> Graph:
    """The graph of a watch. Nothing is lost of a finite source; of a live one, the newest wins."""
    limit = options.limit
    if options.seconds and options.fps and not live:
        # Exact, where stopping at a time would let frames through that are already on their way.
        limit = min(limit or sys.maxsize, math.ceil(options.seconds * options.fps))
    graph = Graph(name="watch")
    stream = options.stream
    graph.source(
        "source",
        "retain.pipeline.sources.any:AnySource",
        source=options.source,
        stream=stream,
        fps=options.fps,
        limit=limit,
        pace=0.0 if live else options.pace,
    )
    graph.stage(
        "encode",
        "retain.models.curvestream:Encode",
        encoder=options.encoder,
        device=options.device,
        download=options.download,
    )
    graph.stage(
        "remember",
        "retain.models.curvestream:Remember",
        mode=options.mode,
        max_entries=options.max_entries,
        token_budget=options.token_budget,
        byte_budget=options.byte_budget,
        policy=options.policy,
        resume=str(options.resume.resolve()) if options.resume else "",
        replayed=bool(options.resume) and not live and _stream_of(options.resume) == stream,
    )
    graph.connect("source", "encode", policy="latest" if live else "block")
    graph.connect("encode", "remember")
    for name in ("results", "page") if page else ("results",):
        graph.sink(name)
        graph.connect("remember", name, policy="drop_oldest(64)" if live else "block")
    return graph


def is_live(source: str) -> bool:
    """Whether SOURCE goes on by itself. Addresses that may be either are opened to find out."""
    from retain.pipeline.sources.any import AnySource, describe

    kind = describe(source)
    if kind == "camera":
        return True
    if kind == "synthetic" or source.lower().startswith(("http://", "https://")):
        opened = AnySource(source)
        try:
            return opened.open().kind == "live"
        finally:
            opened.close()
    return kind == "video" and "://" in source and not source.lower().startswith("file://")


def stream_name(source: str) -> str:
    """A short name for the stream, fit for a file name and without credentials."""
    shown = redact(source).partition("?")[0].rstrip("/")
    scheme, found, rest = shown.partition("://")
    base = Path(rest if found else shown)
    name = base.stem if not found else base.name or scheme
    clean = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    return clean.strip("-.")[:60] or "stream"


def _stream_of(memory: Path | None) -> str:
    from retain.memory.snapshot import load

    return load(memory).stream if memory else ""


def _free_place(options: WatchOptions) -> Path:
    """Where the results go. Raises UsageError rather than write over anything."""
    if options.out is not None:
        if options.out.exists():
            raise UsageError(
                f"{str(options.out)!r} is there already, and results never overwrite anything.",
                hint="Choose another --out, or remove it.",
            )
        return options.out
    stamp = time.strftime("%Y%m%d-%H%M%S")
    place = Path("retain-out") / f"{options.stream}-{stamp}"
    number = 2
    while place.exists():
        place = place.with_name(f"{options.stream}-{stamp}-{number}")
        number += 1
    return place


@contextmanager
def _building(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out``; whatever is left of it at the end goes away."""
    made = next((parent for parent in [*out.parents][::-1] if not parent.exists()), None)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UsageError(
            f"Results cannot be written to {str(out.parent)!r}: {error.strerror}.",
            hint="Choose a folder you may write to with --out.",
        ) from error
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made is not None and not out.exists():
            with suppress(OSError):
                out.parent.rmdir()


@contextmanager
def _page(options: WatchOptions) -> Iterator[Page]:
    from retain.apps.page.server import Page

    shown = redact(options.source)
    page = Page(options.stream, shown, port=options.port)
    try:
        page.start()
        console.messages().print(f"live page: [link={page.url}]{page.url}[/link]")
        if options.open_page:
            import webbrowser

            webbrowser.open(page.url)
        yield page
    finally:
        page.stop()


def _finish_page(page: Page, out: Path, report: RunReport, linger_s: float) -> None:
    """Tell the page how it ended, and leave it up for a while for those who have it open."""
    message = report.errors[0].message if report.errors else "The stream has ended."
    page.finish(out / REPORT, message, failed=bool(report.errors))
    if page.state.latest.watchers:
        say = console.messages().print
        say(f"the page stays for {linger_s:.0f} s while it is open; Ctrl-C ends it now")
    deadline = time.monotonic() + linger_s
    with suppress(KeyboardInterrupt):
        while page.state.latest.watchers and time.monotonic() < deadline:
            time.sleep(0.1)


def _end_after(options: WatchOptions, live: bool) -> float:
    """Seconds of footage after which the run is stopped; infinite when the source ends itself."""
    exact = options.fps and not live
    return options.seconds if options.seconds and not exact else math.inf


def _interrupted(report: RunReport, journal: Journal) -> bool:
    """Whether a person stopped it, rather than --seconds."""
    return report.stopped == "drained" and not journal.reached


def _nothing(report: RunReport) -> RetainError:
    if report.errors:
        return RetainError(report.errors[0].message)
    if report.stopped:
        stopped = RetainError("Stopped before the first frame; nothing was written.")
        stopped.exit_code = INTERRUPTED
        return stopped
    return RetainError("The source ended without a single frame; nothing was written.")


def _write_outputs(
    folder: Path, options: WatchOptions, report: RunReport, journal: Journal, took: float
) -> int:
    """Everything beside results.jsonl and the memory itself. Returns how many frames are held."""
    import msgspec

    from retain.apps.journal import environment, write_summary_json
    from retain.apps.report import write_report
    from retain.apps.summary import write_summary
    from retain.memory.curvestream import load_entries

    memory = folder / MEMORY
    entries = load_entries(str(memory)) if memory.exists() else []
    write_summary(folder / VIDEO, entries)
    write_summary_json(folder / SUMMARY, options, report, journal, len(entries), took)
    write_report(
        folder / REPORT,
        title=options.stream,
        results=folder / RESULTS,
        memory=memory,
        stats=msgspec.to_builtins(report.stats),
        environment=environment(options),
        incomplete=_incomplete(report, journal),
    )
    return len(entries)


def _incomplete(report: RunReport, journal: Journal) -> str:
    if report.errors:
        return report.errors[0].message
    return "It was stopped by hand." if _interrupted(report, journal) else ""


@contextmanager
def _progress(run: Run, journal: Journal, began: float) -> Iterator[None]:
    """One line on stderr that keeps itself up to date; nothing where nobody would see it."""
    screen = console.messages()
    if not screen.is_terminal:
        yield
        return
    from rich.live import Live

    def line() -> str:
        return journal.line(time.monotonic() - began, run.stats())

    stop = threading.Event()
    with Live(line(), console=screen, refresh_per_second=4, transient=True) as shown:
        thread = threading.Thread(target=_refresh, args=(shown.update, line, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _refresh(update: Callable[[str], None], line: Callable[[], str], stop: threading.Event) -> None:
    while not stop.wait(0.25):
        update(line())
