"""Corners to a fraction of a pixel: matched patches are laid over each other (Lucas and Kanade).

A detector puts corners on the pixels of its pyramid level, which on a coarse one is several pixels
off; without measured depths that is what makes a map drift.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]

_WINDOW = 13
_FARTHEST = 1.5
"""Pixels of the corner's level that it may move."""
_ERROR = 14.0
"""Mean difference of grey levels of two patches that show the same."""
_FLAT = 1e-3
"""Least eigenvalue of the gradients: under it a patch has no place."""


def sharpened(
    a: Grey, b: Grey, p: Floats, q: Floats, size: NDArray[np.float64]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Pixels [N, 2] of picture ``b`` near ``q`` that show what picture ``a`` shows at ``p``, and
    where [N] that succeeded; elsewhere they are ``q``. ``size`` [N]: pixels of ``b`` per pixel of
    the level that a corner was found on."""
    if not len(p):
        return q, np.zeros(0, bool)
    start = np.ascontiguousarray(q - np.float32(0.5))
    found, status, error = cv2.calcOpticalFlowPyrLK(
        a, b, np.ascontiguousarray(p - np.float32(0.5)), start.copy(),
        winSize=(_WINDOW, _WINDOW), maxLevel=0, flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
        criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 12, 0.01),
        minEigThreshold=_FLAT,
    )  # fmt: skip
    moved = np.linalg.norm(found - start, axis=1)
    good = (status.ravel() == 1) & (error.ravel() < _ERROR) & (moved < _FARTHEST * size)
    return np.where(good[:, None], found + np.float32(0.5), q).astype(np.float32), good
