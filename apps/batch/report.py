"""report.html of a batch: counts, causes, throughput, the worst and the best items as pictures."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import retain
from retain.apps.batch.local import cores
from retain.apps.batch.manifest import BAD, Manifest, Row
from retain.apps.batch.progress import Progress, shown, span
from retain.apps.batch.tasks import TASKS, Task
from retain.apps.drawing import data_uri, jpeg, number, shrink, size
from retain.apps.report_parts import cell, write_page
from retain.pipeline.redact import redact

if TYPE_CHECKING:
    from retain.apps.batch.run import BatchOptions

log = logging.getLogger(__name__)
SHOWN = 6
"""Items on either end."""
LISTED = 200
"""Items in the list of what failed; quarantine.csv has all."""
_WIDTH = 320
_WRAP = 'style="white-space:normal;overflow-wrap:anywhere"'
_SEEN = 400
"""Frames of a film looked at to find its middle."""


def write_report(
    out: Path, options: BatchOptions, manifest: Manifest, progress: Progress, mark: str
) -> None:
    """Write ``out`` atomically. ``mark``: the fingerprint of this run."""
    counts = manifest.counts()
    left = sum(counts.get(state, (0, 0))[0] for state in ("pending", "running"))
    task = TASKS[options.task]
    worst, best = _ends(manifest.rows(("done",)), task)
    folder = out.parent
    body = "\n".join(
        (
            _causes(manifest),
            _pictures(task.worst, task.label, worst, folder)
            or f"<h2>{task.worst}</h2><p class=note>No item has a {escape(task.label)}.</p>",
            _pictures(task.best, task.label, best, folder),
            _failed(manifest.rows(BAD)),
        )
    )
    write_page(
        out,
        title=f"{options.task}: {Path(redact(options.given)).name or options.given}",
        body=body,
        numbers=[*_numbers(counts, progress), *_speed(manifest.rows(("done",)))],
        stats=None,
        environment={
            "command": redact(options.command),
            "list": redact(options.given),
            **options.settings,
            "fingerprint": mark,
            "retain": retain.__version__,
            "Python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {cores()} cores",
        },
        warning=[f"{number(left)} items are left; the same command goes on."] if left else (),
    )


def _numbers(counts: Mapping[str, tuple[int, int]], progress: Progress) -> list[str]:
    total = sum(items for items, _ in counts.values())
    nbytes = sum(of_state for _, of_state in counts.values())
    done = counts.get("done", (0, 0))[0]
    bad = {state: counts.get(state, (0, 0))[0] for state in BAD}
    words = f"{number(bad['quarantined'])} no good in themselves"
    cells = [
        cell("Items", number(total), size(nbytes) if nbytes else ""),
        cell("Done", number(done), f"{progress.skipped} of them before", done / max(total, 1)),
        cell("Gave nothing", number(sum(bad.values())), words),
    ]
    if progress.ended_count:
        rate = 3600 * progress.ended_count / max(progress.took_s, 1e-9)
        busy = progress.seconds / max(progress.took_s, 1e-9)
        cells += [
            cell("Throughput", number(rate), f"items an hour; took {span(progress.took_s)}"),
            cell("Workers", f"{busy:.1f}", f"busy on average; at most {size(progress.peak_bytes)}"),
        ]
    return cells


def _speed(rows: Iterable[Row]) -> list[str]:
    """How fast one worker works footage off; empty where items have none."""
    footage = seconds = 0.0
    for row in rows:
        footage += row.facts.get("footage_s", 0.0)
        seconds += row.seconds
    if not footage or not seconds:
        return []
    more = f"real time, a worker; {span(footage)} of footage"
    speed = footage / seconds
    return [cell("Speed", f"{speed:.1f}×" if speed >= 1 else f"{speed:.2g}×", more)]


def _ends(rows: Iterable[Row], task: Task) -> tuple[list[tuple[float, Row]], ...]:
    """The worst and the best items; none of them twice."""
    known = [(value, row) for row in rows if (value := _measure(task, row.facts)) is not None]
    ordered = sorted(known, key=lambda pair: pair[0], reverse=not task.high)
    each = min(SHOWN, (len(ordered) + 1) // 2)
    best = ordered[::-1][: min(each, len(ordered) - each)]
    return ordered[:each], best


def _measure(task: Task, facts: Mapping[str, Any]) -> float | None:
    value = task.measure(facts)
    return value if value is not None and np.isfinite(value) else None


def _causes(manifest: Manifest) -> str:
    rows = [
        f"<tr><td>{escape(cause)} <small>{state}</small></td><td class=n>{number(count)}</td>"
        f"<td {_WRAP}>{escape(shown(key))}: {escape(shown(message))}</td></tr>"
        for state, cause, count, key, message in manifest.causes()
    ]
    if not rows:
        return "<h2>What went wrong</h2><p class=note>Nothing.</p>"
    return (
        "<h2>What went wrong</h2><div class=sheet><table><thead><tr><th>cause</th>"
        f"<th class=n>items</th><th>such as</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def _failed(rows: Iterable[Row]) -> str:
    bad = list(rows)
    if not bad:
        return ""
    lines = "".join(
        f"<tr><td {_WRAP}>{escape(shown(row.key))}</td>"
        f"<td>{row.cause} <small>{row.state}</small></td>"
        f"<td class=n>{row.attempts}</td><td {_WRAP}>{escape(shown(row.message))}</td></tr>"
        for row in bad[:LISTED]
    )
    more = f"<p class=note>{number(len(bad) - LISTED)} more are in quarantine.csv.</p>"
    return (
        "<h2>Items that gave nothing</h2><div class=sheet><table><thead><tr><th>item</th>"
        "<th>cause</th><th class=n>attempts</th><th>what it means</th></tr></thead>"
        f"<tbody>{lines}</tbody></table></div>" + (more if len(bad) > LISTED else "")
    )


def _pictures(name: str, label: str, items: list[tuple[float, Row]], folder: Path) -> str:
    if not items:
        return ""
    cards = []
    for value, row in items:
        image = _picture(folder / row.out, row.path)
        key = shown(row.key)
        picture = (
            f'<img src="{data_uri(jpeg(shrink(image, _WIDTH)))}" alt="{escape(key)}" '
            'decoding="sync">'
            if image is not None
            else "<p>There is no picture of it.</p>"
        )
        cards.append(
            f'<article class="card"><div class="picture">{picture}</div><div class="words">'
            f'<div class="top"><a style="overflow-wrap:anywhere" href="{row.out}/report.html">'
            f"{escape(key)}</a></div>"
            f'<div class="more">{value:.4g} · {row.seconds:.1f} s</div></div></article>'
        )
    return (
        f"<h2>{name}</h2><p class=note>By {escape(label)}.</p>"
        f'<div class="cards">{"".join(cards)}</div>'
    )


def _picture(folder: Path, source: str) -> np.ndarray | None:
    """uint8 [H, W, 3]: the middle of a film the task made, else of the source."""
    for path in (*sorted(map(str, folder.glob("*.mp4"))), source):
        image = _middle(path)
        if image is not None:
            return image
    return None


def _middle(path: str) -> np.ndarray | None:
    """The middle one of the first ``_SEEN`` frames, of a stream that cannot say how long it is.
    At most eight pictures are held."""
    from retain.pipeline.sources.any import AnySource

    source, kept, stride = AnySource(path, limit=_SEEN), [], 1
    try:
        for index, frame in enumerate(source.frames()):
            if index % stride == 0:
                kept.append(shrink(frame.image, _WIDTH))
                if len(kept) == 8:
                    kept, stride = kept[::2], 2 * stride
    except Exception:  # a report of ten thousand items does without a picture of one
        log.debug("No picture of %r.", path, exc_info=True)
    finally:
        source.close()
    return kept[len(kept) // 2] if kept else None
