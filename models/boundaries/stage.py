"""Shot boundaries as a stage."""

from __future__ import annotations

from collections.abc import Mapping

from retain.memory.snapshot import MemoryFile, check_config, load, save
from retain.models.boundaries.detector import BoundaryConfig, BoundaryDetector
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.stage import StatValue

_CONFIG = BoundaryConfig()


class Boundaries:
    """Adds ``boundary``: whether a new shot begins with this frame, at once and for good.

    Uses ``embedding`` where a stage before has put one; without, pictures are judged by their
    blocks alone, which mistakes more camera motion for cuts. ``motion`` and ``pixels`` are what a
    cut needs of either, ``flash_s`` the longest flash; without ``gradual``, cuts alone are found.
    """

    def __init__(
        self,
        motion: float = _CONFIG.motion,
        pixels: float = _CONFIG.pixels,
        flash_s: float = _CONFIG.flash_s,
        gradual: bool = True,
    ) -> None:
        lags = _CONFIG.lags if gradual else ()
        config = BoundaryConfig(motion=motion, pixels=pixels, flash_s=flash_s, lags=lags)
        self._detector = BoundaryDetector(config)
        self._stream = ""
        self._seq = self._seen_to = -1
        self._found = {"cut": 0, "gradual": 0, "flash": 0}

    def process(self, packet: Packet) -> Packet | None:
        frame = packet.frame
        if self._stream and frame.stream != self._stream:
            raise UsageError(
                f"One boundaries stage got frames of {self._stream!r} and of {frame.stream!r}.",
                hint="Give each stream a boundaries stage of its own.",
            )
        self._stream = frame.stream
        if frame.seq <= self._seen_to:
            return None
        if frame.discontinuity:
            self._detector.reset()
        feature = None
        if "embedding" in packet.results:
            feature = packet.get("embedding", Embedding).vector
        verdict = self._detector.step(frame.image, feature, frame.seconds)
        self._seq = frame.seq
        if verdict.kind != "none":
            self._found[verdict.kind] += 1
        return packet.plus(boundary=verdict)

    def save(self, path: str) -> None:
        """Write the state to ``path``, atomically. Raises StateError before the first frame."""
        if self._seq < 0:
            raise StateError("There is no state of boundaries to save: not one frame came.")
        config = self._detector.config.as_json()
        held = {"boundaries": (config, self._detector.snapshot())}
        save(path, MemoryFile(self._stream, self._seq, held))

    def load(self, path: str) -> None:
        """Go on from ``path``, passing over frames it has seen. Raises StateError when it does
        not fit."""
        file = load(path)
        if set(file.memories) != {"boundaries"}:
            raise StateError(f"{path} holds no state of boundaries.")
        config, state = file.memories["boundaries"]
        check_config("boundaries", self._detector.config.as_json(), config)
        self._detector.restore(state)
        self._stream, self._seq, self._seen_to = file.stream, file.seq, file.seq

    def stats(self) -> Mapping[str, StatValue]:
        return {**self._found, "state_bytes": self._detector.nbytes}

    def close(self) -> None:
        pass
