"""``report.html``: a finished run in one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from retain.apps.drawing import REASONS, clock, data_uri, jpeg, number, score, shrink, size
from retain.apps.plots import Mark, timeline_svg
from retain.apps.recording import Recording, read
from retain.apps.report_parts import HERE, cell, graph_stats, speed_cell, write_page
from retain.pipeline.metrics import GraphStats

if TYPE_CHECKING:
    from retain.memory.curvestream import Entry

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
    body = Template((HERE / "report.watch.html").read_text("utf-8")).substitute(
        timeline=timeline_svg(run.history.points, [_mark(entry) for entry in entries]),
        kept=_kept(run, entries),
        cards="\n".join(_cards(entries)),
        forgotten=_forgotten(run),
        forgotten_table=_forgotten_table(run),
    )
    return write_page(
        out,
        title=title,
        body=body,
        numbers=_numbers(run, len(entries), graph_stats(stats)),
        stats=stats,
        environment=environment,
        warning=_missing(incomplete, run, results, memory),
    )


def _load(memory: Path) -> Sequence[Entry]:
    if not memory.is_file():
        return []
    from retain.memory.curvestream import load_entries

    return load_entries(str(memory))


def _missing(incomplete: str, run: Recording, results: Path, memory: Path) -> list[str]:
    reasons = [incomplete] if incomplete else []
    if not results.is_file():
        reasons.append(f"There is no {results.name}, so decisions are missing here.")
    if run.torn:
        reasons.append(f"The last line of {results.name} was cut off and is left out.")
    if not memory.is_file():
        reasons.append(f"There is no {memory.name}, so the kept pictures are missing here.")
    return reasons


def _numbers(run: Recording, entries: int, graph: GraphStats | None) -> list[str]:
    held = run.held
    kept = entries or (len(held.entries) if held else 0)
    share = f"{100 * kept / run.frames:.1f} % of all" if run.frames else ""
    lost = f"{number(run.lost)} more were lost" if run.lost else "none lost"
    cells = [
        cell("Stream", clock(run.duration_s), f"from {clock(run.first_s)}" if run.frames else ""),
        cell("Frames seen", number(run.frames), lost if run.frames else ""),
        cell("Moments kept", number(kept), share),
    ]
    if held:
        for name, used, budget, words in (
            ("Vision tokens", held.tokens, held.token_budget, number),
            ("Memory", held.nbytes, held.byte_budget, size),
        ):
            cells.append(cell(name, words(used), f"of {words(budget)}", used / budget))
    return cells + speed_cell(run.duration_s, graph)


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
        f'<img src="{data_uri(picture)}" alt="The stream at {when}" decoding="sync">'
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
