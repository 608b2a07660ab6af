"""``report.html`` of `retain segment --object`: areas, pictures, J and F, in one file."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from retain.apps.drawing import clock, data_uri, jpeg, number, size
from retain.apps.plots import Axes, drawing, grid
from retain.apps.report_parts import cell, write_run
from retain.apps.segment.overlay import poster
from retain.apps.segment_object.files import COLOURS
from retain.apps.segment_object.record import CURVE_CSV, OVERLAY, Recorder
from retain.pipeline.run import RunReport

PICTURES = 12
POINTS = 1500
"""Frames of the curve that are drawn; of a longer stream, evenly many of its frames."""


def write_report(
    folder: Path,
    *,
    title: str,
    journal: Recorder,
    report: RunReport,
    environment: Mapping[str, Any],
    incomplete: str = "",
) -> Path:
    """Write ``report.html`` into ``folder``, beside the files of a closed ``journal``."""
    points = read_curve(folder / CURVE_CSV, journal.frames)
    parts = {
        "curve_note": _curve_note(journal),
        "curve": curve_svg(points, journal.labels),
        "key": _key(journal.labels),
        "judged": _judged(journal),
        "pictures": "\n".join(_pictures(folder / OVERLAY, journal)),
    }
    return write_run(
        folder,
        Path(__file__).parent / "report.body.html",
        parts,
        title=title,
        numbers=_numbers(journal, report),
        report=report,
        environment=environment,
        incomplete=incomplete,
    )


class Point(NamedTuple):
    """One line of curve.csv."""

    seq: int
    seconds: float
    label: str
    area: float


def read_curve(path: Path, frames: int) -> list[Point]:
    """The lines of curve.csv of at most about ``POINTS`` frames, evenly over the stream."""
    step = max(1, math.ceil(frames / POINTS))
    out, at, last = [], -1, None
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            at, last = at + (line["seq"] != last), line["seq"]
            if at % step == 0:
                seconds, area = float(line["seconds"]), float(line["area"])
                out.append(Point(int(line["seq"]), seconds, line["object"], area))
    return out


def curve_svg(points: Sequence[Point], labels: Sequence[str]) -> str:
    """Area of each object over time."""
    start, end = (points[0].seconds, points[-1].seconds) if points else (0.0, 1.0)
    top = max((point.area for point in points), default=1.0)
    axes = Axes(start, end, 1.05 * max(top, 1.0), "pixels")
    parts = [*grid(axes)]
    for k, label in enumerate(labels):
        own = [point for point in points if point.label == label]
        path = "L".join(f"{axes.x(p.seconds):g} {axes.y(p.area):g}" for p in own)
        if path:
            parts.append(f'<path class="line" style="stroke:{colour_of(k)}" d="M{path}"/>')
    told = [(p.seconds, _sentence(p)) for p in points if p.label == labels[0]] if labels else []
    return drawing(axes, parts, told, "Area of the objects over time")


def colour_of(k: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[k % len(COLOURS)])


def _sentence(p: Point) -> str:
    return f"{clock(p.seconds)} · frame {p.seq} · {p.label} · {number(p.area)} px"


def _key(labels: Sequence[str]) -> str:
    return "".join(
        f'<span><i class="swatch" style="border-color:{colour_of(k)}"></i>{escape(name)}</span>'
        for k, name in enumerate(labels)
    )


def _curve_note(journal: Recorder) -> str:
    told = f"Pixels of the frame that show the object, frame by frame; all are in {CURVE_CSV}."
    if journal.unseen:
        told += f" Nothing was seen in {number(journal.unseen)} of {number(journal.frames)} frames."
    return told


def _numbers(journal: Recorder, report: RunReport) -> list[str]:
    cells = []
    if judged := journal.judged:
        jf = sum(one.mean for one in judged) / len(judged)
        j = sum(one.j.mean for one in judged) / len(judged)
        f = sum(one.f.mean for one in judged) / len(judged)
        cells.append(cell("J&amp;F", f"{jf:.3f}", f"J {j:.3f}, F {f:.3f}", share=jf))
    cells.append(cell("Objects", number(len(journal.labels)), escape(", ".join(journal.labels))))
    cells.append(cell("Frames", number(journal.frames), clock(journal.footage_s)))
    cells.append(cell("Not seen", number(journal.unseen), f"of {number(journal.frames)} frames"))
    node = report.stats.find("object")
    if node and (budget := float(node.extra.get("budget_bytes", 0))):
        held = float(node.memory_bytes)
        cells.append(cell("Memory", size(held), f"of {size(budget)}", share=held / budget))
    if report.stats.uptime_s > 0:
        rate, took = journal.frames / report.stats.uptime_s, clock(report.stats.uptime_s)
        cells.append(cell("Speed", f"{rate:.1f}", f"frames a second; took {took}"))
    return cells


def _judged(journal: Recorder) -> str:
    """The table of J and F; empty where the truth is not known."""
    if not journal.judged:
        return f'<p class="note">{escape(journal.left_out)}</p>' if journal.left_out else ""
    head = ("object", "J&amp;F", "J mean", "J recall", "J decay", "F mean", "F recall", "F decay")
    rows = []
    for name, one in zip(journal.labels, journal.judged, strict=True):
        values = [one.mean, *(getattr(c, m) for c in (one.j, one.f) for m in _MEASURES)]
        cells = "".join(f"<td class=n>{number(value, 3)}</td>" for value in values)
        rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    top = "".join(f"<th{' class=n' * (k > 0)}>{name}</th>" for k, name in enumerate(head))
    return (
        "<h2>Against the truth</h2><p class=note>J is the overlap of regions, F that of "
        "boundaries, as DAVIS measures them; the first and the last frame are not judged.</p>"
        f'<div class="sheet"><table><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


_MEASURES = ("mean", "recall", "decay")


def _pictures(video: Path, journal: Recorder) -> list[str]:
    count = PICTURES if journal.footage_s else 1
    cards = []
    for k in range(count):
        seconds = journal.start_s + journal.footage_s * k / max(count - 1, 1)
        picture = poster(video, journal.ticks(seconds))
        if picture is not None:
            when = clock(seconds)
            cards.append(
                f'<article class="card"><div class="picture"><img src="{data_uri(jpeg(picture))}" '
                f'alt="The objects at {when}" decoding="async"></div><div class="words">'
                f'<div class="top"><span class="time">{when}</span></div></div></article>'
            )
    return cards
