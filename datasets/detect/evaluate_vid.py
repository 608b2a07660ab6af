"""ImageNet VID's AP50 by motion as the MEGA, MAMBA and vfe codes compute it ("vid-mega").

Published figures depend on its quirks, so they are kept, each named where it stands. MEGA's authors
say that its split by speed does not compare with FGFA's own. Not for new data: use ``plain``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import Found, Truth

Doubles = NDArray[np.float64]
_IOU = 0.5
Judged = tuple[int, float]
"""Whether a box found something, and its weight: 1 left out, 0 counts, between: counts so much."""


def vid_average_precision(
    truths: Sequence[Truth],
    found: Sequence[Found],
    classes: int,
    motion: Sequence[Doubles] | None,
    limits: tuple[float, float],
) -> tuple[Doubles, Doubles]:
    """AP50 [classes], NaN without positives, and the number of positives [classes], among truth
    whose motion IoU lies in ``limits``, both ends included.

    ``motion`` has one value per box, and one 0 for a frame without boxes, which counts in the
    weight of false boxes there.
    """
    weight = _weight_of_empty(motion, limits)
    positives = np.zeros(classes)
    scores: list[list[np.float32]] = [[] for _ in range(classes)]
    judged: list[list[Judged]] = [[] for _ in range(classes)]
    for frame, (truth, boxes) in enumerate(zip(truths, found, strict=True)):
        out = np.zeros(len(truth), bool)
        if motion is not None and len(truth):
            values = np.asarray(motion[frame])[: len(truth)]
            out = (values < limits[0]) | (values > limits[1])
        for label in np.unique(np.concatenate([truth.labels, boxes.labels])):
            mine = truth.labels == label
            positives[label] += (~out[mine]).sum()
            hers = np.flatnonzero(boxes.labels == label)
            # Not stable: equal scores come in the order that numpy's quicksort leaves.
            hers = hers[boxes.scores[hers].argsort()[::-1]]
            scores[label].extend(boxes.scores[hers])
            judged[label].extend(
                _judge(_iou(boxes.boxes[hers], truth.boxes[mine]), out[mine], weight)
            )
    aps = [_ap(*one) for one in zip(scores, judged, positives, strict=True)]
    return np.array(aps, np.float64), positives


def _weight_of_empty(motion: Sequence[Doubles] | None, limits: tuple[float, float]) -> float:
    """Weight of a box in a frame without its class: the share of the whole table within the limits.
    A share of all is taken for 0, and 0 will be taken for 1."""
    if motion is None:
        return 0.0
    values = np.concatenate([np.asarray(one, np.float64) for one in motion])
    inside = (values >= limits[0]) & (values <= limits[1])
    share = float(inside.sum() / max(len(values), 1))
    return 0.0 if share == 1 else share


def _iou(found: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """[D, G] in float32. One pixel is added to x2 and y2, and once more to every side: whole pixels
    are counted twice."""
    one = np.float32(1)
    a, b = found.copy()[:, None], truth.copy()[None]
    a[..., 2:] += one
    b[..., 2:] += one
    areas = [(x[..., 2] - x[..., 0] + one) * (x[..., 3] - x[..., 1] + one) for x in (a, b)]
    side = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + one
    side = np.maximum(side, np.float32(0))
    shared = side[..., 0] * side[..., 1]
    return np.asarray(shared / (areas[0] + areas[1] - shared), np.float32)


def _judge(iou: NDArray[np.float32], out: NDArray[np.bool_], weight: float) -> list[Judged]:
    """Each found box, best first: it takes the free box of highest IoU, of equals a first one in
    range. One that takes none is judged by whatever it overlaps most, taken or not, even by
    nothing: no overlap at all is a tie, weighted by the share of truth out of range."""
    if not iou.shape[1]:
        return [(0, weight)] * len(iou)
    taken = np.zeros(iou.shape[1], bool)
    verdicts: list[Judged] = []
    for row in iou:
        best, chosen = np.float32(_IOU), -1
        for k in np.flatnonzero(~taken & (row >= best)):
            if row[k] > best or (row[k] == best and (chosen < 0 or out[chosen])):
                best, chosen = row[k], int(k)
        if chosen >= 0:
            taken[chosen] = True
            verdicts.append((1, float(out[chosen])))
            continue
        inside, outside = row[~out].max(initial=-1), row[out].max(initial=-1)
        tie = float(out.mean())
        verdicts.append((0, 0.0 if inside > outside else 1.0 if outside > inside else tie))
    return verdicts


def _ap(scores: Sequence[np.float32], judged: Sequence[Judged], positives: float) -> float:
    """Area under the precision envelope at all points."""
    if not positives:
        return float("nan")
    order = np.array(scores, np.float32).argsort()[::-1]
    verdicts = np.array(judged, np.float64).reshape(-1, 2)[order]
    hit, weight = verdicts[:, 0] == 1, verdicts[:, 1].copy()
    counts = weight != 1
    weight[weight == 0] = 1
    true = np.cumsum(hit & counts)
    false = np.cumsum((~hit & counts) * weight)
    precision = np.concatenate([[0], true / (false + true + np.spacing(1)), [0]])
    recall = np.concatenate([[0], true / positives, [1]])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * best[steps + 1]).sum())
