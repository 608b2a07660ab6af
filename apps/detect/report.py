"""``report.html`` of `retain detect`: the comparison, the tracks, and where memory decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from retain.apps.detect.examples import Example
from retain.apps.detect.judge import Verdict
from retain.apps.detect.record import Recorder
from retain.apps.detect.tables import WORDS, table
from retain.apps.detect.timeline import SHOWN, timeline_svg
from retain.apps.drawing import clock, data_uri, number, size
from retain.apps.report_parts import (
    cell,
    frames_cell,
    speed_cell,
    words_sheet,
    words_table,
    write_run,
)
from retain.pipeline.run import RunReport

LAST_RESETS = 40


def write_report(
    folder: Path,
    *,
    title: str,
    journal: Recorder,
    verdict: Verdict | None,
    report: RunReport,
    environment: Mapping[str, Any],
    incomplete: str = "",
) -> Path:
    """Write ``report.html`` into ``folder``, beside the files of a closed ``journal``."""
    head, rows = table(journal, verdict)
    parts = {
        "compare_note": _compare_note(journal, verdict),
        "compare": words_table(head, rows),
        "meaning": _meaning(head),
        "tracks_note": _tracks_note(journal),
        "timeline": _timeline(journal),
        "moments_note": _moments_note(journal),
        "moments": "\n".join(_moment(one) for one in journal.examples.kept),
        "memory_note": _memory_note(journal),
        "resets": _resets(journal),
    }
    return write_run(
        folder,
        Path(__file__).parent / "report.body.html",
        parts,
        title=title,
        numbers=_numbers(journal, report),
        report=report,
        environment={**environment, **_stage(report)},
        incomplete=incomplete,
    )


def _numbers(journal: Recorder, report: RunReport) -> list[str]:
    share = journal.from_memory / journal.boxes if journal.boxes else 0.0
    cells = [
        frames_cell(journal, report),
        cell("Boxes", number(journal.boxes), "that count"),
        cell("From memory", f"{100 * share:.1f} %", f"{number(journal.from_memory)} boxes"),
    ]
    if tally := journal.tallies.get("bank+track"):
        assert tally.tracks is not None
        length = f"{number(tally.tracks.mean_s, 1)} s each" if tally.tracks.count else ""
        cells.append(cell("Tracks", number(tally.tracks.count), length))
    if recall := journal.recall:
        held, budget = journal.most_bytes, recall.byte_budget
        cells.append(cell("Memory", size(held), f"of {size(budget)}", held / max(budget, 1)))
    return cells + speed_cell(journal.footage_s, report.stats)


def _compare_note(journal: Recorder, verdict: Verdict | None) -> str:
    told = (
        "The same frames, the same detector: alone, and with what it remembers of earlier frames."
        if journal.compared
        else "The detector with what it remembers of earlier frames; it was not compared with the "
        "detector alone (<code>--no-compare</code>)."
    )
    if verdict is None:
        return told + " The source has no truth, so nothing here says which boxes are right."
    told += f" Judged by {number(verdict.objects)} true boxes in {number(verdict.frames)} frames."
    if verdict.unknown:
        words = escape(", ".join(verdict.unknown))
        told += f" The detector has no name for: {words}; these count as not found."
    return told


def _meaning(head: Sequence[str]) -> str:
    rows = "".join(f"<dt>{name}</dt><dd>{escape(WORDS[name])}</dd>" for name in head if name)
    return f'<dl class="meaning">{rows}</dl>'


def _tracks_note(journal: Recorder) -> str:
    if not journal.tracked:
        return "There was no tracker (<code>--track none</code>), so boxes have no ids."
    tally = journal.tallies.get("bank+track")
    assert tally is not None
    assert tally.tracks is not None
    count = tally.tracks.count
    if journal.unnamed:
        return (
            "No box lasted long enough to be given an id, so none counts and none is drawn; "
            "<code>--track none</code> counts all of them."
        )
    if not count:
        return "Nothing was found for long enough to be given an id."
    which = f"The {SHOWN} longest of {number(count)} tracks" if count > SHOWN else "All tracks"
    return f"{which}, by when they began, with memory. All boxes are in results.jsonl."


def _timeline(journal: Recorder) -> str:
    tally = journal.tallies.get("bank+track")
    if tally is None or tally.tracks is None or not tally.tracks.longest:
        return ""
    drawn = timeline_svg(
        tally.tracks.longest,
        journal.names,
        [seconds for seconds, _ in journal.resets],
        journal.start_s,
        journal.start_s + max(journal.footage_s, 0.1),
    )
    key = (
        '<div class="key"><span><i class="swatch seen"></i>found in the frame</span>'
        '<span><i class="swatch recalled"></i>mostly from memory</span>'
        + (
            '<span><i class="swatch anew"></i>the memory began anew</span>'
            if journal.resets
            else ""
        )
        + "</div>"
    )
    return f'<div class="sheet">{drawn}{key}</div>'


def _moments_note(journal: Recorder) -> str:
    if not journal.examples.kept:
        return "There was no box that owes its score to memory."
    beside = "as the detector alone saw it" if journal.compared else "without boxes"
    return (
        f"The boxes that owe most to memory; the same frame {beside}; and what was remembered, "
        "with its share of what was read. Boxes that come from memory by more than half are dashed."
    )


def _moment(one: Example) -> str:
    crops = "".join(
        f'<figure><img src="{data_uri(data)}" alt="What was remembered of {clock(seconds)}">'
        f"<figcaption>{clock(seconds)} · {100 * share:.0f} %</figcaption></figure>"
        for data, seconds, share in one.crops
    )
    gone = "" if crops else "<small>Pictures of what was remembered are no longer kept.</small>"
    beside = "detector alone" if one.compared else "the frame"
    return (
        f'<article class="card"><div class="two">'
        f'<figure><div class="picture"><img src="{data_uri(one.alone)}" alt="{beside}"></div>'
        f"<figcaption>{beside}</figcaption></figure>"
        f'<figure><div class="picture"><img src="{data_uri(one.with_memory)}" alt="with memory">'
        f"</div><figcaption>with memory</figcaption></figure></div>"
        f'<div class="words"><div class="top"><span class="time">{clock(one.seconds)}</span>'
        f"<span>{escape(one.text)}</span></div>"
        f'<div class="more">frame {one.seq} · {100 * one.share:.0f} % of the box comes from memory'
        f'</div><div class="crops">{crops}{gone}</div></div></article>'
    )


def _memory_note(journal: Recorder) -> str:
    recall = journal.recall
    assert recall is not None
    rows = (
        f"{number(recall.rows)} of at most {number(recall.room)} rows at the end"
        if recall.room
        else "no bank was read"
    )
    anew = journal.reset_kinds.total()
    told = f"It held at most {size(journal.most_bytes)} of {size(recall.byte_budget)}; {rows}."
    times = "once" if anew == 1 else f"{number(anew)} times"
    return told + (f" It began anew {times}." if anew else " It never began anew.")


def _resets(journal: Recorder) -> str:
    if not journal.resets:
        return ""
    last = [[clock(seconds), reason] for seconds, reason in list(journal.resets)[-LAST_RESETS:]]
    counts = [[reason, number(times)] for reason, times in journal.reset_kinds.most_common()]
    more = words_sheet(["because of", "times"], counts) + "<br>" if len(journal.resets) > 1 else ""
    return more + words_sheet(["at", "because of"], last)


def _stage(report: RunReport) -> dict[str, Any]:
    """What the detecting stage says of itself: its host, its read-out, ..."""
    node = report.stats.find("detect")
    told = node.extra if node else {}
    left_out = ("memory_bytes", "rows", "room", "resets", "boxes", "boxes_from_memory", "host",
                "readout")  # fmt: skip
    return {name.replace("_", " "): value for name, value in told.items() if name not in left_out}
