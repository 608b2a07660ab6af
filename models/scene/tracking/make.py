"""Which tracker a stream gets."""

from __future__ import annotations

from retain.memory.keyframes import KeyframeMemory
from retain.models.scene.tracking.base import Tracker


def make_tracker(stream: str, *, given: bool, depth: bool) -> tuple[Tracker, KeyframeMemory]:
    """The tracker of a stream and the memory of its keyframes: given poses are taken as they are;
    with depth, tracking is metric; pictures alone leave the scale open."""
    from retain.models.scene.tracking.given import GivenPoses
    from retain.models.scene.tracking.mono import MonoTracker
    from retain.models.scene.tracking.rgbd import RgbdTracker

    memory = KeyframeMemory()
    if given:
        return GivenPoses(), memory
    if depth:
        return RgbdTracker(memory, stream), memory
    return MonoTracker(memory, stream), memory
