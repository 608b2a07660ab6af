"""`retain segment`: the left ventricle of an echo video, frame by frame. Not for diagnosis.

source -> segment -> measure -> results (and the live page). The folder is built beside its place
under a hidden name and renamed when it is whole, as for `retain watch`.
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
    error_of,
    incomplete,
    run_stream,
)
from retain.pipeline.errors import RetainError
from retain.pipeline.graph import Graph
from retain.pipeline.run import RunReport

if TYPE_CHECKING:
    from retain.apps.segment.record import Recorder

STAGE = "retain.models.gdkvm.stage:Segment"
NIFTI = "masks.nii.gz"


@dataclass(frozen=True, kw_only=True)
class SegmentOptions(StreamOptions):
    """What `retain segment` was asked. Zeros and empty words mean: the default."""

    structures: str = "cavity"
    method: str = "area-length"
    weights: str = ""
    command: str = "retain segment"


if TYPE_CHECKING:
    Segmented = Finished[Recorder, str]
    """``made`` says what was left out, in a sentence; empty when nothing was."""


def segment(options: SegmentOptions, tell: Callable[[Segmented], None]) -> Segmented:
    """Run it, with progress on stderr. ``tell`` is called when the results are in place, before
    the page goes. Raises RetainError when there is nothing to show for it."""
    from retain.apps.segment.record import Recorder

    return run_stream(
        options,
        view="segment",
        build=lambda live, page: build_graph(options, live=live, page=page),
        journal_in=Recorder,
        save={},
        write=lambda *run: _write_outputs(options, *run),
        tell=tell,
    )


def tell(done: Segmented) -> None:
    """The result, on stdout: EF with its method, doubts, where the files are."""
    from retain.apps.segment.record import BEATS_CSV, CURVE_CSV, MASKS, OVERLAY
    from retain.apps.segment.words import NOTICE, doubt, percent

    assert done.out is not None
    say = console.output().print
    journal = done.journal
    say(
        f"segmented {clock(journal.footage_s)} ({journal.frames} frames at "
        f"{done.times_real_time:.1f}x real time)"
    )
    if journal.beat_count:
        count = f"median of {journal.beat_count} beats" if journal.beat_count > 1 else "one beat"
        count = count if journal.whole else "no whole beat"
        say(f"EF {percent(journal.ef)}, {count}{'; doubtful' if journal.shaky else ''}")
        say(f"  method: {journal.method}")
    else:
        say("no EF: not one beat was found")
    if journal.spacing_mm is None:
        say("  the size of a pixel is unknown: lengths are in pixels, and there are no millilitres")
    for flag, frames in journal.flags.most_common():
        say(f"  doubtful, {frames} of {journal.frames} frames: {doubt(flag)}")
    if done.made:
        say(f"  {done.made}")
    say(f"{NOTICE}.", style="bold")
    console.name_files(done.out, REPORT, OVERLAY, MASKS, NIFTI, CURVE_CSV, BEATS_CSV, RESULTS)


def build_graph(options: SegmentOptions, *, live: bool, page: bool) -> Graph:
    """Nothing is lost of a finite source; of a live one, the newest frame wins."""
    graph = Graph(name="segment", promise="live" if live else "finite")
    add_source(graph, options, live, feeds="segment")
    graph.stage(
        "segment",
        STAGE,
        weights=options.weights,
        device=options.device,
        structures=options.structures,
    )
    graph.stage("measure", "retain.models.gdkvm.measure:Measure", method=options.method)
    graph.connect("segment", "measure")
    add_sinks(graph, "measure", live, page)
    return graph


def _write_outputs(
    options: SegmentOptions, folder: Path, report: RunReport, journal: Recorder, took: float
) -> str:
    """Everything that is made once the stream has ended. Returns what was left out."""
    from retain.apps.journal import environment, run_facts, write_json
    from retain.apps.segment.files import write_nifti
    from retain.apps.segment.record import MASKS
    from retain.apps.segment.report import write_report

    if journal.flags["no-sector"] == journal.frames:
        raise _no_fan(report)
    frame_s = journal.footage_s / max(journal.frames - 1, 1)
    left_out = write_nifti(folder / NIFTI, folder / MASKS, journal.spacing_mm, frame_s)
    own = {"structures": options.structures, "method": options.method}
    write_json(
        folder / SUMMARY,
        run_facts(options, report, journal, took) | own | _facts(journal, left_out),
    )
    write_report(
        folder,
        title=options.stream,
        journal=journal,
        report=report,
        environment=environment(options, **own, weights=options.weights or "those that ship"),
        incomplete=incomplete(report, journal),
        left_out=left_out,
    )
    return left_out


def _no_fan(report: RunReport) -> RetainError:
    """Nothing was segmented: said as an error, not as a folder full of empty masks."""
    from retain.datasets.echo.sector import NoSector

    if report.errors:
        return error_of(report.errors[0])
    return NoSector("not one frame shows it")


def _facts(journal: Recorder, left_out: str) -> dict[str, Any]:
    """What summary.json says of the heart."""
    from retain.apps.segment.words import NOTICE

    return {
        "notice": NOTICE,
        "ef_percent": journal.ef,
        "ef_method": journal.method,
        "beats": journal.beat_count,
        "median_beat": journal.median_beat,
        "unit": journal.vitals.unit if journal.vitals else "px",
        "spacing_mm": journal.spacing_mm,
        "labels": journal.labels,
        "doubtful_frames": journal.doubtful,
        "doubtful": journal.shaky,
        "flags": dict(journal.flags.most_common()),
        "left_out": left_out,
    }
