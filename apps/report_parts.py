"""What every report is built of: the skeleton, boxes of numbers, stages, environment."""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from retain.apps.drawing import clock, number, size
from retain.apps.page.stages import table
from retain.apps.running import REPORT, Footage
from retain.pipeline.files import write_whole
from retain.pipeline.metrics import GraphStats
from retain.pipeline.run import RunReport

HERE = Path(__file__).parent


def write_page(
    out: Path,
    *,
    title: str,
    body: str,
    numbers: Sequence[str],
    stats: Mapping[str, Any] | None,
    environment: Mapping[str, Any],
    warning: Sequence[str] = (),
    notice: str = "",
    footer: str = "",
) -> Path:
    """Write the report ``out`` (atomically) and return it.

    ``body``: HTML between the ``numbers`` (see ``cell``) and the stages. ``stats``: GraphStats as
    plain values, or empty; None: this is about no graph. ``environment``: anything worth knowing
    to repeat the run; ``command`` is shown first. ``warning``: sentences why the run is not whole.
    ``notice`` stands above all, ``footer`` below; both are plain text.
    """
    text = Template((HERE / "report.template.html").read_text("utf-8"))
    script = re.search(r"<script>(.*?)</script>", text.template, re.DOTALL)
    assert script is not None
    page = text.substitute(
        policy=_policy(script[1]),
        tokens=(HERE / "page/static/tokens.css").read_text("utf-8"),
        title=escape(title),
        date=datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        notice=f'<p class="notice" role="note">{escape(notice)}</p>' if notice else "",
        warning=_warning(warning),
        numbers="\n".join(numbers),
        body=body,
        stages="" if stats is None else f"<h2>Stages</h2>\n{_stages(graph_stats(stats))}",
        environment=environment_sheet(environment),
        footer=escape(footer),
    )
    write_whole(out, page.encode())
    return out


def write_run(
    folder: Path,
    body: Path,
    parts: Mapping[str, str],
    *,
    title: str,
    numbers: Sequence[str],
    report: RunReport,
    environment: Mapping[str, Any],
    incomplete: str,
    notice: str = "",
    footer: str = "",
) -> Path:
    """Write the report of a run on a stream into ``folder``: the template ``body`` with its
    ``parts``, all of them HTML. ``incomplete``: why the run is not whole; empty when it is."""
    return write_page(
        folder / REPORT,
        title=title,
        body=Template(body.read_text("utf-8")).substitute(parts),
        numbers=numbers,
        stats=msgspec.to_builtins(report.stats),
        environment=environment,
        warning=[incomplete] if incomplete else [],
        notice=notice,
        footer=footer,
    )


def graph_stats(stats: Mapping[str, Any]) -> GraphStats | None:
    return msgspec.convert(dict(stats), GraphStats) if stats else None


def speed_cell(seconds: float, graph: GraphStats | None) -> list[str]:
    """How fast ``seconds`` of stream were worked off; empty when that is not known."""
    if graph is None or graph.uptime_s <= 0:
        return []
    speed = seconds / graph.uptime_s
    return [cell("Speed", f"{speed:.1f}×", f"real time; took {clock(graph.uptime_s)}")]


def frames_cell(journal: Footage, report: RunReport) -> str:
    """How much of the stream went by, and whether all of it was looked at."""
    lost = sum(sum(edge.dropped.values()) for edge in report.stats.edges if edge.dst != "page")
    more = f"{number(lost)} more were lost" if lost else "none lost"
    return cell("Frames", number(journal.frames), f"{clock(journal.footage_s)}; {more}")


def words_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text. Columns whose cells begin with a digit are set flush right."""
    right = [all(row[i][:1].isdigit() or row[i] == "–" for row in rows) for i in range(len(head))]
    kinds = [" class=n" if number else "" for number in right]

    def line(tag: str, words: Sequence[str]) -> str:
        cells = zip(kinds, words, strict=True)
        return "".join(f"<{tag}{kind}>{escape(word)}</{tag}>" for kind, word in cells)

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{line('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def words_sheet(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """``words_table``, which scrolls sideways where it is too wide."""
    return f'<div class="sheet">{words_table(head, rows)}</div>'


def cell(name: str, value: str, more: str, share: float | None = None) -> str:
    """One box of numbers. ``share`` of a budget is drawn as a bar."""
    bar = ""
    if share is not None:
        bar = f'<div class="bar"><i style="width:{min(100 * share, 100):.1f}%"></i></div>'
    return f"<div><dt>{name}</dt><dd>{value} <small>{more}</small></dd>{bar}</div>"


def _warning(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    text = " ".join(escape(reason) for reason in reasons)
    return f'<div class="warning" role="alert"><b>This run is incomplete.</b>{text}</div>'


def _policy(script: str) -> str:
    """Nothing is loaded from anywhere; only the one script of the template may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _stages(graph: GraphStats | None) -> str:
    if graph is None:
        return '<p class="note">No numbers of the stages were given.</p>'
    rows = []
    for stage in table([(0.0, graph)]):
        dropped = ", ".join(f"{number(n)} {cause}" for cause, n in stage["dropped"].items() if n)
        failed = " <small>failed</small>" if stage["state"] == "failed" else ""
        if stage["restarts"]:
            failed += f" <small class=bad>started again: {stage['restarts']}</small>"
        cells = [
            number(stage["done"]),
            f"{stage['rate']:.1f}/s",
            f"{stage['service_ms']:.1f} <small>/ {stage['service_p95_ms']:.1f} ms</small>",
            f"{stage['age_ms']:.1f} ms",
            f"{100 * stage['cpu']:.0f} %",
            size(stage["memory_bytes"]) if stage["memory_bytes"] else "",
            size(stage["rss_bytes"]) if stage["rss_bytes"] else "",
        ]
        rows.append(
            f"<tr><td>{escape(stage['name'])} <small>{stage['role']}</small>{failed}</td>"
            + "".join(f"<td class=n>{cell}</td>" for cell in cells)
            + f'<td class="{"n bad" if dropped else "n"}">{escape(dropped) or "0"}</td></tr>'
        )
    names = ("frames", "rate", "service p50 / p95", "age p95", "CPU", "held", "process", "dropped")
    head = "<th>stage</th>" + "".join(f"<th class=n>{name}</th>" for name in names)
    return (
        f'<div class="sheet"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def environment_sheet(environment: Mapping[str, Any]) -> str:
    """What is needed to repeat a run: its ``command``, then everything else by name."""
    rest = dict(environment)
    command = rest.pop("command", "")
    if isinstance(command, (list, tuple)):
        command = " ".join(map(str, command))
    shown = f"<pre>{escape(str(command))}</pre>" if command else ""
    rows = "".join(f"<dt>{escape(str(k))}</dt><dd>{_value(v)}</dd>" for k, v in rest.items())
    return f'{shown}<div class="sheet"><dl class="environment">{rows}</dl></div>' if rows else shown


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(k))} {_value(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else "–"
    return escape(str(value))
