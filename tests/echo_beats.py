"""Beats of a whole curve, as a test has one."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.beats import BeatTracker
from retain.pipeline.results import Beat

Array = NDArray[np.float64]


def find_beats(
    seconds: Array,
    area: Array,
    volume: Array | None = None,
    valid: NDArray[np.bool_] | None = None,
    tracker: BeatTracker | None = None,
) -> tuple[Beat, ...]:
    """Beats of a whole curve, [T] each; its widest stretch where there is no whole beat."""
    tracker = tracker or BeatTracker()
    beats: tuple[Beat, ...] = ()
    volume = np.full(len(area), math.nan) if volume is None else volume
    for seq in range(len(area)) if valid is None else np.flatnonzero(valid):
        beats += tracker.add(int(seq), float(seconds[seq]), float(area[seq]), float(volume[seq]))
    beats += tracker.finish()
    widest = None if beats else tracker.widest()
    return beats if widest is None else (widest,)
