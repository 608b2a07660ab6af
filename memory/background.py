"""The slow background of a stream: a running mean of its features."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import StateError


class Background:
    """Exponential mean of unit features with a half-life in seconds; a plain mean at the start.

    A frame's novelty is 1 - cosine to it. An event is novel for as long as it lasts, the return
    from it is not, though both change the picture equally.
    """

    BYTES_PER_DIM = 4

    def __init__(self, dim: int, half_life_s: float) -> None:
        self._half_life = half_life_s
        self._mean = np.zeros(dim, np.float32)
        self._clock = np.array([0.0, 0.0])  # frames taken in, seconds of the last

    @property
    def nbytes(self) -> int:
        return self._mean.nbytes + self._clock.nbytes

    def novelty(self, unit: NDArray[np.float32], seconds: float) -> float:
        """How unlike the background ``unit`` is, in [0, 2]; then take it in.

        0 for the first frame and for a frame without a feature, which is not taken in.
        """
        if not unit.any():
            return 0.0
        mean, (count, last) = self._mean, self._clock.tolist()
        length = math.sqrt(float(np.dot(mean, mean)))
        novelty = 0.0 if length == 0 else 1.0 - float(np.dot(unit, mean)) / length
        dt = max(seconds - last, 0.0) if count else 0.0
        weight = max(1.0 - 0.5 ** (dt / self._half_life), 1.0 / (count + 1.0))
        mean += np.float32(weight) * (unit - mean)
        self._clock[:] = count + 1.0, seconds
        return max(novelty, 0.0)

    def unlike(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """1 - cosine of each of ``units`` [N, D] to the background as it is now."""
        length = max(float(np.sqrt(np.dot(self._mean, self._mean))), 1e-12)
        return np.asarray(1.0 - units @ self._mean / np.float32(length), np.float32)

    def tensors(self) -> dict[str, np.ndarray]:
        return {"background": np.concatenate([self._mean.astype(np.float64), self._clock])}

    def load(self, saved: np.ndarray) -> None:
        if saved.shape != (self._mean.size + 2,) or saved.dtype != np.float64:
            raise StateError(
                f"'background' is {saved.dtype} {list(saved.shape)}, "
                f"expected float64 [{self._mean.size + 2}]."
            )
        self._mean[:] = saved[:-2]
        self._clock[:] = saved[-2:]
