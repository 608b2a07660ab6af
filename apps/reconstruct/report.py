"""``report.html`` of `retain reconstruct`: unseen frames, the path, the map and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.apps.drawing import clock, data_uri, jpeg, number, size
from retain.apps.reconstruct.outcome import Outcome, Score, seen_from
from retain.apps.reconstruct.plan import plan_svg
from retain.apps.reconstruct.record import Recorder
from retain.apps.report_parts import cell, write_run
from retain.pipeline.run import RunReport

SHOWN = 9
"""Held-out frames shown: the worst, the best, and others evenly between."""
ERROR = 4
"""Differences are shown so many times as bright."""


def write_report(
    folder: Path,
    *,
    title: str,
    journal: Recorder,
    outcome: Outcome,
    report: RunReport,
    environment: Mapping[str, Any],
    incomplete: str = "",
) -> Path:
    """Write ``report.html`` into ``folder``, beside the files of a closed ``journal``."""
    parts = {
        "views_note": _views_note(outcome),
        "views": "\n".join(_view(outcome, score) for score in _chosen(outcome.scores)),
        "path_note": _path_note(outcome),
        "path": plan_svg(outcome),
        "tracking": _table(("state", "frames", "why"), _states(journal), words=2),
        "map": _table(("", ""), _map_rows(journal, outcome), words=0),
        "parts": _table(("part", "mean per frame", "longest"), _parts(journal)),
    }
    return write_run(
        folder,
        Path(__file__).parent / "report.body.html",
        parts,
        title=title,
        numbers=_numbers(journal, outcome, report),
        report=report,
        environment=environment,
        incomplete=incomplete,
    )


def _numbers(journal: Recorder, made: Outcome, report: RunReport) -> list[str]:
    share = len(made.gaussians) / max(made.raw, 1)
    cells = [
        cell("Held-out PSNR", _decibel(made.mean("psnr")), f"{len(made.scores)} unseen frames"),
        cell("SSIM", _number(made.mean("ssim")), f"{_percent(made.mean('covered'))} covered"),
        cell("Gaussians", number(len(made.gaussians)), f"{100 * share:.1f} % of raw blocks"),
    ]
    if depth := made.depth:
        cells.append(cell("Depth error", f"{100 * depth.median:.1f} cm",
                          f"median; mean {100 * depth.mean:.1f} cm"))  # fmt: skip
    if drift := made.drift:
        free = "scale free" if drift.scaled else f"worst {100 * drift.ate.largest:.1f} cm"
        cells.append(cell("Path error (ATE)", f"{100 * drift.ate.rmse:.1f} cm", free))
    if journal.pose is not None:
        budget = journal.pose.byte_budget
        cells.append(cell("Memory", size(journal.most_bytes), f"at most, of {size(budget)}",
                          journal.most_bytes / budget))  # fmt: skip
    lost = journal.states["lost"]
    cells.append(cell("Frames", number(journal.frames), f"{lost} lost" if lost else "none lost"))
    took = report.stats.uptime_s
    if took > 0:
        rate = f"{journal.frames / took:.2g}"
        cells.append(cell("Speed", rate, f"frames a second; took {clock(took)}"))
    return cells


def _views_note(made: Outcome) -> str:
    if not made.scores:
        return "No frame was held out, so nothing says how good the map is."
    return (
        "Kept from the map, and drawn from it where the camera was: the truth, the map, and "
        f"{ERROR} times their difference. What the map does not cover is black and counts. Mean "
        f"PSNR {_decibel(made.mean('psnr'))}, over covered pixels "
        f"{_decibel(made.mean('psnr_covered'))}. LPIPS is not given: it needs weights that are a "
        "download."
    )


def _chosen(scores: Sequence[Score]) -> list[Score]:
    ranked = sorted(scores, key=lambda score: score.psnr)
    if len(ranked) > SHOWN:
        ranked = [ranked[round(i)] for i in np.linspace(0, len(ranked) - 1, SHOWN)]
    return ranked


def _view(made: Outcome, score: Score) -> str:
    truth = score.held.image().astype(np.float32) / 255
    drawn = np.clip(seen_from(made.gaussians, score.held, score.c2w).color, 0, 1)
    wrong = np.clip(ERROR * np.abs(drawn - truth), 0, 1)
    pictures = "".join(
        f'<img src="{data_uri(jpeg(_bytes(picture), 85))}" alt="{name}" decoding="sync">'
        for name, picture in (("truth", truth), ("map", drawn), ("difference", wrong))
    )
    depth = score.depth
    more = f" · depth {100 * depth.median:.1f} cm" if depth and depth.pixels else ""
    return (
        f'<article class="card"><div class="picture three">{pictures}</div><div class="words">'
        f'<div class="top"><span class="time">{clock(score.held.seconds)}</span>'
        f"<span>{_decibel(score.psnr)}</span></div>"
        f'<div class="more">frame {score.held.seq} · SSIM {score.ssim:.3f} · '
        f"{100 * score.covered:.0f} % covered{more}</div></div></article>"
    )


def _bytes(picture: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.rint(255 * picture), np.uint8)


def _path_note(made: Outcome) -> str:
    note = "From above; the view of the camera as a wedge, every so often."
    if drift := made.drift:
        scaled = "a similarity (scale free)" if drift.scaled else "a rigid motion"
        note += (
            f" The given path is dashed. Aligned by {scaled}: ATE {100 * drift.ate.rmse:.2f} cm "
            f"(median {100 * drift.ate.median:.2f}), RPE per frame "
            f"{100 * drift.rpe.translation.rmse:.2f} cm and {drift.rpe.rotation_deg.rmse:.2f}°."
        )
    return note


def _states(journal: Recorder) -> list[tuple[str, str, str]]:
    why = "; ".join(f"{escape(text)} ({count})" for text, count in journal.reasons.most_common(5))
    return [
        (state, number(count), why if state in ("lost", "starting") else "")
        for state, count in journal.states.most_common()
    ]


def _map_rows(journal: Recorder, made: Outcome) -> list[tuple[str, str]]:
    moved = [
        f"{_length(made, median)} ({low}–{high} frames old)"
        for (low, high), median, count in zip(
            made.moved.ages, made.moved.median, made.moved.counts, strict=True
        )
        if count
    ]
    return [
        ("stable Gaussians", number(made.stable)),
        ("active Gaussians", number(len(made.gaussians) - made.stable)),
        ("one per 2 × 2 pixels of every mapped frame", number(made.raw)),
        ("keyframes", number(journal.keyframes)),
        ("loops closed", number(journal.loops)),
        ("moved since they became stable, median by age", "; ".join(moved) or "nothing"),
        ("cells with a double wall", _percent(made.double_walls)),
        ("last gradient steps", number(made.refined)),
    ]


def _parts(journal: Recorder) -> list[tuple[str, str, str]]:
    rows = [(name, f"{mean:.1f}", f"{most:.0f}") for name, mean, most in journal.ms_per_frame()]
    total = sum(mean for _, mean, _ in journal.ms_per_frame())
    return [*rows, ("together", f"{total:.1f}", "")]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = -1) -> str:
    """All columns but the first hold numbers; ``words``: the one whose text may be long."""

    def line(tag: str, values: Sequence[str]) -> str:
        kinds = ["words" if i == words else "n" if i else "" for i in range(len(values))]
        cells = zip(kinds, values, strict=True)
        return "".join(f'<{tag} class="{kind}">{value}</{tag}>' for kind, value in cells)

    top, body = line("th", head), "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    titled = f"<thead><tr>{top}</tr></thead>" if any(head) else ""
    return f'<div class="sheet"><table>{titled}<tbody>{body}</tbody></table></div>'


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "none"


def _length(made: Outcome, value: float) -> str:
    return f"{100 * value:.1f} cm" if made.metric else f"{value:.4f} (no unit)"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "none"


def _decibel(value: float) -> str:
    return f"{value:.2f} dB" if np.isfinite(value) else "none"
