"""The arms against the truth, where a source has one: precision, stability, identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.apps.detect.arms import ARMS
from retain.apps.detect.files import Line, boxes_of, read_lines
from retain.datasets.detect.base import Clips, Found, Truth, found_of
from retain.datasets.detect.evaluate import evaluate
from retain.datasets.detect.motion import box_iou
from retain.datasets.detect.open import OBJECTS, open_clips
from retain.datasets.detect.stability import stability
from retain.pipeline.errors import UsageError
from retain.pipeline.sources.common import local_path

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Judged:
    """One arm; NaN where there is nothing to count."""

    ap50: float = NAN
    ap: float = NAN
    flicker: float = NAN
    """See datasets/detect/stability.py; so are ``delay`` and ``never``."""
    delay: float = NAN
    never: float = NAN
    idf1: float = NAN
    """Of arms with ids."""


@dataclass(frozen=True, slots=True)
class Verdict:
    arms: dict[str, Judged]
    frames: int
    objects: int
    """Boxes there were to find."""
    unknown: tuple[str, ...]
    """Classes with boxes that the detector has no name for."""


def open_truth(source: str) -> Clips:
    """The clips at SOURCE with classes a detector knows: DAVIS has none of its own, so sequences of
    2016 are called by the nearest of COCO's. Raises SourceError or UsageError as ``open_clips``."""
    from retain.datasets.detect.davis import COCO_2016, Davis

    named = not source.startswith(f"{OBJECTS}:") and Davis.recognises(local_path(source))
    return open_clips(source, classes=COCO_2016) if named else open_clips(source)


def common(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The data set's classes ``names`` that the detector knows. Raises UsageError for none."""
    shared = tuple(name for name in names if name in known)
    if not shared:
        raise UsageError(
            f"The detector and the data set have no class in common: {_some(known)} against "
            f"{_some(names)}.",
            hint="Give a detector of these classes with --host, or its names with --names.",
        )
    return shared


def judge(
    lines: Path,
    clips: Clips,
    known: Sequence[str],
    min_score: float,
    classes: Sequence[str] = (),
) -> Verdict:
    """Compare a results.jsonl with the truth of the clips it was made from.

    known      the detector's classes
    min_score  from it on a box counts for flicker and delay, of arms without ids
    classes    those that were asked for; none: all
    """
    names = clips.names
    common(names, known)
    wanted = [k for k, name in enumerate(names) if not classes or name in classes]
    told = [_Told.of(line, names) for line in read_lines(lines)]
    truths = [clips[one.clip].truth(one.frame) for one in told]
    truths = [truth.only(np.isin(truth.labels, wanted)) for truth in truths]
    starts = [k for k, one in enumerate(told) if k and one.clip != told[k - 1].clip]
    arms = {}
    for arm in ARMS:
        if found := _found(told, arm):
            arms[arm] = _judged(truths, *found, names, starts, arm, min_score)
    real = np.concatenate([truth.labels[truth.real] for truth in truths] or [np.empty(0, int)])
    unknown = tuple(names[k] for k in np.unique(real) if names[k] not in known)
    return Verdict(arms, len(told), len(real), unknown)


@dataclass(frozen=True, slots=True)
class _Told:
    """A line, as arrays: boxes, scores, labels and tracks of each kind."""

    clip: int
    frame: int
    kinds: dict[str, tuple[Any, Any, Any, Any]]

    @staticmethod
    def of(line: Line, names: Sequence[str]) -> _Told:
        rows = {kind: line.rows(kind) for kind in ("plain", "boxes")}
        kinds = {kind: boxes_of(some, names) for kind, some in rows.items() if some is not None}
        return _Told(line.clip, line.frame, kinds)


def _found(told: Sequence[_Told], arm: str) -> tuple[list[Found], list[NDArray[np.int64]]] | None:
    """Boxes and tracks of each frame; None for an arm that was not run."""
    found, tracks, tracked = [], [], arm.endswith("+track")
    kind = "plain" if arm.startswith("plain") else "boxes"
    for one in told:
        if kind not in one.kinds:
            return None
        boxes, scores, labels, ids = one.kinds[kind]
        keep = (labels >= 0) & (ids >= 0) if tracked else labels >= 0
        found.append(found_of(boxes[keep], scores[keep], labels[keep]))
        tracks.append(ids[keep])
    return None if tracked and not any(map(len, tracks)) else (found, tracks)


def _judged(
    truths: Sequence[Truth],
    found: Sequence[Found],
    tracks: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    starts: Sequence[int],
    arm: str,
    min_score: float,
) -> Judged:
    whole = evaluate(truths, found, names).whole
    tracked = arm.endswith("+track")
    parts = [
        stability(truths[a:b], found[a:b], 0.0 if tracked else min_score)
        for a, b in zip([0, *starts], [*starts, len(truths)], strict=True)
    ]
    return Judged(
        whole.ap50,
        whole.ap,
        flicker=_mean([part.flicker for part in parts]),
        delay=_mean([part.delay for part in parts]),
        never=_mean([part.never for part in parts]),
        idf1=identity_f1(truths, found, tracks, _apart(truths, starts)) if tracked else NAN,
    )


def _apart(truths: Sequence[Truth], starts: Sequence[int]) -> list[int]:
    """What is added to the tracks of each frame's truth so that clips do not share any."""
    out, add, most = [], 0, 0
    for k, truth in enumerate(truths):
        if k in starts:
            add = most
        out.append(add)
        most = max(most, add + 1 + int(truth.tracks.max(initial=-1)))
    return out


def identity_f1(
    truths: Sequence[Truth],
    found: Sequence[Found],
    tracks: Sequence[NDArray[np.int64]],
    shift: Sequence[int] | None = None,
) -> float:
    """IDF1 (Ristani et al., ECCV 2016 workshops): tracks of truth and of the tracker are paired one
    to one so that they share the most frames; twice those over the boxes of both. Boxes of one
    class with IoU from 0.5 may be shared. Rows that are CROWD or IGNORE do not count, nor boxes
    that lie on one and on nothing else. NaN without truth.
    """
    from scipy.optimize import linear_sum_assignment

    shared: dict[tuple[int, int], int] = {}
    there = here = 0
    for k, (truth, boxes, ids) in enumerate(zip(truths, found, tracks, strict=True)):
        real = truth.real & (truth.tracks >= 0)
        same = truth.labels[:, None] == boxes.labels
        near = (box_iou(truth.boxes, boxes.boxes) >= 0.5) & same
        excused = near[~real].any(0) & ~near[real].any(0)
        there, here = there + int(real.sum()), here + int((~excused).sum())
        for row in np.flatnonzero(real):
            for column in np.flatnonzero(near[row]):
                key = int(truth.tracks[row]) + (shift[k] if shift else 0), int(ids[column])
                shared[key] = shared.get(key, 0) + 1
    if not there:
        return NAN
    rows, columns = ({key[side]: 0 for key in shared} for side in (0, 1))
    for side in (rows, columns):
        side.update({key: place for place, key in enumerate(side)})
    counts = np.zeros((len(rows), len(columns)))
    for (row, column), frames in shared.items():
        counts[rows[row], columns[column]] = frames
    best = counts[linear_sum_assignment(counts, maximize=True)].sum() if shared else 0.0
    return float(2 * best / (there + here))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else NAN


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
