"""``report.html``: a finished run in one self-contained file."""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import msgspec

from retain.apps.drawing import REASONS, clock, data_uri, jpeg, number, score, shrink, size
from retain.apps.page.stages import table
from retain.apps.plots import Mark, timeline_svg
from retain.apps.recording import Recording, read
from retain.pipeline.metrics import GraphStats

if TYPE_CHECKING:
    from retain.memory.curvestream import Entry

HERE = Path(__file__).parent
PICTURE_BYTES = 5_000_000
"""What all pictures together may take, before base64 makes them a third larger."""
WIDTHS = (640, 480, 360, 240, 160, 96)


def write_report(
    out: Path,
    *,
    title: str,
    results: Path,
    memory: Path,
    stats: Mapping[str, Any],
    environment: Mapping[str, Any],
    incomplete: str = "",
) -> Path:
    """Write ``out`` (atomically) and return it.

    ``results``: the run's JSON lines; ``memory``: its memory file. Either may be missing when the
    run was cut short, and the report says so. ``stats``: GraphStats as plain values, or empty.
    ``environment``: anything worth knowing to repeat the run; ``command`` is shown first.
    ``incomplete``: a sentence why the run is not whole.

    Raises RetainError when ``results`` and StateError when ``memory`` exists but cannot be read.
    """
    run = read(results)
    entries = _load(memory)
    graph = msgspec.convert(dict(stats), GraphStats) if stats else None
    text = Template((HERE / "report.template.html").read_text("utf-8"))
    script = re.search(r"<script>(.*?)</script>", text.template, re.DOTALL)
    assert script is not None
    page = text.substitute(
        policy=_policy(script[1]),
        tokens=(HERE / "page/static/tokens.css").read_text("utf-8"),
        title=escape(title),
        date=datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        warning=_warning(incomplete, run, results, memory),
        numbers=_numbers(run, len(entries), graph),
        timeline=timeline_svg(run.history.points, [_mark(entry) for entry in entries]),
        kept=_kept(run, entries),
        cards="\n".join(_cards(entries)),
        forgotten=_forgotten(run),
        forgotten_table=_forgotten_table(run),
        stages=_stages(graph),
        environment=_environment(environment),
    )
    _write(out, page)
    return out


def _load(memory: Path) -> Sequence[Entry]:
    if not memory.is_file():
        return []
    from retain.memory.curvestream import load_entries

    return load_entries(str(memory))


def _policy(script: str) -> str:
    """Nothing is loaded from anywhere; only the one script of the template may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _warning(incomplete: str, run: Recording, results: Path, memory: Path) -> str:
    reasons = [incomplete] if incomplete else []
    if not results.is_file():
        reasons.append(f"There is no {results.name}, so decisions are missing here.")
    if run.torn:
        reasons.append(f"The last line of {results.name} was cut off and is left out.")
    if not memory.is_file():
        reasons.append(f"There is no {memory.name}, so the kept pictures are missing here.")
    if not reasons:
        return ""
    text = " ".join(escape(reason) for reason in reasons)
    return f'<div class="warning" role="alert"><b>This run is incomplete.</b>{text}</div>'


def _numbers(run: Recording, entries: int, graph: GraphStats | None) -> str:
    held = run.held
    kept = entries or (len(held.entries) if held else 0)
    share = f"{100 * kept / run.frames:.1f} % of all" if run.frames else ""
    lost = f"{number(run.lost)} more were lost" if run.lost else "none lost"
    cells = [
        _cell("Stream", clock(run.duration_s), f"from {clock(run.first_s)}" if run.frames else ""),
        _cell("Frames seen", number(run.frames), lost if run.frames else ""),
        _cell("Moments kept", number(kept), share),
    ]
    if held:
        for name, used, budget, words in (
            ("Vision tokens", held.tokens, held.token_budget, number),
            ("Memory", held.nbytes, held.byte_budget, size),
        ):
            cells.append(_cell(name, words(used), f"of {words(budget)}", used / budget))
    if graph and graph.uptime_s > 0:
        speed = run.duration_s / graph.uptime_s
        cells.append(_cell("Speed", f"{speed:.1f}×", f"real time; took {clock(graph.uptime_s)}"))
    return "\n".join(cells)


def _cell(name: str, value: str, more: str, share: float | None = None) -> str:
    bar = ""
    if share is not None:
        bar = f'<div class="bar"><i style="width:{min(100 * share, 100):.1f}%"></i></div>'
    return f"<div><dt>{name}</dt><dd>{value} <small>{more}</small></dd>{bar}</div>"


def _mark(entry: Entry) -> Mark:
    text = f"{clock(entry.seconds)}: {entry.tier}, {REASONS[entry.reason]}"
    return Mark(entry.seconds, entry.score, entry.tier, text, f"#m{entry.seq}")


def _kept(run: Recording, entries: Sequence[Entry]) -> str:
    if not entries:
        return "The memory holds no frames."
    clear = sum(entry.tier == "clear" for entry in entries)
    return (
        f"{len(entries)} frames, oldest first: {clear} Clear, at their own size, and "
        f"{len(entries) - clear} Blurred, made small to save tokens."
    )


def _cards(entries: Sequence[Entry]) -> list[str]:
    return [
        _card(entry, picture) for entry, picture in zip(entries, _pictures(entries), strict=True)
    ]


def _pictures(entries: Sequence[Entry]) -> list[bytes]:
    """The kept pictures as JPEG, as large as fits into PICTURE_BYTES together."""
    pictures: list[bytes] = []
    for width in WIDTHS:
        pictures = [jpeg(shrink(e.image(), width)) if e.jpeg else b"" for e in entries]
        if sum(map(len, pictures)) <= PICTURE_BYTES:
            break
    return pictures


def _card(entry: Entry, picture: bytes) -> str:
    when, tier = clock(entry.seconds), entry.tier
    image = (
        f'<img src="{data_uri(picture)}" alt="The stream at {when}" decoding="async">'
        if picture
        else "<p>Only the feature was kept.</p>"
    )
    return (
        f'<article class="card {tier}" id="m{entry.seq}"><div class="picture">{image}</div>'
        f'<div class="words"><div class="top"><span class="time">{when}</span>'
        f'<span class="badge {tier}"><i class="mark {tier}"></i>{tier.capitalize()}</span></div>'
        f"<div>{REASONS[entry.reason].capitalize()}</div>"
        f'<div class="more">score {score(entry.score)} · frame {entry.seq}</div>'
        f'<div class="more">{entry.width}×{entry.height} · {entry.tokens} tokens · '
        f"{size(len(entry.jpeg))}</div></div></article>"
    )


def _forgotten(run: Recording) -> str:
    gone = sum(run.forgotten.values())
    discarded = run.states["discard"]
    words = [
        f"Of {number(run.frames)} frames, {number(discarded)} were discarded at once and "
        f"{number(run.kept)} entered the memory."
    ]
    if run.carried:
        words.append(f"{number(run.carried)} were in it already, from an earlier run.")
    if gone:
        words.append(f"{number(gone)} left it again to make room.")
    elif run.kept:
        words.append("None had to leave it.")
    if run.demoted:
        words.append(f"{number(run.demoted)} Clear pictures were made Blurred to stay.")
    return " ".join(words)


def _forgotten_table(run: Recording) -> str:
    if not run.forgotten:
        return ""
    rows = []
    for reason in {reason: None for reason, _ in sorted(run.forgotten)}:
        clear, blurred = (run.forgotten[reason, tier] for tier in ("clear", "blurred"))
        words = next((text for key, text in REASONS.items() if key == reason), "")
        rows.append(
            f"<tr><td>{reason} <small>{words}</small></td><td class=n>{number(clear)}</td>"
            f"<td class=n>{number(blurred)}</td><td class=n>{number(clear + blurred)}</td></tr>"
        )
    return (
        '<div class="sheet"><table><thead><tr><th>Had been kept because</th>'
        "<th class=n>left as Clear</th><th class=n>left as Blurred</th><th class=n>together</th>"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _stages(graph: GraphStats | None) -> str:
    if graph is None:
        return '<p class="note">No numbers of the stages were given.</p>'
    rows = []
    for stage in table([(0.0, graph)]):
        dropped = ", ".join(f"{number(n)} {cause}" for cause, n in stage["dropped"].items() if n)
        failed = " <small>failed</small>" if stage["state"] == "failed" else ""
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


def _environment(environment: Mapping[str, Any]) -> str:
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


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
