"""`retain detect`: objects in a stream by a detector that remembers, with ids, beside the detector
alone.

source -> detect -> track -> results (and the live page). The folder is built beside its place under
a hidden name and renamed when it is whole, as for `retain watch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from retain.apps.detect.judge import Verdict
    from retain.apps.detect.record import Recorder

SOURCE = "retain.datasets.detect.source:ClipSource"
ANY_SOURCE = "retain.pipeline.sources.any:AnySource"
STAGE = "retain.models.mamba.stage:Detect"
TRACK = "retain.models.mamba.track:Track"
SMALL = "small"


@dataclass(frozen=True, kw_only=True)
class DetectOptions(StreamOptions):
    """What `retain detect` was asked. Zeros and empty words mean: the default."""

    host: str = SMALL
    names: str = ""
    bank: str = "auto"
    mode: str = "gated"
    carry: bool = True
    memory_mb: float = 0.0
    track: str = "byte"
    classes: str = ""
    min_score: float = 0.3
    compare: bool = True
    coco: bool = True
    mot: bool = True
    command: str = "retain detect"

    @property
    def tracked(self) -> bool:
        return self.track != "none"


@dataclass(frozen=True, slots=True)
class Made:
    """What was made at the end."""

    verdict: Verdict | None
    """Where the source has a truth."""
    without: bool = False
    """Whether a read-out was asked for and none ships for the detector."""


if TYPE_CHECKING:
    Detected = Finished[Recorder, Made]


def detect(options: DetectOptions, tell: Callable[[Detected], None]) -> Detected:
    """Run it, with progress on stderr. ``tell`` is called when the results are in place, before
    the page goes. Raises RetainError when there is nothing to show for it."""
    from retain.apps.detect.record import Recorder
    from retain.datasets.detect.source import has_boxes

    truth = has_boxes(options.source)
    classes = _check(options, truth)
    if options.host == SMALL and not options.source.startswith("objects:"):
        console.messages().print(
            "The detector 'small' knows nothing but the generated objects of objects://; for other "
            "pictures give YOLOX weights: --host yolox_nano.onnx (or .pth)."
        )
    return run_stream(
        options,
        view="detect",
        build=lambda live, page: build_graph(options, truth=truth, live=live, page=page),
        journal_in=lambda folder: Recorder(
            folder,
            tracked=options.tracked,
            min_score=options.min_score,
            mot=options.mot,
            classes=classes,
        ),
        save={},
        write=lambda *run: _write_outputs(options, truth, *run),
        tell=tell,
        min_score=options.min_score,
    )


def _check(options: DetectOptions, truth: bool) -> tuple[str, ...]:
    """What can be told before anything runs; the classes of a source with a ``truth``."""
    if not 0 < options.min_score < 1:
        raise UsageError(f"--min-score is between 0 and 1, not {options.min_score:g}.")
    if options.names and not Path(options.names).is_file():
        raise UsageError(f"There is no file {options.names!r} to take --names from.")
    if options.tracked:
        from retain.models.mamba.tracker import need_trackers

        need_trackers()
    if not truth:
        return ()
    from retain.apps.detect.judge import open_truth

    return tuple(open_truth(options.source).names)


def build_graph(options: DetectOptions, *, truth: bool, live: bool, page: bool) -> Graph:
    """Nothing is lost of a finite source; of a live one, the newest frame wins."""
    graph = Graph(name="detect", promise="live" if live else "finite")
    add_source(graph, options, live, feeds="detect", target=SOURCE if truth else ANY_SOURCE)
    graph.stage(
        "detect",
        STAGE,
        host=options.host,
        bank=options.bank,
        mode=options.mode,
        carry=options.carry,
        compare=options.compare,
        budget_mb=options.memory_mb,
        device=options.device,
        names=options.names,
        classes=options.classes,
    )
    last = "detect"
    if options.tracked:
        last = "track"
        graph.stage("track", TRACK, method=options.track, min_score=options.min_score)
        graph.connect("detect", "track")
    add_sinks(graph, last, live, page)
    return graph


def tell(done: Detected) -> None:
    """The result, on stdout: what was found, how the arms compare, where the files are."""
    from retain.apps.detect.tables import table

    assert done.out is not None
    assert done.made is not None
    say, journal = console.output().print, done.journal
    say(
        f"searched {clock(journal.footage_s)} ({journal.frames} frames, "
        f"{journal.frames / done.took_s:.1f} a second): {number(journal.boxes)} boxes, "
        f"{number(journal.from_memory)} of them from memory"
    )
    head, rows = table(journal, done.made.verdict)
    wide = [max(len(line[k]) for line in (head, *rows)) for k in range(len(head))]
    for line in (head, *rows):
        cells = [cell.rjust(w) for cell, w in zip(line, wide, strict=True)]
        say("  " + "  ".join([line[0].ljust(wide[0]), *cells[1:]]), highlight=False)
    if journal.unnamed:
        say("  no box lasted long enough to be given an id; --track none counts all of them")
    if done.made.without:
        say(
            "  no read-out ships for this detector, so nothing but its last boxes is remembered; "
            "`retain train mamba` makes one from your videos"
        )
    for reason, times in journal.reset_kinds.most_common(3):
        say(f"  the memory began anew {times}x: {reason}")
    if done.made.verdict and done.made.verdict.unknown:
        say(f"  the detector does not know: {', '.join(done.made.verdict.unknown)}")
    if journal.recall is not None:
        say(f"  memory: at most {size(journal.most_bytes)} of {size(journal.recall.byte_budget)}")
    console.name_files(done.out)


def _write_outputs(
    options: DetectOptions,
    truth: bool,
    folder: Path,
    report: RunReport,
    journal: Recorder,
    took: float,
) -> Made:
    """Everything that is made once the stream has ended."""
    from retain.apps.detect.files import write_coco
    from retain.apps.detect.record import COCO
    from retain.apps.detect.report import write_report
    from retain.apps.detect.tables import facts
    from retain.apps.journal import environment, run_facts, write_json
    from retain.apps.running import RESULTS
    from retain.models.mamba.stage import NONE_SHIPS

    journal.close()
    verdict = _judge(options, folder, journal) if truth else None
    if options.coco:
        write_coco(folder / COCO, folder / RESULTS, journal.names, options.stream)
    own: dict[str, Any] = {
        "host": options.host,
        "bank": options.bank,
        "readout": _readout(report),
        "mode": options.mode,
        "carry": options.carry,
        "track": options.track,
        "min_score": options.min_score,
    }
    told = run_facts(options, report, journal, took) | own | facts(journal, verdict)
    write_json(folder / SUMMARY, told)
    write_report(
        folder,
        title=options.stream,
        journal=journal,
        verdict=verdict,
        report=report,
        environment=environment(options, **own),
        incomplete=incomplete(report, journal),
    )
    return Made(verdict, without=_readout(report) == NONE_SHIPS)


def _readout(report: RunReport) -> StatValue:
    """What the detecting stage says it reads its memory with."""
    node = report.stats.find("detect")
    return node.extra.get("readout", "") if node else ""


def _judge(options: DetectOptions, folder: Path, journal: Recorder) -> Verdict:
    from retain.apps.detect.judge import judge, open_truth
    from retain.apps.running import RESULTS

    clips = open_truth(options.source)
    wanted = [word.strip() for word in options.classes.split(",") if word.strip()]
    return judge(folder / RESULTS, clips, journal.names, options.min_score, wanted)
