"""`retain segment --object`: follow what a mask marks in the first frame through a video.

source -> object -> results (and the live page). The folder is built beside its place under a hidden
name and renamed when it is whole, as for `retain watch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from retain.pipeline.errors import UsageError
from retain.pipeline.graph import Graph
from retain.pipeline.run import RunReport

if TYPE_CHECKING:
    from retain.apps.segment_object.record import Recorder

STAGE = "retain.models.object.stage:SegmentObject"


@dataclass(frozen=True, kw_only=True)
class ObjectOptions(StreamOptions):
    """What `retain segment --object` was asked."""

    given: Path
    """The mask of the first frame, or a folder of the masks of all frames."""
    learn: str = "hybrid"
    every: int = 5
    budget_mb: float = 80.0
    command: str = "retain segment"


if TYPE_CHECKING:
    Segmented = Finished[Recorder, str]
    """``made`` says what was left out, in a sentence; empty when nothing was."""


def segment(options: ObjectOptions, tell: Callable[[Segmented], None]) -> Segmented:
    """Run it, with progress on stderr. ``tell`` is called when the results are in place, before
    the page goes. Raises RetainError when there is nothing to show for it."""
    from retain.apps.segment_object.files import mask_files
    from retain.apps.segment_object.record import Recorder
    from retain.models.object.given import read_given

    if options.device not in ("auto", "cpu"):
        raise UsageError(
            f"Objects are followed on the CPU only, not on {options.device!r}.",
            hint="Leave --device out.",
        )
    first, truth = mask_files(options.given)
    numbers = read_given(first).numbers  # a mask that cannot be used is refused at once
    return run_stream(
        options,
        view="object",
        build=lambda live, page: build_graph(options, first, live=live, page=page),
        journal_in=lambda folder: Recorder(folder, numbers, truth),
        save={},
        write=lambda *run: _write_outputs(options, *run),
        tell=tell,
    )


def build_graph(options: ObjectOptions, mask: Path, *, live: bool, page: bool) -> Graph:
    """Nothing is lost of a finite source; of a live one, the newest frame wins."""
    graph = Graph(name="segment", promise="live" if live else "finite")
    add_source(graph, options, live, feeds="object")
    graph.stage(
        "object",
        STAGE,
        mask=str(mask.resolve()),
        mode=options.learn,
        every=options.every,
        budget_mb=options.budget_mb,
    )
    add_sinks(graph, "object", live, page)
    return graph


def tell(done: Segmented) -> None:
    """The result, on stdout: how much was seen, J and F where they are known, the files."""
    from retain.apps.segment_object.record import CURVE_CSV, MASKS, OVERLAY

    assert done.out is not None
    say, journal = console.output().print, done.journal
    say(
        f"segmented {clock(journal.footage_s)} ({journal.frames} frames at "
        f"{journal.frames / done.took_s:.1f} a second): {', '.join(journal.labels)}"
    )
    if journal.unseen:
        say(f"  not seen in {journal.unseen} of {journal.frames} frames")
    for name, judged in zip(journal.labels, journal.judged, strict=False):
        say(
            f"  {name}: J&F {judged.mean:.3f}, J {judged.j.mean:.3f} (recall "
            f"{judged.j.recall:.2f}, decay {judged.j.decay:+.3f}), F {judged.f.mean:.3f}"
        )
    if done.made:
        say(f"  {done.made}")
    console.name_files(done.out, REPORT, OVERLAY, MASKS, CURVE_CSV, RESULTS)


def _write_outputs(
    options: ObjectOptions, folder: Path, report: RunReport, journal: Recorder, took: float
) -> str:
    """Everything that is made once the stream has ended. Returns what was left out."""
    from retain.apps.journal import environment, run_facts, write_json
    from retain.apps.segment_object.report import write_report

    journal.close()
    own = {"learn": options.learn, "every": options.every, "budget_mb": options.budget_mb}
    write_json(
        folder / SUMMARY, run_facts(options, report, journal, took) | own | _facts(journal, report)
    )
    write_report(
        folder,
        title=options.stream,
        journal=journal,
        report=report,
        environment=environment(options, **own, mask=options.given.name),
        incomplete=incomplete(report, journal),
    )
    return journal.left_out


def _facts(journal: Recorder, report: RunReport) -> dict[str, Any]:
    """What summary.json says of the objects."""
    node = report.stats.find("object")
    judged = {
        name: {
            "jf": one.mean,
            "j": {"mean": one.j.mean, "recall": one.j.recall, "decay": one.j.decay},
            "f": {"mean": one.f.mean, "recall": one.f.recall, "decay": one.f.decay},
        }
        for name, one in zip(journal.labels, journal.judged, strict=False)
    }
    return {
        "labels": journal.labels,
        "numbers": journal.numbers,
        "unseen_frames": journal.unseen,
        "judged": judged,
        "left_out": journal.left_out,
        "memory_bytes": node.memory_bytes if node else 0,
    }
