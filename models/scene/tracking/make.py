"""Which tracker a stream gets."""

from __future__ import annotations

import numpy as np

from retain.memory.keyframes import KeyframeConfig, KeyframeMemory
from retain.models.scene.tracking.base import Fit, Tracker
from retain.models.scene.tracking.features import Kind
from retain.pipeline.errors import UsageError

GIVEN_M, GIVEN_TURN = 0.1, np.deg2rad(10)
"""Metres and radians between keyframes of given poses, which cost no matching: more of them see
more."""


def make_tracker(
    stream: str, *, given: bool, depth: bool, fit: Fit, features: Kind = "orb"
) -> tuple[Tracker, KeyframeMemory]:
    """The tracker of a stream and the memory of its keyframes: given poses are taken as they are,
    and depth is made with them where there is none; with depth, tracking is metric, poses fitted as
    ``fit`` says (see RgbdTracker); pictures alone leave the scale open. Raises UsageError for
    ``features`` that would not be looked at."""
    from retain.models.scene.tracking.given import GivenPoses
    from retain.models.scene.tracking.mono import MonoTracker
    from retain.models.scene.tracking.posed import PosedTracker
    from retain.models.scene.tracking.rgbd import RgbdTracker

    if features != "orb" and (given or not depth):
        why = "poses are given, so no corners are" if given else "without depth, ORB corners are"
        raise UsageError(
            f"Features {features!r} are for estimating poses with depth: {why} matched.",
            hint="Leave the option out, or add --poses estimated." if given else "",
        )
    memory = KeyframeMemory(KeyframeConfig(features=features))
    if given and not depth:
        return PosedTracker(), memory
    if given:
        return GivenPoses(farthest=GIVEN_M, turned=GIVEN_TURN), memory
    if depth:
        return RgbdTracker(memory, stream, fit=fit, features=features), memory
    return MonoTracker(), memory
