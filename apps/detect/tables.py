"""The comparison of the arms, for the console, summary.json and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retain.apps.detect.arms import ARMS
from retain.apps.drawing import number

if TYPE_CHECKING:
    from retain.apps.detect.judge import Verdict
    from retain.apps.detect.record import Recorder

NAMES = {
    "plain": "detector",
    "plain+track": "detector + ids",
    "bank": "memory",
    "bank+track": "memory + ids",
}
NONE = "–"

WORDS = {
    "boxes": "Boxes per frame that count: with --min-score or more; of rows with ids, those in a "
    "track.",
    "flicker": "Share of boxes without a counterpart in the neighbouring frame. Objects that come "
    "and go count too, in all rows alike.",
    "tracks": "Numbers given. Fewer for the same objects is better.",
    "length": "Mean seconds from a track's first box to its last.",
    "gaps": "Share of their frames in which tracks were not found.",
    "ms": "Milliseconds per frame, median. With memory: all of it, the detector included.",
    "AP50": "Average precision at IoU 0.5, COCO's. Rows with ids count boxes in a track only, so "
    "they miss what was seen once or weakly.",
    "AP": "The same, mean over IoU 0.50 to 0.95.",
    "lost": "Share of steps at which a true track is found or lost anew.",
    "delay": "Mean frames until a true track is found for the first time.",
    "never": "Share of true tracks that are never found.",
    "IDF1": "Share of boxes that have the right identity.",
}
"""What the columns mean."""


def table(journal: Recorder, verdict: Verdict | None) -> tuple[list[str], list[list[str]]]:
    """Head and one row per arm."""
    head = [""]
    head += ["AP50", "AP", "lost", "delay", "never", "IDF1"] if verdict else []
    head += ["boxes", "flicker", "tracks", "length", "gaps", "ms"]
    return head, [_row(journal, verdict, arm) for arm in ARMS if arm in journal.tallies]


def _row(journal: Recorder, verdict: Verdict | None, arm: str) -> list[str]:
    tally, cells = journal.tallies[arm], [NAMES[arm]]
    if verdict:
        one = verdict.arms.get(arm)
        cells += [
            *(number(getattr(one, name, float("nan")), 3) for name in ("ap50", "ap")),
            _percent(getattr(one, "flicker", float("nan"))),
            number(getattr(one, "delay", float("nan")), 1),
            _percent(getattr(one, "never", float("nan"))),
            number(getattr(one, "idf1", float("nan")), 3),
        ]
    tracks = tally.tracks
    plain_ms, all_ms = journal.spent.medians
    return [
        *cells,
        number(tally.per_frame, 2),
        _percent(tally.flicker),
        number(tracks.count) if tracks else NONE,
        f"{number(tracks.mean_s, 1)} s" if tracks and tracks.count else NONE,
        _percent(tracks.gaps) if tracks else NONE,
        number(plain_ms if arm.startswith("plain") else all_ms, 1),
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value == value else NONE


def facts(journal: Recorder, verdict: Verdict | None) -> dict[str, Any]:
    """What summary.json says of the boxes. Times are milliseconds per frame, medians."""
    plain_ms, all_ms = journal.spent.medians
    arms: dict[str, Any] = {}
    for arm, tally in journal.tallies.items():
        arms[arm] = {
            "boxes_per_frame": tally.per_frame,
            "flicker": tally.flicker,
            "ms": plain_ms if arm.startswith("plain") else all_ms,
        }
        if tally.tracks is not None:
            arms[arm] |= {
                "tracks": tally.tracks.count,
                "mean_length_s": tally.tracks.mean_s,
                "gaps": tally.tracks.gaps,
            }
        if verdict and (one := verdict.arms.get(arm)):
            names = ("ap50", "ap", "delay", "never", "idf1")
            arms[arm]["truth"] = {name: getattr(one, name) for name in names} | {
                "lost": one.flicker
            }
    return {
        "classes": journal.names,
        "size": journal.size,
        "boxes": journal.boxes,
        "boxes_from_memory": journal.from_memory,
        "memory_bytes": journal.most_bytes,
        "byte_budget": journal.recall.byte_budget if journal.recall else 0,
        "resets": dict(journal.reset_kinds.most_common()),
        "arms": arms,
        "unknown_classes": verdict.unknown if verdict else (),
    }
