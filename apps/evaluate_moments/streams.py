"""The streams that memories are judged on: planted ones, and clips from installed packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.datasets.planted import Event, PlantedConfig, planted_features

SIZE = (1280, 720)
"""Pictures of feature-level streams count as this large for their tokens."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Frames as a memory meets them, with the truth it is judged by."""

    name: str
    """The same for all seeds of a kind."""
    features: NDArray[np.float32]
    """[T, D], unit length."""
    times_s: NDArray[np.float64]
    """[T]."""
    events: list[Event]
    shots: NDArray[np.int64] | None = None
    """[T], number of the shot each frame belongs to."""
    size: tuple[int, int] = SIZE
    """Width and height of the pictures."""
    change: NDArray[np.float64] | None = None
    """[T], mean absolute difference of the pixels to the frame before; of pixel streams."""
    cuts: NDArray[np.float64] | None = None
    """[T], PySceneDetect's: content value, plus ``CUT`` where AdaptiveDetector saw a cut."""

    @property
    def fps(self) -> float:
        return float(1.0 / (self.times_s[1] - self.times_s[0]))


SETTINGS: dict[str, dict[str, object]] = {
    "still and pan": {},
    "weak, fast pan": {"strength": (0.2, 0.8), "pan": 0.05},
    "noisy": {"noise": 0.2},
    "gradual": {"ramp_s": 0.7, "event_s": (2.0, 3.0)},
    "cuts": {"cut_s": 20.0, "scenes": 3},
    "flashes": {"flashes": 10},
    "rectified": {"positive": True, "exposure": 0.2, "event_s": (0.5, 2.0)},
}
"""Changes of ``PlantedConfig`` by name."""


def planted(setting: str, seed: int, fps: float, minutes: float = 10.0) -> Stream:
    """A feature-level stream of a setting in ``SETTINGS``."""
    values: dict[str, object] = {"fps": fps, "duration_s": 60.0 * minutes, "seed": seed}
    config = PlantedConfig(**(values | SETTINGS[setting]))  # type: ignore[arg-type]
    drawn = planted_features(config)
    name = f"{setting}, {fps:g} fps" + (f", {minutes:g} min" if minutes != 10 else "")
    return Stream(name, drawn.features, drawn.times_s, drawn.events)


Draw = Callable[[int], Stream]
"""Seed to stream."""
