"""How far what a model made is from what came: root mean squares, in grey levels of 255."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
ARMS = {
    "guided": "with references",
    "plain": "without references",
    "held": "last frame held",
    "linear": "linear interpolation",
}
STEPS = 64
"""Distances, in frames, that are told apart."""


def squares(made: Frames, truth: Frames) -> float:
    """Mean squared difference of two frames of one shape, in grey levels²."""
    return float(np.square(made.astype(np.float64) - truth).mean())


@dataclass
class Errors:
    """Sums per arm and distance: of frames whose truth is known and where references were shown."""

    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    frames: int = 0
    """That were judged."""
    unguided: int = 0
    """That were made while there were no references: not in the sums."""

    def add(self, ahead: int, errors: Mapping[str, float], guided: bool) -> None:
        """Squared ``errors`` by arm of a frame that was ``ahead`` frames from what was known."""
        if not guided:
            self.unguided += 1
            return
        self.frames += 1
        for arm, value in errors.items():
            counts = self.counts.setdefault(arm, np.zeros(STEPS + 1, np.int64))
            sums = self.sums.setdefault(arm, np.zeros(STEPS + 1))
            place = min(ahead, STEPS)
            counts[place] += 1
            sums[place] += value

    def mean(self, arm: str) -> float:
        """Root of the mean square over all frames; NaN for none."""
        count = self.counts[arm].sum() if arm in self.counts else 0
        return float(np.sqrt(self.sums[arm].sum() / count)) if count else float("nan")

    def by_distance(self, arm: str) -> list[tuple[int, float]]:
        """Distance and root mean square, of those there were."""
        if arm not in self.counts:
            return []
        at = np.flatnonzero(self.counts[arm])
        return [(int(k), float(np.sqrt(self.sums[arm][k] / self.counts[arm][k]))) for k in at]

    def rows(self) -> list[list[str]]:
        """For people: arm and error."""
        if not self.frames:
            return []
        told = [[ARMS[arm], f"{self.mean(arm):.1f}"] for arm in ARMS if arm in self.counts]
        return [["mean error of a pixel", f"grey levels of 255, {self.frames} frames"], *told]

    def beaten(self) -> str:
        """A sentence where something simple is nearer to the truth; else empty."""
        for arm in ("held", "linear"):
            if self.mean(arm) < self.mean("guided"):
                way = {"held": "Holding the last frame", "linear": "Linear interpolation"}[arm]
                return f"{way} is nearer to the truth here: the model does not know such pictures."
        return ""

    def facts(self) -> dict[str, object]:
        means = {arm: round(self.mean(arm), 3) for arm in ARMS if arm in self.counts}
        return {"judged": self.frames, "made_without_references": self.unguided, "rmse": means}
