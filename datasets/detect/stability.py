"""What a person sees of a detector on video besides its precision: flicker, and late starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import Found, Truth
from retain.datasets.detect.evaluate_match import match, overlaps

_IOU = np.array([0.5])


@dataclass(frozen=True, slots=True)
class Stability:
    """Of one clip; NaN where there is nothing to count."""

    flicker: float
    """Share of a track's steps, from a frame to the next, at which it is found or lost anew."""
    delay: float
    """Mean frames from a track's first to the first in which it is found; of those ever found."""
    never: float
    """Share of tracks that are never found."""


def stability(truths: Sequence[Truth], found: Sequence[Found], score: float = 0.3) -> Stability:
    """Compare the frames of one clip, in order. A box is found by one of its class with IoU from
    0.5 and at least ``score``, each counting once, the best scores first. Rows that are CROWD or
    IGNORE, and those without a track, do not count."""
    seen: dict[int, list[tuple[int, bool]]] = {}
    for index, (truth, boxes) in enumerate(zip(truths, found, strict=True)):
        hit = _hit(truth, boxes, score)
        for row in np.flatnonzero(truth.real & (truth.tracks >= 0)):
            seen.setdefault(int(truth.tracks[row]), []).append((index, bool(hit[row])))
    steps, changes, delays = 0, 0, []
    for track in seen.values():
        for (before, was), (after, is_) in pairwise(track):
            if after == before + 1:
                steps, changes = steps + 1, changes + (was != is_)
        first = next((index for index, is_ in track if is_), None)
        if first is not None:
            delays.append(first - track[0][0])
    return Stability(
        changes / steps if steps else float("nan"),
        float(np.mean(delays)) if delays else float("nan"),
        1 - len(delays) / len(seen) if seen else float("nan"),
    )


def _hit(truth: Truth, found: Found, score: float) -> NDArray[np.bool_]:
    """[N] whether each row of truth is found."""
    out = np.zeros(len(truth), bool)
    for label in np.unique(truth.labels):
        rows = np.flatnonzero(truth.labels == label)
        mine = np.flatnonzero((found.labels == label) & (found.scores >= score))
        mine = mine[np.argsort(-found.scores[mine], kind="stable")]
        nobody = np.zeros(len(rows), bool)
        iou = overlaps(
            found.boxes[mine].astype(np.float64), truth.boxes[rows].astype(np.float64), nobody
        )
        taken = match(iou, ~truth.real[rows], nobody, _IOU)[0]
        out[rows[taken[taken >= 0]]] = True
    return out
