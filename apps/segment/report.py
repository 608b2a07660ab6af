"""``report.html`` of `retain segment`: the curve, the beats and the doubts in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from retain.apps.drawing import clock, data_uri, jpeg, number
from retain.apps.report_parts import cell, frames_cell, speed_cell, words_sheet, write_run
from retain.apps.segment.curve import SHOWN_S, Size, curve_svg, read_curve
from retain.apps.segment.overlay import poster
from retain.apps.segment.record import CURVE_CSV, OVERLAY, Recorder
from retain.apps.segment.words import (
    DISCLAIMER,
    NOTICE,
    area_text,
    doubt,
    percent,
    volume_text,
)
from retain.pipeline.results import Beat
from retain.pipeline.run import RunReport

EVEN = 6
"""Pictures beside those of ED and ES, evenly over the stream."""
SHOWN_BEATS = 60


def write_report(
    folder: Path,
    *,
    title: str,
    journal: Recorder,
    report: RunReport,
    environment: Mapping[str, Any],
    incomplete: str = "",
    left_out: str = "",
) -> Path:
    """Write ``report.html`` into ``folder``, beside the files of a closed ``journal``."""
    beat = journal.median_beat
    middle = beat.ed_seconds if beat else journal.start_s + min(journal.footage_s, SHOWN_S) / 2
    whole = journal.footage_s <= SHOWN_S
    around = journal.start_s + journal.footage_s / 2 if whole else middle
    sizes = read_curve(folder / CURVE_CSV, around)
    parts = {
        "alarm": _alarm(journal),
        "curve_note": _curve_note(journal, sizes),
        "curve": curve_svg(sizes, journal.beats),
        "pictures_note": _pictures_note(journal, beat),
        "pictures": "\n".join(_pictures(folder / OVERLAY, journal, beat)),
        "beats_note": _beats_note(journal),
        "beats": _beats(journal),
        "doubts_note": _doubts_note(journal),
        "doubts": _doubts(journal),
    }
    return write_run(
        folder,
        Path(__file__).parent / "report.body.html",
        parts,
        title=title,
        notice=f"{NOTICE}. {DISCLAIMER}",
        numbers=_numbers(journal, beat, report),
        report=report,
        environment={
            **environment,
            **_model(report),
            **({"left out": left_out} if left_out else {}),
        },
        footer=f"{NOTICE}.",
        incomplete=incomplete,
    )


def _numbers(journal: Recorder, beat: Beat | None, report: RunReport) -> list[str]:
    unit = journal.vitals.unit if journal.vitals else "px"
    count = journal.beat_count
    counted = f"median of {count} beats" if count > 1 else "one beat" if count else "no beat found"
    counted = counted if journal.whole else "no whole beat"
    counted = f"doubtful; {counted}" if journal.shaky else counted
    cells = [cell("Ejection fraction", percent(journal.ef), counted)]
    if beat:
        ends = (
            ("ED", beat.edv, beat.ed_area, "largest"),
            ("ES", beat.esv, beat.es_area, "smallest"),
        )
        for name, volume, area, extreme in ends:
            of = "median beat" if journal.whole else f"{extreme} area"
            if unit == "mm":
                text = f"{area_text(area, unit)}, {of}"
                cells.append(cell(f"{name} volume", volume_text(volume, unit), text))
            else:
                cells.append(cell(f"{name} area", area_text(area, unit), of))
    if rate := _heart_rate(journal):
        cells.append(cell("Heart rate", f"{rate:.0f}", "per minute, from the beats"))
    cells.append(frames_cell(journal, report))
    share = f"of {number(journal.frames)}" if journal.doubtful else "frames"
    cells.append(cell("Doubtful", number(journal.doubtful), share))
    return cells + speed_cell(journal.footage_s, report.stats)


def _alarm(journal: Recorder) -> str:
    """The doubts, above everything they concern."""
    if not journal.flags:
        return ""
    told = " ".join(escape(doubt(flag)) for flag, _ in journal.flags.most_common())
    head = f"{number(journal.doubtful)} of {number(journal.frames)} frames are doubtful."
    return f'<div class="warning" role="alert"><b>{head}</b>{told}</div>'


def _heart_rate(journal: Recorder) -> float:
    """Per minute, from the time between end-systoles; 0 when there is only one."""
    times = [beat.es_seconds for beat in journal.beats]
    steps = sorted(b - a for a, b in pairwise(times) if 0.25 < b - a < 3)
    return 60 / steps[len(steps) // 2] if steps else 0.0


def _curve_note(journal: Recorder, sizes: Sequence[Size]) -> str:
    told = "From ED to ES the ventricle ejects; a beat is measured at these two frames."
    if sizes and len(sizes) < journal.frames:
        told += (
            f" Shown is the stretch around the median beat, {clock(sizes[0].seconds)} to "
            f"{clock(sizes[-1].seconds)}; all of it is in {CURVE_CSV}."
        )
    return f"{told} {_spacing(journal)}"


def _spacing(journal: Recorder) -> str:
    if journal.spacing_mm is None:
        return (
            "The file does not say how large a pixel is, or says it for a picture of another size: "
            "areas are in pixels of the frame and there are no millilitres. EF needs no unit, as "
            "long as pixels are square."
        )
    y, x = journal.spacing_mm
    return f"A pixel is {y:.3g} mm high and {x:.3g} mm wide, as the DICOM file states."


def _pictures_note(journal: Recorder, beat: Beat | None) -> str:
    names = ", ".join(journal.labels)
    first = "End of diastole and of systole of the median beat, then frames" if beat else "Frames"
    return f"{first} evenly over the stream, as in {OVERLAY}. Outlined: {escape(names)}."


def _pictures(video: Path, journal: Recorder, beat: Beat | None) -> list[str]:
    moments = [
        (journal.start_s + journal.footage_s * share / (EVEN - 1), "") for share in range(EVEN)
    ]
    if beat:
        moments = [(beat.ed_seconds, "ED"), (beat.es_seconds, "ES"), *moments]
    if not journal.footage_s:
        moments = moments[:1]
    cards = []
    for seconds, word in moments:
        picture = poster(video, journal.ticks(seconds))
        if picture is not None:
            when = clock(seconds)
            name = {"ED": "End of diastole", "ES": "End of systole"}.get(word, "")
            cards.append(
                f'<article class="card"><div class="picture"><img src="{data_uri(jpeg(picture))}" '
                f'alt="{name or "The outlines"} at {when}" decoding="async"></div>'
                f'<div class="words"><div class="top"><span class="time">{when}</span>'
                f"<span>{name}</span></div></div></article>"
            )
    return cards


def _beats_note(journal: Recorder) -> str:
    if not journal.beat_count:
        return "Not one beat was found: the area hardly changes, or the clip is too short."
    told = f"Method: {escape(journal.method)}. EF = (EDV − ESV) / EDV, from one view."
    if journal.beat_count > SHOWN_BEATS:
        told += f" The last {SHOWN_BEATS} of {number(journal.beat_count)}; all are in beats.csv."
    return told + " Never compare it with an EF by another method."


def _beats(journal: Recorder) -> str:
    if not journal.beats:
        return ""
    unit = journal.vitals.unit if journal.vitals else "px"
    head = ["ED at", "ES at", "ED area", "ES area"]
    head += ["EDV", "ESV"] if unit == "mm" else []
    rows = []
    for beat in list(journal.beats)[-SHOWN_BEATS:]:
        cells = [area_text(beat.ed_area, unit), area_text(beat.es_area, unit)]
        if unit == "mm":
            cells += [volume_text(beat.edv, unit), volume_text(beat.esv, unit)]
        rows.append([clock(beat.ed_seconds), clock(beat.es_seconds), *cells, percent(beat.ef)])
    return words_sheet([*head, "EF"], rows)


def _doubts_note(journal: Recorder) -> str:
    if not journal.flags:
        return (
            "No frame was flagged. That means no check failed; it does not mean that the outlines "
            "are right. Look at the pictures."
        )
    return (
        f"{number(journal.doubtful)} of {number(journal.frames)} frames were flagged. "
        "Numbers from them deserve no trust."
    )


def _doubts(journal: Recorder) -> str:
    if not journal.flags:
        return ""
    counts = [[doubt(flag), number(frames)] for flag, frames in journal.flags.most_common()]
    spells = [
        [
            clock(spell.start_s),
            clock(spell.end_s),
            number(spell.frames),
            doubt(spell.flag),
        ]
        for spell in journal.spells
    ]
    return (
        words_sheet(["doubt", "frames"], counts)
        + "<br>"
        + words_sheet(["from", "to", "frames", ""], spells)
    )


def _model(report: RunReport) -> dict[str, Any]:
    """What the segmenting stage says of itself: its weights, how sure it is of the fan, ..."""
    node = report.stats.find("segment")
    told = node.extra if node else {}
    told = {name: value for name, value in told.items() if not name.endswith("_bytes")}
    return {name.replace("_", " "): value for name, value in told.items() if value != ""}
