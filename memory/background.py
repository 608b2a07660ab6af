"""What a stream has looked like lately: a slow mean of its features and a few past ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import StateError, UsageError

PAST = 8
"""Past features kept, one per second or slower."""
AFTER_S = 1.0
"""Age from which a past feature counts: what began a moment ago is still new."""


def units(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of ``rows`` [N, D] can be unit features or means of them: finite, at most 1 long."""
    return np.asarray(np.abs(rows).max(axis=1, initial=0) < 1.001)


def unit_of(embedding: NDArray[np.floating], dim: int) -> NDArray[np.float32]:
    """Unit length in float32; all zero when the embedding describes nothing."""
    vector = np.asarray(embedding, np.float32)
    if vector.shape != (dim,):
        raise UsageError(f"An embedding must be [{dim}], got {list(vector.shape)}.")
    length = float(np.sqrt(np.dot(vector, vector)))
    if not 1e-12 < length < np.inf:
        return np.zeros(dim, np.float32)
    return vector / np.float32(length)


class Background:
    """Exponential mean of unit features with a half-life in seconds (a plain mean at the start),
    and the features of the last ``PAST`` seconds, one each.

    A frame's novelty is its distance, 1 - cosine, to the nearest of them. An event is novel when it
    comes; the return from it is not, though both change the picture equally.
    """

    def __init__(self, dim: int, half_life_s: float) -> None:
        self._half_life = half_life_s
        self._mean = np.zeros(dim, np.float32)
        self._past = np.zeros((PAST, dim), np.float32)
        self._past_s = np.full(PAST, math.inf)
        self._clock = np.array([0.0, 0.0, 0.0])  # frames taken in, seconds of the last, past kept

    @staticmethod
    def fixed_bytes(dim: int) -> int:
        return 4 * dim * (1 + PAST) + 8 * (PAST + 3)

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self._mean, self._past, self._past_s, self._clock))

    def since(self, seconds: float) -> float:
        """Seconds from the frame taken in last to one at ``seconds``; 0 for the first, and when
        time runs backwards."""
        count, last, _ = self._clock.tolist()
        return max(seconds - last, 0.0) if count else 0.0

    def novelty(self, unit: NDArray[np.float32], seconds: float) -> float:
        """How unlike the recent stream ``unit`` is, in [0, 2]; then take it in.

        0 for the first frame and for a frame without a feature, which is not taken in.
        """
        if not unit.any():
            return 0.0
        mean, (count, _, kept) = self._mean, self._clock.tolist()
        length = math.sqrt(float(np.dot(mean, mean)))
        nearest = 1.0 if length == 0 else float(np.dot(unit, mean)) / length
        ages = seconds - self._past_s
        old = ages >= AFTER_S
        if old.any():
            nearest = max(nearest, float((self._past @ unit)[old].max()))
        weight = 1.0 - 0.5 ** (self.since(seconds) / self._half_life)
        weight = max(weight, 1.0 / (count + 1.0))
        mean += np.float32(weight) * (unit - mean)
        if not kept or not 0 <= seconds - self._past_s[int(kept - 1) % PAST] < 1.0:
            self._past[int(kept) % PAST], self._past_s[int(kept) % PAST] = unit, seconds
            kept += 1.0
        self._clock[:] = count + 1.0, seconds, kept
        return max(1.0 - nearest, 0.0)

    def tensors(self) -> dict[str, np.ndarray]:
        return {
            "background.mean": self._mean.copy(),
            "background.past": self._past.copy(),
            "background.clock": np.concatenate([self._clock, self._past_s]),
        }

    def load(self, mean: np.ndarray, past: np.ndarray, clock: np.ndarray) -> None:
        """Take saved arrays in. Raises StateError when they are not of this background."""
        mine = self.tensors().values()
        for own, given in zip(mine, (mean, past, clock), strict=True):
            if own.shape != given.shape or own.dtype != given.dtype:
                raise StateError(
                    f"The saved background is {given.dtype} {list(given.shape)} where "
                    f"{own.dtype} {list(own.shape)} is expected."
                )
        counts = ((clock[[0, 2]] >= 0) & (clock[[0, 2]] < 2**53)).all()
        if not counts or not math.isfinite(clock[1]) or np.isnan(clock[3:]).any():
            raise StateError("The saved background has an impossible count or time.")
        if not units(mean[None]).all() or not units(past).all():
            raise StateError("The saved background holds features that are not of unit length.")
        self._mean[:], self._past[:] = mean, past
        self._clock[:], self._past_s[:] = clock[:3], clock[3:]
