"""``report.html`` of `retain eval moments`: every table with its drawing, in one file."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from retain.apps.evaluate_moments.charts import Kind, Point, curve, dots, scatter
from retain.apps.evaluate_moments.results import Bar, Score, Table
from retain.apps.evaluate_moments.verdicts import (
    AHEAD,
    OFFLINE,
    Estimate,
    Group,
    best,
    cell,
    estimate,
    figure,
    groups,
    higher_is_better,
    ours,
    sentences,
    summary,
    waits,
)
from retain.apps.report_parts import cell as box
from retain.apps.report_parts import environment_sheet
from retain.pipeline.files import write_whole

HERE = Path(__file__).parent
CPU, F1 = "CPU ms a frame", "F1 +-2"
"""Columns of the boundaries that are drawn against each other."""
NEAREST = 6
"""Bars that were met only just, and are shown unfolded."""
_NUMBER = r"(-?\d[\d,]*(?:\.\d+)?)"
_CHANGE = re.compile(rf"(.*?) {_NUMBER}( \w+)?(?: \(default {_NUMBER}\))?")
"""``lambda 0 (default 0.2)``: a row that differs from ours in one number."""
_COUNT = re.compile(rf"(\D*){_NUMBER}(\D*)")


def write_report(out: Path, tables: Sequence[Table], environment: Mapping[str, Any]) -> Path:
    """Write ``out`` (atomically) and return it. ``environment``: what somebody needs to know to
    make the tables again; ``command`` is shown first, ``quick`` warns."""
    bars = [bar for table in tables for bar in table.bars]
    page = Template((HERE / "report.template.html").read_text("utf-8")).substitute(
        tokens=(HERE.parent / "page/static/tokens.css").read_text("utf-8"),
        date=datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        lead=_lead(tables),
        warning=_warning(tables, bool(environment.get("quick"))),
        contents="".join(
            f'<a href="#{escape(name)}">{escape(title)}</a>'
            for name, title in [*((t.name, t.title) for t in tables), ("bars", "Bars")]
        ),
        numbers="\n".join(_numbers(tables)),
        short="".join(_short(table) for table in tables),
        tables="\n".join(_table(table) for table in tables),
        bars=_bars(bars),
        environment=environment_sheet(environment),
    )
    write_whole(out, page.encode())
    return out


def _lead(tables: Sequence[Table]) -> str:
    streams = {score.stream for table in tables for score in table.scores}
    values = sum(len(score.values) for table in tables for score in table.scores)
    return (
        "Streams with a known truth, policies that remember within the same number of vision "
        f"tokens: {len(tables)} {'tables' if len(tables) != 1 else 'table'} over {len(streams)} "
        f"kinds of streams, {values:,} single measurements."
    )


def _short(table: Table) -> str:
    told = summary(table)
    link = f'<a href="#{escape(table.name)}">{escape(table.title)}</a>'
    return f"<li>{link}: {escape(told)}</li>" if told else ""


def _warning(tables: Sequence[Table], quick: bool) -> str:
    told = [] if tables else ["There are no tables."]
    if quick:
        told.append("Made with --quick: few seeds and streams, a look and not a result.")
    return f'<div class="warning" role="alert">{" ".join(told)}</div>' if told else ""


def _numbers(tables: Sequence[Table]) -> list[str]:
    cells = []
    for table in tables:
        if table.bars:
            met = sum(bar.met for bar in table.bars)
            worst = min(table.bars, key=_margin)
            more = f"bars met; nearest: {figure(worst.value)}, bar {_limit(worst)}"
            cells.append(box(escape(table.name), f"{met} of {len(table.bars)}", more))
    return cells


def _margin(bar: Bar) -> float:
    """How far inside its limit a bar is, as a share of it; negative when missed."""
    gap = bar.value - bar.limit if bar.at_least else bar.limit - bar.value
    return gap / max(abs(bar.limit), 1e-9)


def _limit(bar: Bar) -> str:
    return f"{'≥' if bar.at_least else '≤'} {bar.limit:g}"


def _table(table: Table) -> str:
    said = "".join(f"<li>{escape(text)}</li>" for text in sentences(table))
    parts = [_group(table, group, len(groups(table)) > 1) for group in groups(table)]
    return (
        f'<section><h2 id="{escape(table.name)}">{escape(table.title)}</h2>'
        f'<p class="note">{escape(table.note)}</p>{"".join(parts)}'
        f'<ul class="said">{said}</ul>{_streams(table)}</section>'
    )


def _group(table: Table, group: Group, several: bool) -> str:
    """The drawings and the pooled sheet of streams that have the same rows."""
    count = len(group.streams)
    where = group.label if count == 1 else f"Means over {group.label}"
    names = ""
    if count > 1:
        kinds = "; ".join(map(escape, group.streams))
        names = f"<details><summary>which streams</summary><p class=note>{kinds}</p></details>"
    head = f"<h3>{escape(where)}</h3>" if several or count > 1 else ""
    drawn = [_scatter(table, group), *_curves(table, group), *_dots(table, group)]
    return f'{head}<div class="panels">{"".join(drawn)}</div>{_pooled(table, group)}{names}'


def kind(table: Table, row: str) -> Kind:
    if row == ours(score.row for score in table.scores):
        return "ours"
    return "offline" if row in OFFLINE or waits(table, row) else "other"


def _estimates(table: Table, group: Group, column: str) -> dict[str, Estimate]:
    """Of every row that has the column; in a pool, from the streams where it is judged."""
    found = {row: estimate(cell(table, row, column, group.streams)) for row in group.rows}
    return {row: value for row, value in found.items() if value.values}


def _best(table: Table, column: str, estimates: Mapping[str, Estimate]) -> set[str]:
    if column == AHEAD or len(estimates) < 2:
        return set()
    means = {row: value.mean for row, value in estimates.items()}
    leave = [row for row in means if kind(table, row) == "offline"]
    return best(means, higher_is_better(table, column), leave)


def _figure(title: str, drawing: str, more: str = "", wide: bool = False) -> str:
    small = f" <small>{escape(more)}</small>" if more else ""
    return (
        f"<figure{' class=wide' if wide else ''}><figcaption>{escape(title)}{small}</figcaption>"
        f"{drawing}</figure>"
    )


def _dots(table: Table, group: Group) -> list[str]:
    """A panel per column, unless it is drawn over a number; alike columns stand together."""
    counted = {column for family in _counted(group) for column, _ in family}
    heads = list(dict.fromkeys(column.split(",")[0] for column in group.columns))
    out = []
    for column in sorted(group.columns, key=lambda column: heads.index(column.split(",")[0])):
        estimates = _estimates(table, group, column)
        top = _best(table, column, estimates)
        points = [
            Point(row, value, kind(table, row), row in top) for row, value in estimates.items()
        ]
        points.sort(key=lambda p: p.kind == "offline")
        if points and column not in counted:
            better = "higher" if higher_is_better(table, column) else "lower"
            count = max(point.value.streams for point in points)
            of = f", {count} of the streams" if count < len(group.streams) else ""
            out.append(_figure(column, dots(points, column), f"{better} is better{of}"))
    return out


def _counted(group: Group) -> list[list[tuple[str, float]]]:
    """Columns of a lone row that differ in one number: ``held, KiB, after 1,000 frames``."""
    families: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for column in group.columns:
        found = _COUNT.fullmatch(column)
        if found and "," in found[2]:
            number = float(found[2].replace(",", ""))
            families.setdefault((found[1], found[3]), []).append((column, number))
    return [family for family in families.values() if len(family) > 1]


def _curves(table: Table, group: Group) -> list[str]:
    """Rows that change one number of ours, and columns that count: means over that number."""
    out = []
    for name, members in _changes(table, group).items():
        for column in group.columns:
            points = []
            for row, x in members:
                value = estimate(cell(table, row, column, group.streams))
                if value.values:
                    points.append(Point(row, value, kind(table, row), x=x))
            if len(points) > 1:
                thin = [
                    [(x, s.mean) for row, x in members for s in _one(table, row, column, stream)]
                    for stream in group.streams
                ]
                title = f"{column} over {name}"
                out.append(_figure(title, curve(points, [t for t in thin if len(t) > 1], title)))
    for family in _counted(group):
        for row in group.rows:
            points = [
                Point(column, estimate(cell(table, row, column, group.streams)), x=x)
                for column, x in family
            ]
            points = [p for p in points if p.value.values]
            if len(points) > 1:
                title = f"{row}: {family[0][0].partition(', after')[0]}"
                out.append(_figure(title, curve(points, [], title), "over the stream's length"))
    return out


def _one(table: Table, row: str, column: str, stream: str) -> list[Score]:
    return [score for score in cell(table, row, column, [stream]) if score.values]


def _changes(table: Table, group: Group) -> dict[str, list[tuple[str, float]]]:
    """Name of a number -> (row, number), rising; ours stands at its default."""
    families: dict[str, dict[str, float]] = {}
    mine = ours(group.rows)
    for row in group.rows:
        found = _CHANGE.fullmatch(row)
        if not found:
            continue
        name = found[1] + (f",{found[3]}" if found[3] else "")
        families.setdefault(name, {})[row] = float(found[2].replace(",", ""))
        if found[4] and mine:
            families[name][mine] = float(found[4].replace(",", ""))
    return {
        name: sorted(members.items(), key=lambda member: member[1])
        for name, members in families.items()
        if len(members) > 1
    }


def _scatter(table: Table, group: Group) -> str:
    """F1 against CPU time, where a table has both."""
    if not {CPU, F1} <= set(group.columns):
        return ""
    points = []
    for row, value in _estimates(table, group, F1).items():
        cpu = estimate(cell(table, row, CPU, group.streams)).mean
        ahead = waits(table, row)
        name = f"{row}, waits {ahead:.0f} frames" if ahead else row
        points.append(Point(name, value, kind(table, row), x=cpu))
    title = f"{F1} against {CPU}"
    return _figure(title, scatter(points, title, f"{CPU}, one thread"), wide=True)


def _pooled(table: Table, group: Group) -> str:
    return _sheet(table, group.rows, group.columns, group.streams)


def _sheet(
    table: Table, rows: Sequence[str], columns: Sequence[str], streams: Sequence[str]
) -> str:
    """Rows by columns: mean and interval, the best causal row of each column marked."""
    cells: dict[tuple[str, str], str] = {}
    for column in columns:
        found = {row: estimate(cell(table, row, column, streams)) for row in rows}
        found = {row: value for row, value in found.items() if value.values}
        top = _best(table, column, found)
        most = max((value.mean for value in found.values()), default=0.0)
        for row, value in found.items():
            low, mean, high = (figure(v, most) for v in (value.low, value.mean, value.high))
            span = f" <small>{low}–{high}</small>" if value.values > value.streams else ""
            mark = "n best" if row in top else "n"
            cells[row, column] = f'<td class="{mark}">{mean}{span}</td>'
    head = "<th></th>" + "".join(f"<th class=n>{escape(column)}</th>" for column in columns)
    body = "".join(
        f'<tr class="{kind(table, row)}"><td>{escape(row)}</td>'
        + "".join(cells.get((row, column), "<td class=n></td>") for column in columns)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="sheet"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _streams(table: Table) -> str:
    """Every kind of stream by itself, folded."""
    names = list(dict.fromkeys(score.stream for score in table.scores))
    if len(names) < 2:
        return ""
    parts = []
    for name in names:
        scores = [score for score in table.scores if score.stream == name]
        rows = list(dict.fromkeys(score.row for score in scores))
        columns = list(dict.fromkeys(score.column for score in scores))
        parts.append(f"<h3>{escape(name)}</h3>{_sheet(table, rows, columns, [name])}")
    return (
        f"<details><summary>each of the {len(names)} kinds of streams by itself</summary>"
        f"{''.join(parts)}</details>"
    )


def _bars(bars: Sequence[Bar]) -> str:
    """Missed bars first, then those that were met, the nearest first."""
    if not bars:
        return '<p class="note">These tables promise nothing.</p>'
    order = sorted(bars, key=lambda bar: (bar.met, _margin(bar)))
    missed = sum(not bar.met for bar in bars)
    shown = missed + NEAREST
    told = f"{missed} of {len(bars)} are missed." if missed else f"All {len(bars)} are met."
    rest = order[shown:]
    more = f"<details><summary>{len(rest)} more, all met</summary>{_bar_sheet(rest)}</details>"
    return (
        f'<p class="note">{told} Missed ones first, then the nearest.</p>'
        f"{_bar_sheet(order[:shown])}{more if rest else ''}"
    )


def _bar_sheet(bars: Sequence[Bar]) -> str:
    rows = "".join(
        f"<tr><td>{escape(bar.text)}</td><td class=n>{figure(bar.value)}</td>"
        f"<td>{_limit(bar)}</td>"
        f'<td class="{"met" if bar.met else "missed"}">{"met" if bar.met else "MISSED"}</td></tr>'
        for bar in bars
    )
    return (
        '<div class="sheet"><table><thead><tr><th>promise</th><th class=n>measured</th>'
        f"<th>bar</th><th></th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
