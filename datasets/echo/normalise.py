"""Brings the grey levels of any machine to one scale: the same for phantoms and real frames.

Two numbers are measured on the pixels that are not black: their 99th percentile (``white``) and
their median (``middle``). Gain takes ``white`` to ``WHITE``, then a gamma takes ``middle`` to
``MIDDLE``: monotone, black stays black. Both numbers are averaged over the stream, so that
brightness neither flickers nor pumps with the heart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import StateError

BLACK = 3 / 255
"""Darker pixels are background, shadow or compression noise: they are not measured."""

WHITE, MIDDLE = 0.9, 0.25
"""Where the 99th percentile and the median of the pixels above BLACK go."""

GAMMA = (0.4, 1.6)
"""Limits of the exponent: beyond them the picture itself is at fault."""

LEAST_WHITE = 24 / 255
"""Pictures darker than this are amplified no further: that would only show their noise."""

FRAMES = 25
"""Length of the average, frames; a frame weighs at least 1 / FRAMES."""


class Normaliser:
    """Normalises the frames of one stream in order; deterministic, and its ``state`` is all it has.

    The first frame is normalised by its own levels, later ones by the average so far.
    """

    def __init__(self) -> None:
        # Frames measured, mean log white, mean log middle: float32, as memories store it.
        self._state = np.zeros(3, np.float32)

    def __call__(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """``grid``: float32, any shape, 0..1 (``sector.to_grid``). Returns the same shape, 0..1."""
        measured = _levels(grid)
        if measured is not None:
            self._state[0] = min(self._state[0] + 1, FRAMES)
            self._state[1:] += (np.log(measured) - self._state[1:]) / float(self._state[0])
        if not self._state[0]:
            return grid
        white, middle = np.exp(self._state[1:].astype(np.float64))
        gain = np.float32(WHITE / max(white, LEAST_WHITE))
        gamma = np.log(MIDDLE / WHITE) / min(np.log(middle / white), -0.05)
        power = np.float32(np.clip(gamma, *GAMMA))
        # the gain lies inside the power: white goes to WHITE whatever the exponent
        scaled = (grid * gain / np.float32(WHITE)) ** power * np.float32(WHITE)
        result: NDArray[np.float32] = np.minimum(scaled, np.float32(1))
        return result

    @property
    def state(self) -> NDArray[np.float32]:
        """[3], to be stored; ``restore`` takes it back."""
        return self._state.copy()

    def restore(self, state: NDArray[np.float32]) -> None:
        """Continue as the normaliser whose ``state`` this was. Raises StateError."""
        if state.shape != (3,) or not np.isfinite(state).all() or not 0 <= state[0] <= FRAMES:
            raise StateError(f"The state of a grey-level normaliser is 3 numbers, not {state}.")
        self._state = state.astype(np.float32)


def normalise(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """A single frame, or all frames of a clip on one scale: float32 of any shape, 0..1."""
    return Normaliser()(grid)


def _levels(grid: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """(white, middle) of ``grid``; None when it is all but black."""
    seen = grid[grid > BLACK]
    if seen.size < max(16, grid.size // 200):
        return None
    white, middle = np.percentile(seen, (99, 50))
    return np.array((white, middle), np.float64)
