"""What the commands that run a graph on one stream share: options, progress, page, the end."""

from __future__ import annotations

import math
import secrets
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from retain.apps import console
from retain.apps.console import INTERRUPTED
from retain.apps.folder import building, free_place, stream_name
from retain.apps.progress import progress
from retain.pipeline.errors import RetainError, SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.graph import Graph
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.recorder import taken
from retain.pipeline.redact import redact
from retain.pipeline.run import Runner, RunReport, run_until_done, start
from retain.pipeline.stage import Sink, StatValue
from retain.pipeline.wire import Fault

if TYPE_CHECKING:
    from retain.apps.page.ask import Asker
    from retain.apps.page.server import Beside, Page
    from retain.apps.page.state import View

RESULTS, REPORT, SUMMARY = "results.jsonl", "report.html", "summary.json"


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What any such command was asked. Zeros and empty words mean: the default."""

    source: str
    name: str = ""
    """Of the stream and its folder; taken from the source when empty."""
    out: Path | None = None
    fps: float = 0.0
    device: str = "auto"
    page: bool = True
    port: int = 0
    open_page: bool = False
    limit: int = 0
    seconds: float = 0.0
    record: Path | None = None
    """File to record what leaves the source to, for playing the run again."""
    record_mb: int = 256
    pace: float = 0.0
    """Times real time at which a finite source plays; 0: as fast as it can be worked off."""
    runner: Runner = "local"
    state: Path | None = None
    """Folder of a snapshot to go on from."""
    linger_s: float = 10.0
    """How long the page stays at the end, while somebody has it open."""
    command: str = "retain"
    """The command line, for the report."""

    @property
    def stream(self) -> str:
        return self.name or stream_name(self.source)


class Footage(ABC):
    """A sink that writes a run down; knows how much of the stream went by, and tells when it was
    enough."""

    def __init__(self) -> None:
        self.frames = 0
        self.footage_s = 0.0
        self.reached = False
        """Whether the time given to ``on_reached`` has come."""
        self._start_s = math.nan
        self._end_s = math.inf
        self._tell: Callable[[], None] | None = None

    def on_reached(self, seconds: float, tell: Callable[[], None]) -> None:
        """Call ``tell`` when ``seconds`` of footage have gone by."""
        self._end_s, self._tell = seconds, tell

    def count(self, frame: Frame) -> None:
        self.frames += 1
        if math.isnan(self._start_s):
            self._start_s = frame.seconds
        self.footage_s = frame.seconds - self._start_s
        if self._tell and not self.reached and self.footage_s >= self._end_s:
            self.reached = True
            self._tell()

    @abstractmethod
    def process(self, packet: Packet) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def line(self, elapsed_s: float, stats: GraphStats) -> str:
        """How far it is, for a person."""


class NodeError(RetainError):
    """A node of the graph ended the run; ``code`` is that of its Fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.code = fault.code


J = TypeVar("J", bound=Footage)
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Finished(Generic[J, R]):
    """How it went: the folder and what was made in it (None when it was cut short)."""

    out: Path | None
    exit_code: int
    journal: J
    made: R | None = None
    took_s: float = math.inf

    @property
    def times_real_time(self) -> float:
        return self.journal.footage_s / self.took_s


def _refuse_unwritable(source: str) -> None:
    """A name that is no text can be opened, but not told to other processes, nor written down."""
    try:
        source.encode()
    except UnicodeEncodeError:
        shown = source.encode(errors="replace").decode()
        raise UsageError(
            f"The name of {shown!r} is not UTF-8, so no result could say what it is of.",
            hint="Rename the file, or link to it by another name.",
        ) from None


def run_stream(
    options: StreamOptions,
    *,
    view: View,
    build: Callable[[bool, bool], Graph],
    journal_in: Callable[[Path], J],
    save: Mapping[str, str],
    write: Callable[[Path, RunReport, J, float], R],
    tell: Callable[[Finished[J, R]], None],
    beside: Beside | None = None,
    min_score: float | None = None,
    asker: Callable[[], Asker] | None = None,
) -> Finished[J, R]:
    """Run a graph on a stream, with progress on stderr and the page where it is wanted.

    ``build(live, page)`` gives the graph, with caller sinks ``results`` and (for a page) ``page``.
    ``journal_in(folder)`` opens the first; ``save`` maps stages to the files of their states;
    ``write(folder, report, journal, took_s)`` adds the rest of the results at the end. ``tell`` is
    called when they are in place, before the page goes. Raises RetainError when there is nothing
    to show for it. ``beside`` is embedded in the page, where there is one; ``min_score`` is what a
    page of boxes shows them from; ``asker`` makes what answers questions on it.
    """
    if options.record is not None and options.record.exists():
        raise taken(options.record)
    _refuse_unwritable(options.source)
    live = is_live(options.source)
    out = free_place(options.out, options.stream)
    with ExitStack() as stack:
        folder = stack.enter_context(building(out))
        journal = journal_in(folder)
        stack.callback(journal.close)
        sinks: dict[str, Sink] = {"results": journal}
        page = stack.enter_context(_page(options, view, beside, asker)) if options.page else None
        if page:
            sinks["page"] = page
            if min_score is not None:
                page.state.show_from(min_score)
        graph = build(live, page is not None)
        states = {stage: str(folder / name) for stage, name in save.items()}
        began = time.monotonic()
        run = stack.enter_context(
            start(graph, runner=options.runner, sinks=sinks, save=states, resume=options.state)
        )
        journal.on_reached(_end_after(options, live), run.stop)
        if page:
            page.attach(run)
        with progress(run, journal.line, began):
            report = run_until_done(run)
        if report.stopped == "aborted":
            return Finished(out=None, exit_code=INTERRUPTED, journal=journal)
        if not journal.frames:
            raise _nothing(report)
        took = time.monotonic() - began
        try:
            made = write(folder, report, journal, took)
            folder.replace(out)
        except OSError as error:
            raise RetainError(
                f"The results could not be written to {str(out)!r}: {error.strerror}."
            ) from error
        code = 1 if report.errors else INTERRUPTED if interrupted(report, journal) else 0
        done = Finished(out=out, exit_code=code, journal=journal, made=made, took_s=took)
        tell(done)
        if options.record is not None:
            console.output().print(f"  {options.record}")
        for fault in report.errors[:1]:
            console.say_error(RetainError(fault.message))
        if page:
            _finish_page(page, out, report, options.linger_s)
    return done


def add_source(
    graph: Graph,
    options: StreamOptions,
    live: bool,
    feeds: str,
    target: str = "retain.pipeline.sources.any:AnySource",
    **own: StatValue,
) -> None:
    """Add the node ``source`` that plays what the options ask for and lead it to the stage
    ``feeds``; where that is asked for through a recorder, which then sees what the stage sees.
    Nothing is lost of a finite source; of a live one, the newest frame wins. ``own``: options of
    sources of another kind, ``target``."""
    limit = options.limit
    if options.seconds and options.fps and not live:
        # Exact, where stopping at a time would let frames through that are already on their way.
        limit = min(limit or sys.maxsize, math.ceil(options.seconds * options.fps))
    graph.source(
        "source",
        target,
        source=options.source,
        stream=options.stream,
        fps=options.fps,
        limit=limit,
        pace=0.0 if live else options.pace,
        **own,
    )
    first = feeds if options.record is None else "record"
    graph.connect("source", first, policy="latest" if live else "block")
    if options.record is not None:
        graph.stage(
            "record",
            "retain.pipeline.recorder:Record",
            path=str(options.record.resolve()),
            max_mb=options.record_mb,
            about=redact(options.source),
            run=secrets.token_hex(8),
        )
        graph.connect("record", feeds)


def add_sinks(graph: Graph, last: str, live: bool, page: bool) -> None:
    """Connect ``last`` to the caller's sinks. Nothing is lost of a finite source."""
    for name in ("results", "page") if page else ("results",):
        graph.sink(name)
        graph.connect(last, name, policy="drop_oldest(64)" if live else "block")


def is_live(source: str) -> bool:
    """Whether SOURCE goes on by itself. Addresses that may be either are opened to find out,
    which waits for those that are not there yet."""
    from retain.pipeline.sources.any import AnySource, describe
    from retain.pipeline.sources.stored import is_stored

    if source.startswith(("room:", "objects:", "worlds:")) or is_stored(source):
        return False
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


def interrupted(report: RunReport, journal: Footage) -> bool:
    """Whether a person stopped it, rather than --seconds."""
    return report.stopped == "drained" and not journal.reached


def incomplete(report: RunReport, journal: Footage) -> str:
    """Why the run is not whole, in a sentence; empty when it is."""
    if report.errors:
        return report.errors[0].message
    return "It was stopped by hand." if interrupted(report, journal) else ""


@contextmanager
def _page(
    options: StreamOptions,
    view: View,
    beside: Beside | None,
    asker: Callable[[], Asker] | None,
) -> Iterator[Page]:
    from retain.apps.page.server import Page

    page = Page(
        options.stream,
        redact(options.source),
        port=options.port,
        view=view,
        beside=beside,
        asker=asker() if asker else None,
    )
    try:
        page.start()
        console.messages().print(f"live page: [link={page.url}]{page.url}[/link]")
        if page.beside:
            url = page.beside.url
            console.messages().print(f"its 3D view alone: [link={url}]{url}[/link]")
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
        more = " and after each question" if page.asker else ""
        say(f"the page stays for {linger_s:.0f} s while it is open{more}; Ctrl-C ends it now")
    ended = time.monotonic()
    with suppress(KeyboardInterrupt):
        while page.state.latest.watchers and time.monotonic() < page.used_at(ended) + linger_s:
            time.sleep(0.1)


def _end_after(options: StreamOptions, live: bool) -> float:
    """Seconds of footage after which the run is stopped; infinite when the source ends itself."""
    exact = options.fps and not live
    return options.seconds if options.seconds and not exact else math.inf


def _nothing(report: RunReport) -> RetainError:
    if report.errors and not report.stopped:  # stages with nothing to save are no news then
        fault = report.errors[0]
        return error_of(fault)
    if report.stopped:
        stopped = RetainError("Stopped before the first frame; nothing was written.")
        stopped.exit_code = INTERRUPTED
        return stopped
    if seen := sum(node.sent for node in report.stats.nodes if node.role == "source"):
        return RetainError(
            f"The source gave {seen} frames, all of which the resumed memory has seen; nothing was"
            " written.",
            hint="If this is other footage of the same name, rename the file.",
        )
    return RetainError("The source ended without a single frame; nothing was written.")


def error_of(fault: Fault) -> RetainError:
    """The error to raise for what ended a graph: of the type that its code stands for."""
    if fault.code in set(SourceFault):
        return SourceError(SourceFault(fault.code), fault.message)
    if fault.code == "usage":
        return UsageError(fault.message)
    return NodeError(fault)
