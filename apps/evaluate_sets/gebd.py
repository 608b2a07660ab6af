"""Kinetics-GEBD: F1 at ten relative distances, against the annotator that fits best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from retain.apps.evaluate_sets.base import Kept, SetOptions, Table, Tell, limited, partly
from retain.datasets.boundaries import gebd as published
from retain.datasets.boundaries.base import Clip
from retain.models.boundaries.detector import BoundaryDetector
from retain.pipeline.errors import RetainError, UsageError


def gebd(options: SetOptions, kept: Kept, tell: Tell) -> Iterable[Table]:
    """The usual table, and per boundary counts at 0.05."""
    given = Path(options.path)
    file, videos = _annotation(given), given if given.is_dir() else given.parent
    clips = published.read_gebd(file, videos)
    there = [one for one in clips if not one.clip.missing]
    if not there:
        raise UsageError(
            f"None of the {len(clips)} videos that {file.name} names is below {str(videos)!r}.",
            hint="Kinetics' videos come from their own sources; the names are the video's ids.",
        )
    found: dict[str, list[float]] = {}
    broken = []
    for k, one in enumerate(limited(options, there)):
        tell(one.clip.name, k, options.limit or len(there))
        facts = kept.ask(one.clip.name, partial(_found, one.clip))
        if facts["error"]:
            broken.append(f"{one.clip.name}: {facts['error']}")
        else:
            found[one.clip.name] = facts["seconds"]
    scores = [published.evaluate(clips, found, r) for r in published.RELATIVE]
    columns = tuple(f"{r:.2f}" for r in published.RELATIVE)
    counts = [score.counts for score in scores]
    mean = sum(c.f1 for c in counts) / len(counts)
    yield Table(
        f"Kinetics-GEBD: {scores[0].judged} videos, causal boundary detector of retain",
        ("relative distance", *columns, "mean"),
        [
            ("F1", *(c.f1 for c in counts), mean),
            ("precision", *(c.precision for c in counts), float("nan")),
            ("recall", *(c.recall for c in counts), float("nan")),
        ],
        (
            *broken[:3], *partly(options),
            f"Of {len(clips)} videos {len(clips) - len(there)} are not there, "
            f"{scores[0].disagreed} have annotators that disagree (as published, left out).",
            "Untrained, of pixels and motion alone, and every boundary is said at once; published "
            "detectors are trained on this set and see the whole video.",
        ),
    )  # fmt: skip


def recognises(path: Path) -> bool:
    return path.suffix == ".pkl" if path.is_file() else bool(list(path.glob("*mr*.pkl")))


def _annotation(given: Path) -> Path:
    """The validation's annotations, if there are several."""
    if given.is_file():
        return given
    files = sorted(given.glob("*mr*.pkl"))
    return next((path for path in files if "val" in path.name), files[0])


def _found(clip: Clip) -> Mapping[str, Any]:
    """Seconds at which a new event begins."""
    detector, seconds = BoundaryDetector(), []
    try:
        for k, image in enumerate(clip.frames()):
            now = k / clip.fps
            if detector.step(image, None, now).kind in ("cut", "gradual"):
                seconds.append(now)
    except RetainError as error:
        return {"seconds": [], "error": error.what}
    return {"seconds": seconds, "error": ""}
