"""`retain imagine`: how new each moment of a stream is, what a model thinks comes next, and frames
that are missing filled in, guided by clips of the stream's own past or by others.

source -> imagine -> results (and the live page). The folder is built beside its place under a
hidden name and renamed when it is whole, as for `retain watch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from retain.apps import console
from retain.apps.drawing import clock, number, size
from retain.apps.running import (
    SUMMARY,
    Finished,
    StreamOptions,
    add_sinks,
    add_source,
    incomplete,
    run_stream,
)
from retain.pipeline.errors import UsageError
from retain.pipeline.graph import Graph
from retain.pipeline.run import RunReport

if TYPE_CHECKING:
    from retain.apps.imagine.record import Recorder
    from retain.memory.clips.config import ClipShape

ANY_SOURCE = "retain.pipeline.sources.any:AnySource"
WORLDS = "retain.datasets.worlds.source:WorldSource"
STAGE = "retain.models.ditmem.stage:Imagine"
SCOPE = (
    "The shipped weights know small generated worlds: 12x12 grey pixels, 8 frames. What they make "
    "and measure there is tested; of camera footage the novelty is a research feature."
)

What = Literal["novelty", "predict", "fill"]


@dataclass(frozen=True, kw_only=True)
class ImagineOptions(StreamOptions):
    """What `retain imagine` was asked. Zeros and empty words mean: the default."""

    weights: str = "auto"
    what: What = "novelty"
    ahead: str = ""
    """How far: frames (``12``) or seconds (``1.5s``)."""
    references: str = ""
    past: bool = True
    k: int = 3
    samples: int = 4
    drop: float = 0.0
    memory_mb: float = 2.0
    seed: int = 0
    command: str = "retain imagine"


if TYPE_CHECKING:
    Imagined = Finished[Recorder, None]


def imagine(options: ImagineOptions, tell: Callable[[Imagined], None]) -> Imagined:
    """Run it, with progress on stderr. ``tell`` is called when the results are in place, before
    the page goes. Raises RetainError when there is nothing to show for it."""
    from retain.apps.imagine.record import Recorder

    shape, ahead = _check(options)
    console.messages().print(SCOPE)
    return run_stream(
        options,
        view="imagine",
        build=lambda live, page: build_graph(options, ahead, live=live, page=page),
        journal_in=lambda folder: Recorder(folder, options.what, shape),
        save={},
        write=lambda *run: _write_outputs(options, *run),
        tell=tell,
    )


def _check(options: ImagineOptions) -> tuple[ClipShape, int]:
    """What can be told before anything runs: the size of the model's clips, and how many frames
    are to be predicted (0: as many as it makes at once)."""
    from retain.models.ditmem.imaginer import Imaginer
    from retain.models.ditmem.weights import opened

    if options.drop and options.what != "fill":
        raise UsageError("--drop leaves frames out to have them filled in; it needs --fill.")
    if options.references and _same(options.references, options.source):
        raise UsageError(
            "The references are the source itself, or hold it, so that what comes is known "
            "beforehand.",
            hint="Leave the source out of them: its own past is a reference as it goes by.",
        )
    shape = Imaginer(opened(options.weights)).shape
    return shape, _frames(options.ahead, options) if options.ahead else 0


def _same(references: str, source: str) -> bool:
    """Whether a picture, a video or a generated clip of ``source`` is among the references."""
    if is_worlds(references) and is_worlds(source):
        from retain.datasets.worlds.source import overlap

        return overlap(references, source)
    shown = _files(references)
    return references == source or any(file in shown for file in _files(source))


def _files(where: str) -> set[Path]:
    """What a path, a folder or a pattern stands for, links followed; nothing for what is no
    file."""
    from glob import glob

    path = Path(where)
    try:
        if path.is_dir():
            found = list(path.iterdir())
        else:
            found = [path] if path.exists() else [Path(p) for p in glob(where, recursive=True)]
        return {one.resolve() for one in found if one.is_file()}
    except (OSError, ValueError):  # an address, or a name that no file can have
        return set()


def _frames(ahead: str, options: ImagineOptions) -> int:
    """``12`` or ``1.5s`` as a number of frames."""
    from contextlib import closing

    try:
        if not ahead.endswith("s"):
            count = int(ahead)
        else:
            rate = options.fps
            if not rate:
                with closing(open_source(options.source)) as source:
                    rate = source.open().fps
            if not rate:
                raise UsageError(
                    f"How many frames {ahead} are is not known: the source does not say its rate.",
                    hint="Give a number of frames, or --fps.",
                )
            count = round(float(ahead.removesuffix("s")) * rate)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--continue takes frames, such as 12, or seconds, such as 1.5s, not {ahead!r}."
        ) from None
    if not 1 <= count <= 256:
        raise UsageError(f"--continue goes on for 1 to 256 frames, not for {count}.")
    return count


def is_worlds(source: str) -> bool:
    return source.startswith("worlds:")


def open_source(source: str) -> Any:
    """A source for ``source``, not opened yet."""
    from retain.pipeline.catalog import load_class

    return load_class(WORLDS if is_worlds(source) else ANY_SOURCE)(source)


def build_graph(options: ImagineOptions, ahead: int, *, live: bool, page: bool) -> Graph:
    """Nothing is lost of a finite source; of a live one, the newest frame wins."""
    graph = Graph(name="imagine", promise="live" if live else "finite")
    target = WORLDS if is_worlds(options.source) else ANY_SOURCE
    add_source(graph, options, live, feeds="imagine", target=target)
    graph.stage(
        "imagine",
        STAGE,
        weights=options.weights,
        what=options.what,
        references=options.references,
        past=options.past,
        k=options.k,
        ahead=ahead,
        samples=options.samples,
        compare=options.what != "novelty",
        drop=options.drop,
        budget_mb=options.memory_mb,
        device=options.device,
        seed=options.seed,
        fps=options.fps,
    )
    add_sinks(graph, "imagine", live, page)
    return graph


def tell(done: Imagined) -> None:
    """The result, on stdout: what was new, how good what was made is, where the files are."""
    assert done.out is not None
    say, journal = console.output().print, done.journal
    say(
        f"looked at {clock(journal.footage_s)} ({journal.frames} frames, "
        f"{journal.frames / done.took_s:.1f} a second)"
    )
    if journal.what != "fill":
        unusual = ", ".join(clock(one.seconds) for one in journal.moments.best)
        say(
            f"  {journal.clips} clips, {journal.unguided} of them before there were references; "
            + (f"new: {unusual}" if unusual else "nothing stood out as new")
        )
        if journal.last is not None:
            last = journal.last
            say(f"  memory: {last.clips} clips, {size(last.nbytes)} of {size(last.byte_budget)}")
    if journal.what != "novelty":
        word = "filled in" if journal.what == "fill" else "foreseen"
        say(f"  {number(journal.made)} frames {word}, all flagged as synthetic")
    for row in journal.errors.rows():
        say("  " + "  ".join(cell.ljust(22) for cell in row).rstrip(), highlight=False)
    errors = journal.errors
    for sentence in filter(None, (errors.alone(), errors.gain(), errors.beaten())):
        say(f"  {sentence}")
    console.name_files(done.out)


def _write_outputs(
    options: ImagineOptions, folder: Path, report: RunReport, journal: Recorder, took: float
) -> None:
    """Everything that is made once the stream has ended."""
    from retain.apps.imagine.report import write_report
    from retain.apps.journal import environment, run_facts, write_json

    journal.close()
    short = journal.short()
    if short and not report.errors and not report.stopped:
        raise UsageError(short, hint="Give a longer one, or look at more of it (--fps).")
    own = {
        "weights": options.weights,
        "what": options.what,
        "references": options.references,
        "past": options.past,
        "k": options.k,
        "samples": options.samples,
        "drop": options.drop,
        "seed": options.seed,
    }
    write_json(folder / SUMMARY, run_facts(options, report, journal, took) | own | journal.facts())
    write_report(
        folder,
        title=options.stream,
        journal=journal,
        report=report,
        environment=environment(options, **own),
        incomplete=" ".join(filter(None, (incomplete(report, journal), short))),
    )
