# mypy: disallow-untyped-decorators=False
"""Which found box is which object, by COCO's rules: the loops."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_compiled = njit(cache=True, nogil=True)


@_compiled
def overlaps(
    found: NDArray[np.float64], truth: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """[D, G] IoU of boxes [D, 4] and [G, 4] xyxy; of a crowd, the share of the found box that lies
    in it."""
    out = np.zeros((len(found), len(truth)))
    for d in range(len(found)):
        area = (found[d, 2] - found[d, 0]) * (found[d, 3] - found[d, 1])
        for g in range(len(truth)):
            w = min(found[d, 2], truth[g, 2]) - max(found[d, 0], truth[g, 0])
            h = min(found[d, 3], truth[g, 3]) - max(found[d, 1], truth[g, 1])
            if w > 0 and h > 0:
                other = (truth[g, 2] - truth[g, 0]) * (truth[g, 3] - truth[g, 1])
                out[d, g] = w * h / (area if crowd[g] else area + other - w * h)
    return out


@_compiled
def match(
    iou: NDArray[np.float64],
    ignored: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    thresholds: NDArray[np.float64],
) -> NDArray[np.int64]:
    """[T, D] the row of truth that each found box takes at each threshold, -1 for none.

    ``iou`` [D, G], best scores first. Each takes the free row with the highest IoU from the
    threshold on, one that counts before one that is ``ignored``, the later one of equals; a crowd
    stays free.
    """
    found, rows = iou.shape
    out = np.full((len(thresholds), found), -1, np.int64)
    for t in range(len(thresholds)):
        taken = np.zeros(rows, np.bool_)
        for d in range(found):
            for second in (False, True):
                best = min(thresholds[t], 1 - 1e-10)
                for g in range(rows):
                    free = crowd[g] or not taken[g]
                    if ignored[g] == second and free and iou[d, g] >= best:
                        best, out[t, d] = iou[d, g], g
                if out[t, d] >= 0:
                    taken[out[t, d]] = True
                    break
    return out
