"""`retain watch`: see a stream, remember what mattered, leave a folder that says so.

source -> encode -> remember -> results (and the live page). The folder is built beside its place
under a hidden name and renamed when it is whole, so what stands under its name is complete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retain.apps import console
from retain.apps.drawing import clock
from retain.apps.running import (
    REPORT,
    RESULTS,
    SUMMARY,
    Finished,
    StreamOptions,
    add_sinks,
    add_source,
    incomplete,
    run_stream,
)
from retain.pipeline.graph import Graph
from retain.pipeline.run import RunReport

if TYPE_CHECKING:
    from retain.apps.journal import Journal
    from retain.apps.page.ask import Asker

MEMORY, VIDEO = "memory.safetensors", "summary.mp4"


@dataclass(frozen=True, kw_only=True)
class WatchOptions(StreamOptions):
    """What `retain watch` was asked. Zeros and empty words mean: the default."""

    fps: float = 2.0
    mode: str = "robust"
    token_budget: int = 0
    byte_budget: int = 0
    max_entries: int = 0
    policy: str = ""
    encoder: str = "mobilenetv2"
    download: bool = False
    resume: Path | None = None
    command: str = "retain watch"


if TYPE_CHECKING:
    Watched = Finished[Journal, int]
    """``made`` is how many frames the memory holds."""


def watch(options: WatchOptions, tell: Callable[[Watched], None]) -> Watched:
    """Run it, with progress on stderr. ``tell`` is called when the results are in place, before
    the page goes. Raises RetainError when there is nothing to show for it."""
    from retain.apps.journal import Journal

    return run_stream(
        options,
        view="watch",
        build=lambda live, page: build_graph(options, live=live, page=page),
        journal_in=lambda folder: Journal(folder / RESULTS),
        save={"remember": MEMORY},
        write=lambda *run: _write_outputs(options, *run),
        tell=tell,
        asker=lambda: _asker(options),
    )


def _asker(options: WatchOptions) -> Asker:
    from retain.apps.page.ask import Asker

    # The times of a memory that goes on with other footage are not that footage's, and a snapshot
    # does not say of which it is.
    source = "" if options.resume or options.state else options.source
    return Asker(source, options.encoder, options.device)


def tell(done: Watched) -> None:
    """The result, on stdout: what was kept, and where it is."""
    assert done.out is not None
    say = console.output().print
    journal = done.journal
    say(
        f"watched {clock(journal.footage_s)} ({journal.frames} frames at "
        f"{done.times_real_time:.1f}x real time), kept {done.made}"
    )
    console.name_files(done.out, REPORT, VIDEO, RESULTS, MEMORY)


def build_graph(options: WatchOptions, *, live: bool, page: bool) -> Graph:
    """The graph of a watch. Nothing is lost of a finite source; of a live one, the newest wins."""
    graph = Graph(name="watch", promise="live" if live else "finite")
    add_source(graph, options, live, feeds="encode")
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
        replayed=(
            bool(options.resume) and not live and _stream_of(options.resume) == options.stream
        ),
    )
    graph.connect("encode", "remember")
    add_sinks(graph, "remember", live, page)
    return graph


def _stream_of(memory: Path | None) -> str:
    from retain.memory.snapshot import load

    return load(memory).stream if memory else ""


def _write_outputs(
    options: WatchOptions, folder: Path, report: RunReport, journal: Journal, took: float
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
        environment=environment(
            options, mode=options.mode, encoder=options.encoder, fps=options.fps
        ),
        incomplete=incomplete(report, journal),
    )
    return len(entries)
