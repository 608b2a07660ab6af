"""Kinetics-GEBD: F1 at ten relative distances, against the annotator that fits best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from retain.apps.evaluate_sets.base import Kept, SetOptions, Table, Tell, limited, partly
from retain.datasets.boundaries import gebd as published
from retain.datasets.boundaries.base import Clip
from retain.models.boundaries.detector import BoundaryDetector
from retain.pipeline.errors import RetainError, UsageError

SAME = 0.02
"""Share of its frames by which a video may differ from what was annotated."""


def gebd(options: SetOptions, kept: Kept, tell: Tell) -> Iterable[Table]:
    """The usual table: F1, precision and recall at each distance."""
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
    broken, other = [], []
    for k, one in enumerate(limited(options, there)):
        tell(one.clip.name, k, options.limit or len(there))
        facts = kept.ask(one.clip.name, partial(_found, one.clip))
        if facts["error"]:
            broken.append(f"{one.clip.name}: {facts['error']}")
        else:
            found[one.clip.name] = facts["seconds"]
            if abs(facts["frames"] - one.clip.length) > max(2, SAME * one.clip.length):
                other.append(one.clip.name)
    if not found:
        raise UsageError(f"No video of {file.name} could be judged.", hint=broken[0])
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
            *broken[:3], *([f"{len(broken)} videos could not be read."] if broken else ()),
            *_told(other), *partly(options),
            f"Of {len(clips)} videos {len(clips) - len(there)} are not there, "
            f"{scores[0].disagreed} have annotators that disagree (as published, left out).",
            "Untrained, of pixels and motion alone, and every boundary is said at once; published "
            "detectors are trained on this set and see the whole video.",
        ),
    )  # fmt: skip


def _told(other: Sequence[str]) -> tuple[str, ...]:
    if not other:
        return ()
    return (
        f"{len(other)} videos, such as {other[0]}, have another number of frames than annotated: "
        "cut or encoded differently. Their times are by the annotated rate.",
    )


def recognises(path: Path) -> bool:
    return path.suffix == ".pkl" if path.is_file() else bool(list(path.glob("*mr*.pkl")))


def _annotation(given: Path) -> Path:
    """The validation's annotations, if there are several."""
    if given.is_file():
        return given
    files = sorted(given.glob("*mr*.pkl"))
    if not files:
        raise UsageError(
            f"{str(given)!r} holds no annotations of Kinetics-GEBD.",
            hint="They are called k400_mr345_….pkl; give the file or its folder.",
        )
    return next((path for path in files if "val" in path.name), files[0])


def _found(clip: Clip) -> Mapping[str, Any]:
    """Seconds at which a new event begins, and how many frames the file has."""
    detector, seconds, frames = BoundaryDetector(), [], 0
    try:
        for k, image in enumerate(clip.frames()):
            now = k / clip.fps
            if detector.step(image, None, now).kind in ("cut", "gradual"):
                seconds.append(now)
            frames = k + 1
    except RetainError as error:
        return {"seconds": [], "frames": 0, "error": error.what}
    return {"seconds": seconds, "frames": frames, "error": ""}
