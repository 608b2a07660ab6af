"""How far what a model made is from what came: root mean squares, in grey levels of 255."""

from __future__ import annotations

from collections import deque
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
GROUPS, ENOUGH = 4096, 10
"""Predictions, or holes, that are resampled for an interval: the newest; and the least."""


def squares(made: Frames, truth: Frames) -> float:
    """Mean squared difference of two frames of one shape, in grey levels²."""
    return float(np.square(made.astype(np.float64) - truth).mean())


@dataclass
class Errors:
    """Sums per arm and distance: of frames whose truth is known and where references were shown, or
    which need none."""

    counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    frames: int = 0
    """That were judged."""
    unguided: int = 0
    """That were made while there were no references: not in the sums."""
    bare: int = 0
    """That are in the sums all the same."""
    groups: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=GROUPS))
    """Per prediction or hole: sums with and without references, and of how many frames."""
    _last: int = 0

    def add(
        self, ahead: int, errors: Mapping[str, float], guided: bool, *, needed: bool = True
    ) -> None:
        """Squared ``errors`` by arm of a frame that was ``ahead`` frames from what was known,
        ``guided`` by references; it counts without them if they are not ``needed``."""
        if not guided:
            self._last = 0
        if not guided and needed:
            self.unguided += 1
            return
        self.frames += 1
        self.bare += not guided
        if "plain" in errors and guided:
            more = ahead > self._last > 0 and self.groups
            with_, without, count = self.groups.pop() if more else (0.0, 0.0, 0)
            self.groups.append((with_ + errors["guided"], without + errors["plain"], count + 1))
            self._last = ahead
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

    def arms(self) -> list[str]:
        """What was judged. Where nothing guided, that is told as made without references."""
        arms = [arm for arm in ARMS if arm in self.counts]
        if self.bare == self.frames and "plain" in arms:
            arms.remove("guided")
        return arms

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
        told = [[ARMS[arm], f"{self.mean(arm):.1f}"] for arm in self.arms()]
        return [["mean error of a pixel", f"grey levels of 255, {self.frames} frames"], *told]

    def alone(self) -> str:
        """How many frames had no references, in a sentence; empty for none."""
        if not self.bare:
            return ""
        if self.bare == self.frames:
            return "There were no references for any of them."
        return f"For {self.bare} of them there were no references; they count in both rows."

    def gain(self) -> str:
        """What references do to the error, in a sentence; empty for too few."""
        if len(self.groups) < ENOUGH:
            return ""
        from retain.datasets.bootstrap import interval

        guided, plain, _ = np.array(self.groups, np.float32).T
        found = interval(_change, guided, plain)
        return (
            f"References change the error by {found.value:+.0f} % (95 % interval {found.low:+.0f} "
            f"to {found.high:+.0f}, {len(self.groups)} stretches resampled)."
        )

    def beaten(self) -> str:
        """A sentence where something simple is nearer to the truth; else empty."""
        for arm in ("held", "linear"):
            if self.mean(arm) < self.mean("guided"):
                way = {"held": "Holding the last frame", "linear": "Linear interpolation"}[arm]
                return f"{way} is nearer to the truth here: the model does not know such pictures."
        return ""

    def facts(self) -> dict[str, object]:
        means = {arm: round(self.mean(arm), 3) for arm in ARMS if arm in self.counts}
        return {
            "judged": self.frames,
            "made_without_references": self.unguided + self.bare,
            "rmse": means,
        }


def _change(guided: NDArray[np.float32], plain: NDArray[np.float32]) -> float:
    """Of the root mean square, per cent."""
    return float(100 * (np.sqrt(guided.sum() / max(plain.sum(), 1e-9)) - 1))
