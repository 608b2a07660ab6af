"""How good a detector's boxes are. Two protocols, never to be compared with each other.

``plain``     COCO's: average precision at 101 recalls, IoU 0.50 to 0.95, 100 boxes per frame and
              class; crowds and IGNORE boxes neither asked for nor punished. For everything new.
``vid-mega``  that of the MEGA, MAMBA and vfe codes for ImageNet VID, quirks kept: ``evaluate_vid``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import CROWD, Found, Truth
from retain.datasets.detect.evaluate_match import match, overlaps
from retain.datasets.detect.evaluate_vid import vid_average_precision
from retain.datasets.detect.motion import RANGES
from retain.pipeline.errors import UsageError

Doubles = NDArray[np.float64]
NAN = float("nan")
PROTOCOLS = ("plain", "vid-mega")
IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Boxes that count, per frame and class: those with the highest scores."""
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Square pixels, both ends included as in COCO's code."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Average precisions, 0 to 1; NaN where there is nothing to find."""

    ap: float = NAN
    """Mean over IoU 0.50, 0.55, ..., 0.95."""
    ap50: float = NAN
    ap75: float = NAN
    boxes: int = 0
    """How many there were to find."""


@dataclass(frozen=True, slots=True)
class Report:
    protocol: str
    frames: int
    whole: Scores
    """Means over the classes that have boxes."""
    by_class: Mapping[str, Scores] = field(default_factory=dict)
    by_speed: Mapping[str, Scores] = field(default_factory=dict)
    """``slow``, ``medium``, ``fast``, where motion IoU was given."""
    by_size: Mapping[str, Scores] = field(default_factory=dict)
    """``small``, ``medium``, ``large``; plain only."""


def evaluate(
    truths: Sequence[Truth],
    found: Sequence[Found],
    names: Sequence[str],
    protocol: str = "plain",
    motion: Sequence[Doubles] | None = None,
) -> Report:
    """Compare ``found`` with ``truths``, frame by frame; order of frames means nothing.

    names   the classes; labels are places in it
    motion  motion IoU of every box, as ``motion_iou`` or the published table gives it; for the
            split by speed. ``plain``: a box whose value is NaN belongs to no speed

    Frames that nobody labelled do not count. Raises UsageError for an unknown protocol, lists of
    different lengths, labels without a name.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"protocol is one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
    if len(truths) != len(found) or (motion is not None and len(motion) != len(truths)):
        raise UsageError("There must be as many frames found (and motion IoUs) as truths.")
    _check_labels(truths, found, len(names))
    kept = [k for k, truth in enumerate(truths) if truth.labelled]
    truths, found = [truths[k] for k in kept], [found[k] for k in kept]
    motion = None if motion is None else [motion[k] for k in kept]
    judge = _vid if protocol == "vid-mega" else _plain
    return judge(truths, found, tuple(names), motion)


def _check_labels(truths: Sequence[Truth], found: Sequence[Found], classes: int) -> None:
    for labels in [one.labels for one in truths] + [one.labels for one in found]:
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise UsageError(
                f"A label of {labels.min()} to {labels.max()} has no name: there are {classes} "
                "classes.",
                hint="Map the detector's classes to those of the data set first.",
            )


def _plain(
    truths: Sequence[Truth],
    found: Sequence[Found],
    names: tuple[str, ...],
    motion: Sequence[Doubles] | None,
) -> Report:
    frames = [_Frame(*pair) for pair in zip(truths, found, strict=True)]
    nobody = [np.zeros(len(truth), bool) for truth in truths]
    whole = [_class_scores(frames, label, nobody) for label in range(len(names))]
    by_speed, by_size = {}, {}
    if motion is not None:
        for speed, (low, high) in RANGES.items():
            out = [~((m >= low) & (m <= high)) for m in motion]
            by_speed[speed] = _mean([_class_scores(frames, k, out) for k in range(len(names))])
    for size, limits in SIZES.items():
        out = [_outside(truth.boxes, limits) for truth in truths]
        parts = [_class_scores(frames, k, out, limits) for k in range(len(names))]
        by_size[size] = _mean(parts)
    by_class = {name: one for name, one in zip(names, whole, strict=True) if one.boxes}
    return Report("plain", len(truths), _mean(whole), by_class, by_speed, by_size)


def _outside(boxes: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.bool_]:
    """Which boxes have an area outside ``limits``."""
    b = np.asarray(boxes, np.float64)
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return np.asarray((area < limits[0]) | (area > limits[1]))


class _Frame:
    """One frame's rows by class, best scores first, with overlaps computed once."""

    def __init__(self, truth: Truth, found: Found) -> None:
        self.rows = {int(k): np.flatnonzero(truth.labels == k) for k in np.unique(truth.labels)}
        self.truth = truth
        self.boxes, self.scores, self.iou = {}, {}, {}
        none = np.empty(0, np.int64)
        for label in np.unique(found.labels):
            mine = np.flatnonzero(found.labels == label)
            mine = mine[np.argsort(-found.scores[mine], kind="stable")][:MOST]
            k, rows = int(label), self.rows.get(int(label), none)
            self.boxes[k], self.scores[k] = found.boxes[mine], found.scores[mine]
            crowd = (truth.flags[rows] & CROWD) > 0
            self.iou[k] = overlaps(
                found.boxes[mine].astype(np.float64), truth.boxes[rows].astype(np.float64), crowd
            )


def _class_scores(
    frames: Sequence[_Frame],
    label: int,
    left_out: Sequence[NDArray[np.bool_]],
    limits: tuple[float, float] | None = None,
) -> Scores:
    """Of one class. ``left_out``: truth that does not count here; ``limits``: areas beyond which a
    box that found nothing does not count either."""
    scores, right, spared = [], [], []
    positives = 0
    none = np.empty(0, np.int64)
    for frame, out in zip(frames, left_out, strict=True):
        rows = frame.rows.get(label, none)
        ignored = ~frame.truth.real[rows] | out[rows]
        positives += int((~ignored).sum())
        if label not in frame.scores:
            continue
        crowd = (frame.truth.flags[rows] & CROWD) > 0
        hit = match(frame.iou[label], ignored, crowd, IOUS)
        of_ignored = np.zeros(hit.shape, bool)
        if len(rows):
            of_ignored = (hit >= 0) & ignored[hit]
        if limits is not None:
            of_ignored |= (hit < 0) & _outside(frame.boxes[label], limits)
        scores.append(frame.scores[label])
        right.append(hit >= 0)
        spared.append(of_ignored)
    if not positives:
        return Scores()
    if not scores:
        return Scores(0.0, 0.0, 0.0, positives)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    good, off = np.concatenate(right, 1)[:, order], np.concatenate(spared, 1)[:, order]
    aps = [_ap(g & ~o, ~g & ~o, positives) for g, o in zip(good, off, strict=True)]
    return Scores(float(np.mean(aps)), aps[0], aps[5], positives)


def _ap(true: NDArray[np.bool_], false: NDArray[np.bool_], positives: int) -> float:
    """Mean over 101 recalls of the best precision at that recall or beyond."""
    hits, misses = np.cumsum(true, dtype=np.float64), np.cumsum(false, dtype=np.float64)
    precision = hits / np.maximum(hits + misses, np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / positives, _RECALLS, side="left")
    return float(np.append(best, 0.0)[at].mean())


def _mean(parts: Sequence[Scores]) -> Scores:
    """Over classes with something to find."""
    parts = [one for one in parts if one.boxes]
    if not parts:
        return Scores()
    ap, ap50, ap75 = np.mean([(one.ap, one.ap50, one.ap75) for one in parts], axis=0)
    return Scores(float(ap), float(ap50), float(ap75), sum(one.boxes for one in parts))


def _vid(
    truths: Sequence[Truth],
    found: Sequence[Found],
    names: tuple[str, ...],
    motion: Sequence[Doubles] | None,
) -> Report:
    whole = vid_average_precision(truths, found, len(names), motion, (0.0, 1.0))
    by_speed = {}
    for speed, limits in RANGES.items() if motion is not None else ():
        ap50, boxes = vid_average_precision(truths, found, len(names), motion, limits)
        by_speed[speed] = Scores(ap50=_nanmean(ap50), boxes=int(boxes.sum()))
    ap50, boxes = whole
    by_class = {
        name: Scores(ap50=float(ap50[k]), boxes=int(boxes[k]))
        for k, name in enumerate(names)
        if boxes[k]
    }
    mean = Scores(ap50=_nanmean(ap50), boxes=int(boxes.sum()))
    return Report("vid-mega", len(truths), mean, by_class, by_speed)


def _nanmean(values: Doubles) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else NAN
