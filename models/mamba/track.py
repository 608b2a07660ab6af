"""The stage that gives boxes ids: the same number for what is taken for the same object.

A tracker joins boxes from frame to frame; it finds nothing that the detector did not. Boxes of the
detector alone (``plain``), where they travel, get a tracker of their own, so that the two can be
compared.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from retain.memory import snapshot
from retain.models.mamba.tracker import Method, Tracker
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall, Result, Route
from retain.pipeline.stage import StatValue

KINDS = ("boxes", "plain")
"""Results that are tracked, each by itself."""


class Track:
    """Fills in the tracks of ``boxes``, and of ``plain`` where a packet has it.

    method     ``byte`` or ``ocsort``; see Tracker
    lost_s     seconds a track outlives its last box
    min_score  see Tracker
    resume     a state saved by ``save``; frames it has seen are passed over

    Tracks end at a cut, a gap in the stream, and wherever the memory began anew. A box that the
    memory carries on keeps its track, unless the object is found elsewhere. One stage tracks one
    stream.
    """

    def __init__(
        self,
        method: Method = "byte",
        lost_s: float = 1.0,
        min_score: float = 0.3,
        resume: str = "",
    ) -> None:
        self._options = method, lost_s, min_score
        self._trackers = {KINDS[0]: self._fresh()}
        self._stream, self._seq, self._seen_to = "", -1, -1
        if resume:
            self.load(resume)

    def _fresh(self) -> Tracker:
        return Tracker(*self._options)

    def process(self, packet: Packet) -> Packet | None:
        frame = packet.frame
        if self._stream and frame.stream != self._stream:
            raise UsageError(
                f"One track stage got frames of {self._stream!r} and of {frame.stream!r}.",
                hint="Give each stream a track stage of its own.",
            )
        if frame.seq <= self._seen_to:
            return None
        self._stream, self._seq = frame.stream, frame.seq
        if _anew(packet):
            for tracker in self._trackers.values():
                tracker.cut()
        told: dict[str, Result] = dict(packet.results)
        for name in KINDS:
            found = packet.results.get(name)
            if isinstance(found, Boxes):
                tracker = self._trackers.setdefault(name, self._fresh())
                tracks = tracker.update(found.boxes, found.scores, frame.seconds, _still(found))
                told[name] = msgspec.structs.replace(found, tracks=tracks)
        if not isinstance(told.get(KINDS[0]), Boxes):
            raise UsageError(
                f"Frames of {frame.stream!r} come without boxes, so there is nothing to track.",
                hint="Put a detect stage before the track stage.",
            )
        return Packet(frame, told)

    def save(self, path: str) -> None:
        """Write the tracks to ``path``, atomically. Raises StateError while there are none."""
        if self._seq < 0:
            raise StateError("There are no tracks to save: no frame was seen yet.")
        held = {name: (one.config, one.snapshot()) for name, one in self._trackers.items()}
        snapshot.save(path, snapshot.MemoryFile(self._stream, self._seq, held))

    def load(self, path: str) -> None:
        """Go on from ``path``, passing over frames it has seen. Raises StateError when it was
        saved with another tracker or another version of it."""
        file = snapshot.load(path)
        if not set(file.memories) <= set(KINDS):
            raise StateError(f"{path} holds {sorted(file.memories)}, which are no tracks.")
        trackers = {}
        for name, (config, state) in file.memories.items():
            trackers[name] = self._fresh()
            snapshot.check_config(name, trackers[name].config, config)
            trackers[name].restore(state)
        self._trackers = {KINDS[0]: self._fresh()} | trackers
        self._stream, self._seq, self._seen_to = "", file.seq, file.seq

    def stats(self) -> Mapping[str, StatValue]:
        told: dict[str, StatValue] = {}
        for name, tracker in self._trackers.items():
            told |= {f"{name}_tracks": tracker.given, f"{name}_held": tracker.held}
        return told

    def close(self) -> None:
        pass


def _still(found: Boxes) -> NDArray[np.bool_]:
    """[N] which boxes are carried on from an earlier frame, in their place."""
    out = np.zeros(len(found.scores), bool)
    for row, supports in enumerate(found.supports):
        one = supports[0] if len(supports) == 1 and found.memory[row] >= 1 else None
        out[row] = one is not None and one.box == tuple(found.boxes[row].tolist())
    return out


def _anew(packet: Packet) -> bool:
    """Whether this frame has nothing to do with the one before."""
    route, recall = packet.results.get("route"), packet.results.get("recall")
    return (
        packet.frame.discontinuity
        or (isinstance(route, Route) and route.cut)
        or (isinstance(recall, Recall) and bool(recall.reset))
    )
