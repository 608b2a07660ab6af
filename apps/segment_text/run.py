"""`retain segment --text`: the pixels that words name, frame by frame.

source -> text -> results (and the live page). The files are those of `retain segment --object`, a
word in place of each object; what is made is built beside its place and renamed when it is whole.
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
from retain.pipeline.metrics import GraphStats
from retain.pipeline.run import RunReport

if TYPE_CHECKING:
    from retain.apps.segment_object.record import Recorder

STAGE = "retain.models.language.segment:SegmentText"
MOST_TOLD = 12
"""Words whose share is printed, the largest."""


@dataclass(frozen=True, kw_only=True)
class TextOptions(StreamOptions):
    """What `retain segment --text` was asked."""

    text: str
    """Words with commas between them."""
    encoder: str = "clip"
    dinoiser: Path | None = None
    background: str | None = None
    """Words that compete unnamed; None: the stage's own, empty: none."""
    download: bool = False
    command: str = "retain segment"

    def of_stage(self) -> dict[str, Any]:
        """Options of the stage."""
        chosen = {} if self.background is None else {"background": self.background}
        return {
            "text": self.text,
            "encoder": self.encoder,
            "dinoiser": str(self.dinoiser.expanduser().resolve()) if self.dinoiser else "",
            "device": self.device,
            "download": self.download,
            **chosen,
        }


if TYPE_CHECKING:
    Segmented = Finished[Recorder, dict[str, float]]
    """``made``: the mean share of the frame of each word."""


def segment(options: TextOptions, tell: Callable[[Segmented], None]) -> Segmented:
    """Run it, with progress on stderr. ``tell`` is called when the results are in place, before
    the page goes. Raises RetainError when there is nothing to show for it."""
    from retain.models.language.query import words_in

    if options.state is not None:
        raise UsageError(
            "Words are looked for in each frame alone, so there is no state to continue from.",
            hint="Leave --resume out.",
        )
    words = words_in(options.text)  # words that cannot be used are refused at once
    return run_stream(
        options,
        view="text",
        build=lambda live, page: build_graph(options, live=live, page=page),
        journal_in=lambda folder: _recorder(folder, len(words)),
        save={},
        write=lambda *run: _write_outputs(options, *run),
        tell=tell,
    )


def build_graph(options: TextOptions, *, live: bool, page: bool) -> Graph:
    """Nothing is lost of a finite source; of a live one, the newest frame wins."""
    graph = Graph(name="segment", promise="live" if live else "finite")
    add_source(graph, options, live, feeds="text")
    graph.stage("text", STAGE, **options.of_stage())
    add_sinks(graph, "text", live, page)
    return graph


def tell(done: Segmented) -> None:
    """The result, on stdout: how much of the picture each word names, the files."""
    from retain.apps.segment_object.record import CURVE_CSV, MASKS, OVERLAY

    assert done.out is not None
    assert done.made is not None
    say, journal = console.output().print, done.journal
    say(
        f"segmented {clock(journal.footage_s)} ({journal.frames} frames at "
        f"{journal.frames / done.took_s:.1f} a second), share of the picture:"
    )
    largest = sorted(done.made.items(), key=lambda item: -item[1])
    for word, share in largest[:MOST_TOLD]:
        say(f"  {100 * share:5.1f} %  {word}", highlight=False, markup=False)
    if more := largest[MOST_TOLD:]:
        say(f"  {100 * sum(share for _, share in more):5.1f} %  {len(more)} other words")
    if journal.unseen:
        say(f"  none of them in {journal.unseen} of {journal.frames} frames")
    console.name_files(done.out, REPORT, OVERLAY, MASKS, CURVE_CSV, RESULTS)


def _recorder(folder: Path, count: int) -> Recorder:
    from retain.apps.segment_object.record import Recorder

    class OfWords(Recorder):
        def line(self, elapsed_s: float, stats: GraphStats) -> str:
            if not self.frames:
                return f"reading the words … {elapsed_s:.0f} s"
            return super().line(elapsed_s, stats)

    return OfWords(folder, range(1, count + 1))


def _write_outputs(
    options: TextOptions, folder: Path, report: RunReport, journal: Recorder, took: float
) -> dict[str, float]:
    """Everything that is made once the stream has ended. Returns the share of each word."""
    from retain.apps.journal import environment, run_facts, write_json
    from retain.apps.segment_object.report import write_report

    journal.close()
    shares = dict(zip(journal.labels, journal.mean_shares, strict=True))
    node = report.stats.find("text")
    own = {
        "words": journal.labels,
        "encoder": node.extra.get("encoder", options.encoder) if node else options.encoder,
        "dinoiser": options.dinoiser.name if options.dinoiser else "",
    }
    facts = {"shares": shares, "unseen_frames": journal.unseen}
    write_json(folder / SUMMARY, run_facts(options, report, journal, took) | own | facts)
    write_report(
        folder,
        title=options.stream,
        journal=journal,
        report=report,
        environment=environment(options, **own),
        incomplete=incomplete(report, journal),
    )
    return shares
