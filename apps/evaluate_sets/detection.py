"""ImageNet VID and MOTChallenge, as they are judged, of what `retain detect` finds clip by clip.

VID: mean average precision at IoU 0.5, and of slow, medium and fast objects (motion IoU, FGFA).
MOT: HOTA, CLEAR and identity scores by TrackEval, the benchmark's own evaluator, on pedestrians,
after its preprocessing: boxes on people who do not count (static, on vehicles, reflections) go.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.apps.evaluate_sets.base import Kept, SetOptions, Table, Tell, limited, partly
from retain.datasets.detect.base import Clip, Found, Truth, found_of, truths
from retain.datasets.detect.evaluate import evaluate
from retain.datasets.detect.mot import Mot
from retain.datasets.detect.motion import box_iou, motion_iou
from retain.datasets.detect.vid import ImageNetVid
from retain.models.mamba.stage import Detect
from retain.models.mamba.track import Track
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes

ARMS = {"plain": "the detector alone", "boxes": "with its memory"}
ALIKE = {"pedestrian": "person"}
"""A data set's class and the detector's word for it."""
DISTRACTING = ("person on vehicle", "static person", "distractor", "reflection")
"""Classes whose boxes are neither right nor wrong to find; in MOT20 bicycles' like too."""
_DIGITS = 2
Columns = Mapping[str, list[list[list[float]]]]
"""Per arm and frame: x1, y1, x2, y2, score, label, track of each box."""


def vid(options: SetOptions, kept: Kept, tell: Tell) -> Iterable[Table]:
    """One table; a row per arm."""
    clips = ImageNetVid(options.path, split=options.split or "val")
    names, found, seen, motion, why = clips.names, _by_arm(), [], [], []
    known: set[str] = set()
    for clip, facts in _all(clips, options, kept, tell):
        if "error" in facts:
            why.append(f"{clip.name}: {facts['error']}")
            continue
        truth = truths(clip)
        known |= set(facts["known"])
        seen += truth
        motion += motion_iou(truth, numbers=clip.numbers)
        for arm, frames in facts["arms"].items():
            found[arm] += [_found(frame) for frame in frames]
    shared = _shared(names, known, why)
    wanted = [k for k, name in enumerate(names) if name in shared]
    keep = [np.isin(truth.labels, wanted) for truth in seen]
    # The published table has one 0 for a frame without boxes.
    moved: list[NDArray[np.float64]] | None = [
        m[k] if len(m) else np.zeros(1) for m, k in zip(motion, keep, strict=True)
    ]
    if not any(np.isfinite(m).any() for m, t in zip(motion, seen, strict=True) if len(t)):
        moved = None  # no tracks, no speeds
    rows: list[tuple[str | float | int, ...]] = []
    for arm, boxes in found.items():
        if len(boxes) != len(seen):
            continue  # no memory for this detector
        asked = [t.only(k) for t, k in zip(seen, keep, strict=True)]
        published = evaluate(asked, boxes, names, "vid-mega", moved)
        speeds = (
            published.by_speed[name].ap50 if moved else math.nan
            for name in ("slow", "medium", "fast")
        )
        whole = evaluate(asked, boxes, names).whole
        numbers = [100 * x for x in (published.whole.ap50, *speeds, whole.ap)]
        rows.append((ARMS[arm], *numbers, whole.boxes))
    missing = [name for name in names if name not in shared]
    yield Table(
        f"ImageNet VID, {options.split or 'val'}: mAP in per cent",
        ("", "AP50", "slow", "medium", "fast", "AP", "boxes"),
        rows,
        (
            *why, *partly(options),
            f"Of {len(names)} classes {len(shared)} are known to the detector"
            + (f"; not {', '.join(missing[:8])}{' …' if len(missing) > 8 else ''}." if missing
               else "."),
            "AP50 and the speeds as the code of MEGA and MAMBA computes them, motion IoU from the "
            "tracks as in its table; AP is COCO's, of IoU 0.50 to 0.95. Boxes have "
            "scores from 0.05.",
        ),
    )  # fmt: skip


def mot(options: SetOptions, kept: Kept, tell: Tell) -> Iterable[Table]:
    """One table; a row per sequence and arm, then all of them."""
    metrics = _track_eval()
    clips, why = Mot(options.path), []
    kept_scores: dict[str, dict[str, Any]] = {}
    rows: list[tuple[str | float | int, ...]] = []
    for clip, facts in _all(clips, options, kept, tell):
        if "error" in facts:
            why.append(f"{clip.name}: {facts['error']}")
            continue
        seen = truths(clip)
        for arm, frames in facts["arms"].items():
            data = mot_data(seen, frames, clip.names.index("pedestrian"), _distracting(clip))
            scores = [metric.eval_sequence(data) for metric in metrics]
            kept_scores.setdefault(arm, {})[clip.name] = scores
            rows.append((f"{clip.name}: {ARMS[arm]}", *_mot_numbers(scores)))
    if not rows:
        raise UsageError(
            f"No sequence of {options.path!r} could be judged.",
            hint=why[0] if why else "They have neither pictures nor boxes.",
        )
    for arm, by_clip in kept_scores.items():
        together = [
            metric.combine_sequences({name: scores[k] for name, scores in by_clip.items()})
            for k, metric in enumerate(metrics)
        ]
        rows.append((f"all {len(by_clip)}: {ARMS[arm]}", *_mot_numbers(together)))
    yield Table(
        "MOTChallenge, pedestrians: per cent, ByteTrack's ids",
        ("", "HOTA", "DetA", "AssA", "MOTA", "IDF1", "switches", "false", "missed"),
        rows,
        (
            *why, *partly(options),
            "Scored by TrackEval. Of sequences with ground truth; the benchmark's test sequences "
            "have none.",
        ),
    )  # fmt: skip


def _all(
    clips: Any, options: SetOptions, kept: Kept, tell: Tell
) -> Iterator[tuple[Clip, Mapping[str, Any]]]:
    chosen = list(limited(options, range(len(clips))))
    for k in chosen:
        clip = clips[k]
        tell(clip.name, k, len(chosen))
        yield clip, kept.ask(clip.name, partial(_facts, clip, options))


def _facts(clip: Clip, options: SetOptions) -> Mapping[str, Any]:
    """What each arm found in each frame, in the data set's classes."""
    # Outside: weights that are none are no fault of the clip.
    detect = Detect(options.weights or "small", compare=True, device=options.device)
    try:
        track, arms, known = Track(), _by_arm(), set()
        names = [ALIKE.get(name, name) for name in clip.names]
        rate = Fraction(clip.rate).limit_denominator(1000)
        for k in range(len(clip)):
            sample = clip[k]
            frame = Frame(clip.name, k, k, 1 / rate, sample.image)
            packet = detect.process(Packet(frame, {}))
            packet = packet and track.process(packet)
            for arm in ARMS:
                boxes = packet.results.get(arm) if packet else None
                if isinstance(boxes, Boxes):
                    known |= set(boxes.names)
                    arms[arm].append(_rows(boxes, names))
    except RetainError as error:
        return {"error": error.what}
    words = {name: ALIKE.get(name, name) for name in clip.names}
    return {
        "arms": {arm: frames for arm, frames in arms.items() if frames},
        "known": [name for name, word in words.items() if word in known],
    }


def _rows(found: Boxes, names: Sequence[str]) -> list[list[float]]:
    """Boxes of classes that the data set has."""
    out = []
    for box, score, label, track in zip(
        found.boxes, found.scores, found.labels, found.tracks, strict=True
    ):
        if found.names[label] in names:
            place = [round(float(v), _DIGITS) for v in box]
            at = names.index(found.names[label])
            out.append([*place, round(float(score), 5), at, int(track)])
    return out


def _by_arm() -> dict[str, list[Any]]:
    return {arm: [] for arm in ARMS}


def _found(rows: Sequence[Sequence[float]]) -> Found:
    table = np.asarray(rows, np.float64).reshape(-1, 7)
    return found_of(table[:, :4], table[:, 4], table[:, 5])


def _shared(names: Sequence[str], known: set[str], why: Sequence[str]) -> set[str]:
    shared = set(names) & known
    if not shared:
        raise UsageError(
            "The detector and the data set have no class in common.",
            hint=why[0] if why else "Give a detector of these classes: --weights yolox.onnx.",
        )
    return shared


def mot_data(
    seen: Sequence[Truth],
    frames: Sequence[Sequence[Sequence[float]]],
    wanted: int,
    distracting: Sequence[int],
) -> dict[str, Any]:
    """What TrackEval's metrics take, of one class and after the benchmark's preprocessing.

    frames       rows of seven numbers per frame, see ``Columns``; those in no track do not count
    distracting  labels of ``seen``: boxes on these are taken away. Those on other things that are
                 not asked for (cars, occluders, people marked with 0) are wrong
    """
    truth_ids, found_ids, alike = [], [], []
    for truth, rows in zip(seen, frames, strict=True):
        table = np.asarray(rows, np.float64).reshape(-1, 7)
        table = table[(table[:, 6] >= 0) & (table[:, 5] == wanted)]
        table = table[~_excused(truth, table[:, :4], distracting)]
        real = truth.only(truth.real & (truth.labels == wanted))
        truth_ids.append(real.tracks.astype(np.int64))
        found_ids.append(table[:, 6].astype(np.int64))
        alike.append(box_iou(real.boxes.astype(np.float32), table[:, :4].astype(np.float32)))
    (gt, gt_count), (ours, our_count) = _from_zero(truth_ids), _from_zero(found_ids)
    return {
        "gt_ids": gt, "tracker_ids": ours, "similarity_scores": alike,
        "num_gt_ids": gt_count, "num_tracker_ids": our_count, "num_timesteps": len(gt),
        "num_gt_dets": sum(map(len, gt)), "num_tracker_dets": sum(map(len, ours)),
    }  # fmt: skip


def _distracting(clip: Clip) -> list[int]:
    more = ("non motorized vehicle",) if clip.name.startswith("MOT20") else ()
    return [clip.names.index(name) for name in (*DISTRACTING, *more)]


def _excused(
    truth: Truth, boxes: NDArray[np.float64], distracting: Sequence[int]
) -> NDArray[np.bool_]:
    """Boxes that fit best, one to one and with IoU from 0.5, to somebody who does not count."""
    from scipy.optimize import linear_sum_assignment

    out = np.zeros(len(boxes), bool)
    if not len(truth) or not len(boxes):
        return out
    alike = box_iou(truth.boxes.astype(np.float32), boxes.astype(np.float32))
    alike = np.where(alike >= 0.5 - np.finfo(float).eps, alike, 0.0)
    rows, columns = linear_sum_assignment(alike, maximize=True)
    spared = np.isin(truth.labels, distracting)
    out[columns] = spared[rows] & (alike[rows, columns] > 0)
    return out


def _from_zero(ids: Sequence[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], int]:
    """The same ids numbered from 0, and how many there are."""
    every = np.unique(np.concatenate([np.empty(0, np.int64), *ids]))
    return [np.searchsorted(every, some) for some in ids], len(every)


def _mot_numbers(scores: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    hota, clear, identity = scores
    shares = (*(float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA")),
              clear["MOTA"], identity["IDF1"])  # fmt: skip
    counts = (int(clear[name]) for name in ("IDSW", "CLR_FP", "CLR_FN"))
    return (*(100 * float(x) for x in shares), *counts)


def _track_eval() -> tuple[Any, Any, Any]:
    """TrackEval's metrics. Raises UsageError where it is not installed."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells of data sets we do not ask for
            from trackeval.metrics import CLEAR, HOTA, Identity

            quiet = {"PRINT_CONFIG": False}
            return HOTA(), CLEAR(quiet), Identity(quiet)
    except ImportError as error:
        raise UsageError(
            "MOT is scored by TrackEval, which is not installed.",
            hint="pip install --no-deps trackeval==1.3.0 (its requirements bring a second OpenCV)",
        ) from error
