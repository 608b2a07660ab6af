"""Which tracker a stream gets."""

from __future__ import annotations

import numpy as np

from retain.memory.keyframes import KeyframeMemory
from retain.models.scene.tracking.base import Fit, Tracker

GIVEN_M, GIVEN_TURN = 0.1, np.deg2rad(10)
"""Metres and radians between keyframes of given poses, which cost no matching: more of them see
more."""


def make_tracker(
    stream: str, *, given: bool, depth: bool, fit: Fit
) -> tuple[Tracker, KeyframeMemory]:
    """The tracker of a stream and the memory of its keyframes: given poses are taken as they are;
    with depth, tracking is metric, poses fitted as ``fit`` says (see RgbdTracker); pictures alone
    leave the scale open."""
    from retain.models.scene.tracking.given import GivenPoses
    from retain.models.scene.tracking.mono import MonoTracker
    from retain.models.scene.tracking.rgbd import RgbdTracker

    memory = KeyframeMemory()
    if given:
        return GivenPoses(farthest=GIVEN_M, turned=GIVEN_TURN), memory
    if depth:
        return RgbdTracker(memory, stream, fit=fit), memory
    return MonoTracker(), memory
