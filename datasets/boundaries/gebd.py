"""Kinetics-GEBD (Shou et al., arXiv 2101.10511): event boundaries marked by several people.

The annotation is a pickle or JSON of {video: {...}} with ``fps``, ``video_duration`` (seconds),
``num_frames``, ``f1_consis_avg`` (how far the annotators agree), ``substages_timestamps`` (for each
annotator a list of seconds) and, for finding the video, ``path_video``. The published file of this
form is ``k400_mr345_SPLIT_min_change_duration0.3.pkl``.

``evaluate`` is the protocol of the LOVEU challenge's evaluator:

1. clips whose annotators agree less than 0.3 are dropped;
2. detections outside the clip are dropped;
3. for each annotator, his boundaries take, in his order, the nearest detection that is left, if it
   is no further than ``relative`` x duration; the annotator with the best F1 counts;
4. a clip with no detection counts the boundaries of its first annotator as missed;
5. hits, detections and boundaries are summed over clips before F1 is taken.

The public evaluator passes over clips that a detector gave no answer for, which flatters whoever
leaves out the hard ones; here they are counted in ``Result.unanswered``.

``python -m retain.datasets.boundaries.gebd ANNOTATION FOUND`` prints it; FOUND is JSON or a pickle
of {video: [seconds, ...]}.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from retain.datasets.boundaries.base import Boundary, Clip, Counts
from retain.datasets.boundaries.pickles import read_pickle
from retain.datasets.boundaries.videos import clip_of, find_videos, tell_missing
from retain.pipeline.errors import RetainError, SourceError, SourceFault, UsageError

LEAST_AGREEMENT = 0.3
RELATIVE = tuple(k / 20 for k in range(1, 11))
"""0.05, 0.10, ... 0.50: the distances whose mean F1 is published."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """A clip with what each annotator said."""

    clip: Clip
    """Its ``boundaries`` are those of the annotator who agrees best with the others."""
    duration_s: float
    agreement: float
    annotators: list[list[float]]
    """Seconds of every boundary, for each annotator."""


class Result(NamedTuple):
    """Pooled counts, and how many clips they come from."""

    counts: Counts
    judged: int
    disagreed: int
    """Clips dropped because their annotators agree too little."""
    unanswered: int
    """Clips passed over because the detector gave nothing for them, not even an empty list."""


def read_gebd(annotations: str | Path, videos: str | Path | None = None) -> list[Annotated]:
    """Every clip of the file, in its order; without a video ``clip.missing`` says so.

    Raises SourceError when the file is not such an annotation, naming the clip that is wrong.
    """
    path = Path(annotations)
    table = _table(path)
    held = find_videos(videos)
    clips = [_annotated(str(name), value, held, path) for name, value in table.items()]
    tell_missing([one.clip for one in clips], path)
    return clips


def evaluate(
    clips: Sequence[Annotated], found: Mapping[str, Sequence[float]], relative: float = 0.05
) -> Result:
    """``found`` holds seconds by clip name. Raises UsageError when it answers for no clip."""
    counts, judged, disagreed, unanswered = Counts(), 0, 0, 0
    for one in clips:
        if one.agreement < LEAST_AGREEMENT:
            disagreed += 1
        elif one.clip.name not in found:
            unanswered += 1
        else:
            judged += 1
            counts += judge_clip(one, found[one.clip.name], relative)
    if clips and not judged:
        raise UsageError(
            f"None of {len(clips)} clips can be judged: {disagreed} whose annotators disagree, "
            f"{unanswered} without an answer.",
            hint="Answers go by the names of the annotation.",
        )
    return Result(counts, judged, disagreed, unanswered)


def mean_f1(clips: Sequence[Annotated], found: Mapping[str, Sequence[float]]) -> float:
    """Mean of F1 at the ten distances of ``RELATIVE``."""
    return sum(evaluate(clips, found, r).counts.f1 for r in RELATIVE) / len(RELATIVE)


def judge_clip(one: Annotated, found: Sequence[float], relative: float) -> Counts:
    """Counts against the annotator that suits best; the first of several equal ones."""
    inside = [t for t in found if 0 <= t <= one.duration_s]
    if not inside:
        return Counts(0, 0, len(one.annotators[0]))
    judged = [_against(truth, inside, relative * one.duration_s) for truth in one.annotators]
    return max(judged, key=_f1)


def _against(truth: Sequence[float], found: Sequence[float], most: float) -> Counts:
    left = list(found)
    for t in truth:
        if not left:
            break
        nearest = min(range(len(left)), key=lambda k: abs(t - left[k]))
        if abs(t - left[nearest]) <= most:
            del left[nearest]
    hits = len(found) - len(left)
    return Counts(hits, len(left), len(truth) - hits)


def _f1(counts: Counts) -> float:
    """F1 by way of precision and recall: rounded as the public evaluator rounds, so that the same
    annotator is chosen where two are equal."""
    if not counts.tp:
        return 0.0
    recall, precision = counts.recall, counts.precision
    return 2 * recall * precision / (recall + precision)


def _annotated(name: str, value: Any, held: Mapping[str, Path], path: Path) -> Annotated:
    try:
        fps, duration = float(value["fps"]), float(value["video_duration"])
        agreement = float(value["f1_consis_avg"])
        people = [[float(t) for t in times] for times in value["substages_timestamps"]]
        frames = int(value.get("num_frames") or round(duration * fps))
        agree = [float(x) for x in value.get("f1_consis", [])]
        stem = Path(str(value.get("path_video") or name)).stem
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _wrong(path, name, f"it lacks or garbles {error}") from error
    numbers = [fps, duration, agreement, *(t for times in people for t in times)]
    if not all(math.isfinite(x) for x in numbers) or min(fps, duration) <= 0 or not people:
        raise _wrong(path, name, "it has no annotators, or times that are no numbers")
    best = agree.index(max(agree)) if len(agree) == len(people) else 0
    at = sorted({min(max(math.floor(t * fps), 0), max(frames - 1, 0)) for t in people[best]})
    video = held.get(stem) or held.get(name)
    clip = clip_of(name, video, [Boundary(f, f) for f in at], frames, fps, wanted=f"{stem}.mp4")
    return Annotated(clip, duration, agreement, people)


def _wrong(path: Path, name: str, why: str) -> SourceError:
    return SourceError(
        SourceFault.BROKEN,
        f"{str(path)!r}: {name!r} is no annotation of event boundaries ({why}).",
        hint="Give the file with timestamps by annotator, k400_mr345_..., not the raw one.",
    )


def read_found(path: str | Path) -> dict[str, list[float]]:
    """Seconds by video name. Raises SourceError for anything else."""
    try:
        return {str(name): [float(t) for t in ts] for name, ts in _table(Path(path)).items()}
    except (TypeError, ValueError) as error:
        raise SourceError(
            SourceFault.BROKEN, f"{str(path)!r} holds no lists of seconds by video: {error}."
        ) from error


def _table(path: Path) -> dict[Any, Any]:
    table = _json(path) if path.suffix.lower() == ".json" else read_pickle(path)
    if not isinstance(table, dict) or not table:
        raise SourceError(SourceFault.BROKEN, f"{str(path)!r} holds no table of videos by name.")
    return table


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(
            SourceFault.NOT_FOUND, f"{str(path)!r} cannot be read: {error.strerror}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(SourceFault.BROKEN, f"{str(path)!r} is no JSON: {error}.") from error


def main(arguments: Sequence[str]) -> None:
    """Print F1 by the published protocol."""
    if len(arguments) != 2:
        raise UsageError("Give the annotation and the file of what was found.")
    clips, found = read_gebd(arguments[0]), read_found(arguments[1])
    result = evaluate(clips, found)
    sys.stdout.write(
        f"{result.judged} clips ({result.disagreed} dropped, {result.unanswered} unanswered): "
        f"F1 at 0.05 {result.counts.f1:.4f}, mean of ten distances {mean_f1(clips, found):.4f}\n"
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RetainError as error:
        sys.exit(str(error))
