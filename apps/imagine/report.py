"""``report.html`` of `retain imagine`: the novelty over time, what was made beside what came, and
the clips that it leaned on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from retain.apps.drawing import clock, data_uri, number, score, size
from retain.apps.imagine.curve import Moment, curve_svg
from retain.apps.imagine.errors import ARMS, Frames
from retain.apps.imagine.pairs import Pair
from retain.apps.imagine.pictures import film
from retain.apps.imagine.record import Recorder
from retain.apps.imagine.run import SCOPE
from retain.apps.report_parts import cell, frames_cell, speed_cell, write_run
from retain.pipeline.results import Reference
from retain.pipeline.run import RunReport

SHOWN_LEANED = 12


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
    parts = {
        "scope": escape(_scope(journal)),
        "novelty": "" if journal.what == "fill" else _novelty(journal),
        "made": "" if journal.what == "novelty" else _made(journal),
        "leaned_note": _leaned_note(journal),
        "leaned": _leaned(journal),
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


def _scope(journal: Recorder) -> str:
    width, height = journal.size
    told = f"The model sees {journal.shape}"
    if (width, height) != (journal.shape.width, journal.shape.height):
        seen = journal.shape.width * journal.shape.height * journal.shape.channels
        told += (
            f": of the {width}x{height} RGB pixels here, stretched and averaged over areas, "
            f"{number(seen)} of {number(width * height * 3)} numbers are left"
        )
    return f"{told}. {SCOPE}"


def _numbers(journal: Recorder, report: RunReport) -> list[str]:
    cells = [frames_cell(journal, report)]
    if journal.what != "fill":
        cells += [
            cell("Clips", number(journal.clips), f"{number(journal.unguided)} without references"),
            cell("New", number(journal.moments.count), "clips that stand out"),
        ]
    if journal.what != "novelty":
        cells.append(cell("Made", number(journal.made), "synthetic frames"))
    if (last := journal.last) is not None:
        share = last.nbytes / max(last.byte_budget, 1)
        cells.append(cell("Memory", size(last.nbytes), f"of {size(last.byte_budget)}", share))
    return cells + speed_cell(journal.footage_s, report.stats)


def _novelty(journal: Recorder) -> str:
    drawn = curve_svg(journal.curve.points, journal.moments.best)
    note = (
        "Error of the model that is shown references, less that of the same model without them: "
        "high where what the stream has shown before does not explain what came. From the dashed "
        "line on (median and 3 robust deviations of what came before) a clip counts as new."
    )
    key = (
        '<div class="key"><span><i class="swatch score"></i>novelty</span>'
        '<span><i class="swatch level"></i>unusual from here on</span>'
        '<span><i class="swatch new"></i>new</span></div>'
    )
    sheet = f'<div class="sheet">{drawn}{key}</div>' if drawn else ""
    if not drawn:
        note = "There were fewer than two clips that references could be found for: no curve."
    cards = "\n".join(_moment(one) for one in journal.moments.best)
    news = f'<h2>New</h2><div class="cards news">{cards}</div>' if cards else ""
    return f'<h2>Novelty</h2><p class="note">{note}</p>{sheet}{news}'


def _moment(one: Moment) -> str:
    when = f"{clock(one.start_s)} to {clock(one.seconds)}"
    return (
        f'<article class="card"><div class="picture"><img src="{data_uri(one.film, "image/png")}" '
        f'alt="The clip from {when}"></div><div class="words"><div class="top">'
        f'<span class="time">{clock(one.seconds)}</span><span>novelty {score(one.score)}, usual '
        f"up to {score(one.level)}</span></div>"
        f'<div class="more">{escape(_from(one.references))}</div></div></article>'
    )


def _from(references: Sequence[Reference]) -> str:
    if not references:
        return "no references"
    told = [f"{r.stream} {clock(r.start_s)}" for r in references]
    return "compared with " + ", ".join(told)


def _made(journal: Recorder) -> str:
    fill = journal.what == "fill"
    title = "Frames filled in" if fill else "Predictions"
    simple = "linear" if fill else "held"
    e = journal.errors
    parts = [f"<h2>{title}</h2>"]
    if e.frames:
        where = "frames that were left out on purpose" if fill else "frames that then came"
        parts.append(
            f'<p class="note">Root mean square error of a pixel in grey levels of 255, over '
            f"{number(e.frames)} {where}"
            + (
                f"; {number(e.unguided)} more were made before there were references"
                if e.unguided
                else ""
            )
            + f". The mean of all samples is judged. {e.alone()} {e.gain()} {e.beaten()}</p>"
        )
        parts.append(_table(journal, ["guided", "plain", simple]))
    elif fill and not journal.made:
        parts.append('<p class="note">No frame was missing.</p>')
    else:
        parts.append(
            '<p class="note">Nothing that was made can be judged: what came is not known, or there '
            "were no references yet.</p>"
        )
    films = [_film(pairs, ARMS[simple]) for pairs in journal.strips if pairs]
    if films:
        parts.append(
            '<p class="note">The newest, as the model sees them. A magenta edge: made by a model '
            "(synthetic; it enters no memory).</p>"
            f'<div class="films">{"".join(films)}</div>'
        )
    return "".join(parts)


def _table(journal: Recorder, arms: Sequence[str]) -> str:
    """Arms by row, distance by column."""
    e = journal.errors
    steps = [k for k, _ in e.by_distance(arms[0])][:8]
    unit = "frames into the hole" if journal.what == "fill" else "frames ahead"
    head = "".join(f"<th class=n>{k}</th>" for k in steps)
    rows = ""
    for arm in arms:
        if arm not in e.arms():
            continue
        found = dict(e.by_distance(arm))
        cells = "".join(f"<td class=n>{number(found.get(k, math.nan), 1)}</td>" for k in steps)
        rows += (
            f"<tr><td>{ARMS[arm]}</td><td class=n><b>{number(e.mean(arm), 1)}</b></td>{cells}</tr>"
        )
    return (
        f'<div class="sheet compare"><table><thead><tr><th>{unit}</th><th class=n>all</th>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _film(pairs: Sequence[Pair], simple: str) -> str:
    rows: list[tuple[str, list[tuple[Frames | None, bool]]]] = [
        ("what came", [(p.truth, False) for p in pairs]),
        ("with references", [(p.guided, p.made) for p in pairs]),
        ("without", [(p.plain if p.plain is not None else p.guided, p.made) for p in pairs]),
        (simple, [(p.simple if p.made else p.guided, False) for p in pairs]),
    ]
    lines = "".join(
        f'<tr><th scope="row">{name}</th><td><img src="{data_uri(film(row), "image/png")}" '
        f'alt="{name}"></td></tr>'
        for name, row in rows
    )
    when = f"{clock(pairs[0].seconds)} to {clock(pairs[-1].seconds)}"
    guided = escape(_from(pairs[-1].references).replace("compared with", "guided by"))
    return f'<div class="sheet"><p class="note">{when}; {guided}</p><table>{lines}</table></div>'


def _leaned_note(journal: Recorder) -> str:
    if not journal.leaned:
        return "No references were found: the past was too short, or left out."
    return "The clips that were shown to the model most often."


def _leaned(journal: Recorder) -> str:
    if not journal.leaned:
        return ""
    rows = "".join(
        f"<tr><td>{escape(stream)}</td><td class=n>{clock(start)}</td><td class=n>{clock(end)}</td>"
        f"<td class=n>{number(times)}</td></tr>"
        for (stream, start, end), times in journal.leaned.most_common(SHOWN_LEANED)
    )
    return (
        '<div class="sheet"><table><thead><tr><th>from</th><th class=n>start</th><th class=n>end'
        f"</th><th class=n>shown</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
