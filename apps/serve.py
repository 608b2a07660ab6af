"""`retain serve`: many live streams in one place, with a memory each and one console page.

One source reads all streams -> one encoder -> a memory per stream -> a results file per stream and
the console. Memories of streams that are not in use lie in the output folder, so that the next
`retain serve` with the same folder goes on with them.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from retain.apps import console
from retain.apps.console import INTERRUPTED
from retain.apps.journal import line_of
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.graph import Graph
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.results import Held
from retain.pipeline.run import Runner, RunReport, run_until_done, start
from retain.pipeline.streams import Settings, load_streams

if TYPE_CHECKING:
    from retain.apps.page.console import Console
    from retain.pipeline.stage import Sink

MEMORIES = "memories"
TOLD_S = 1.0
"""How long the console stays at the end, so that who has it open is told."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What `retain serve` was asked."""

    streams: Path
    out: Path | None = None
    page: bool = True
    port: int = 0
    host: str = "127.0.0.1"
    token_file: Path | None = None
    """With the token of a console that other hosts may open."""
    certificate: Path | None = None
    """PEM file of certificate and private key: the console over https."""
    open_page: bool = False
    download: bool = False
    runner: Runner = "local"
    state: Path | None = None
    """Folder of a snapshot to go on from."""

    @property
    def folder(self) -> Path:
        return self.out or Path("retain-out") / self.streams.stem


class Journals:
    """A sink: ``results-STREAM.jsonl`` for each stream, lines as in `retain watch`. At
    ``max_bytes`` a file becomes ``results-STREAM.1.jsonl``, in place of the one before."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._encoder = msgspec.json.Encoder()
        self._files: dict[str, Any] = {}
        self._held: dict[str, Held] = {}
        self.frames = 0

    def process(self, packet: Packet) -> None:
        stream = packet.frame.stream
        file = self._files.get(stream)
        if file is not None and file.tell() >= self._max_bytes:
            file.close()
            self._path(stream).replace(self._path(f"{stream}.1"))
            file = None
            self._held.pop(stream, None)  # a file tells by itself what is held
        if file is None:
            file = self._files[stream] = self._path(stream).open("ab")
        line = self._encoder.encode(line_of(packet, self._held.get(stream)))
        file.write(line + b"\n")
        file.flush()
        self._held[stream] = packet.get("held", Held)
        self.frames += 1

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _path(self, name: str) -> Path:
        return self._folder / f"results-{name}.jsonl"


def build_graph(options: ServeOptions, settings: Settings, page: bool) -> Graph:
    """The graph: what waits, waits in the source's slots, where the newest frame wins."""
    folder = options.folder.resolve()
    graph = Graph(name="serve", promise="live")
    graph.source(
        "streams",
        "retain.pipeline.sources.group:GroupSource",
        path=str(options.streams.resolve()),
        round=settings.batch,
    )
    graph.stage(
        "encode",
        "retain.models.curvestream_many:EncodeMany",
        encoder=settings.encoder,
        device=settings.device,
        download=options.download,
        batch=settings.batch,
    )
    graph.stage(
        "remember",
        "retain.models.curvestream_many:RememberMany",
        folder=str(folder / MEMORIES),
        mode=settings.mode,
        max_entries=settings.entries,
        token_budget=settings.tokens,
        byte_budget=settings.bytes,
        evict_after_s=settings.evict_after_s,
    )
    graph.connect("streams", "encode", "remember")
    for name in ("results", "console") if page else ("results",):
        graph.sink(name)
        graph.connect("remember", name, policy="drop_oldest(64)")
    return graph


def serve(options: ServeOptions) -> int:
    """Run it until it is stopped; the exit code."""
    settings = load_streams(options.streams).settings
    folder = options.folder
    try:
        (folder / MEMORIES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"Results cannot be written to {str(folder)!r}: {error.strerror}.",
            hint="Choose a folder you may write to with --out.",
        ) from error
    with ExitStack() as stack:
        journals = Journals(folder, settings.journal_bytes)
        stack.callback(journals.close)
        sinks: dict[str, Sink] = {"results": journals}
        page = _page(options, settings, stack) if options.page else None
        if page:
            sinks["console"] = page
        graph = build_graph(options, settings, page is not None)
        run = stack.enter_context(
            start(graph, runner=options.runner, sinks=sinks, resume=options.state)
        )
        if page:
            page.attach(run)
        report = run_until_done(run)
        if page:
            message = (
                report.errors[0].message if report.errors else "Stopped. The memories are saved."
            )
            page.finish(None, message, failed=bool(report.errors))
            if page.state.latest.watchers:
                time.sleep(TOLD_S)
        return _end(report, journals, folder)


def _end(report: RunReport, journals: Journals, folder: Path) -> int:
    for fault in report.errors[:1]:
        console.say_error(RetainError(fault.message))
    say = console.output().print
    say(f"served {journals.frames} frames in {_minutes(report.stats)}", highlight=False)
    say(f"  {folder}", highlight=False)
    if report.errors:
        return 1
    return INTERRUPTED if report.stopped == "aborted" else 0


def _minutes(stats: GraphStats) -> str:
    return f"{stats.uptime_s:.0f} s" if stats.uptime_s < 120 else f"{stats.uptime_s / 60:.0f} min"


def _page(options: ServeOptions, settings: Settings, stack: ExitStack) -> Console:
    from retain.apps.page.access import Access
    from retain.apps.page.console import Console

    if options.certificate and not options.token_file:
        raise UsageError("--certificate is for a console with a token.", hint="Add --token-file.")
    access = Access(options.token_file, options.certificate) if options.token_file else None
    page = Console(options.streams, options.folder, options.port, options.host, access)
    page.start()
    stack.callback(page.stop)
    link = f"console: [link={page.address}]{page.address}[/link]"
    console.messages().print(link, soft_wrap=True)
    if options.open_page:
        import webbrowser

        webbrowser.open(page.address)
    return page
