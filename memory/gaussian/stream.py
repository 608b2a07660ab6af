"""Everything a Gaussian map holds of one stream."""

from __future__ import annotations

import numpy as np

from retain.memory.gaussian.arena import ID_BYTES, Arena, row_bytes
from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.window import Keyframes

MIN_ROWS = 64
_NUMBERS = 256
"""Bytes for the counters."""

COUNTS = (
    "keyframes", "written", "promoted", "merged", "expired",
    "pruned_opacity", "pruned_footprint", "pruned_free_space", "pruned_range", "pruned_budget",
)  # fmt: skip


def fixed_bytes(config: GaussianConfig) -> int:
    return Keyframes.fixed_bytes(config.keyframes) + _NUMBERS


def min_bytes(config: GaussianConfig) -> int:
    """For a map of ``MIN_ROWS`` Gaussians."""
    return fixed_bytes(config) + MIN_ROWS * (row_bytes(config.codes) + ID_BYTES)


class Stream:
    """One stream's arena, poses and counters. ``epoch`` counts changes; ``seq``: the newest
    frame."""

    def __init__(self, config: GaussianConfig, rows: int) -> None:
        self.arena = Arena(rows, config.codes)
        self.keyframes = Keyframes(config.keyframes)
        self.epoch, self.seq = 0, -1
        self.whole_before = 0
        """Ids were given anew at this epoch: whoever knows only an earlier one needs everything."""
        self.counts = dict.fromkeys(COUNTS, 0)

    @staticmethod
    def rows_in(config: GaussianConfig, nbytes: int) -> int:
        """Gaussians that fit into ``nbytes``."""
        return (nbytes - fixed_bytes(config)) // (row_bytes(config.codes) + ID_BYTES)

    @staticmethod
    def bytes_of(config: GaussianConfig, rows: int) -> int:
        """Bytes in which ``rows`` Gaussians fit."""
        return fixed_bytes(config) + rows * (row_bytes(config.codes) + ID_BYTES)

    @property
    def nbytes(self) -> int:
        return self.arena.nbytes + self.keyframes.nbytes + _NUMBERS

    def count(self, **more: int) -> None:
        for name, value in more.items():
            self.counts[name] += value


def resized(s: Stream, config: GaussianConfig, rows: int) -> Stream:
    """The same stream in an arena of ``rows``, which must hold it. Ids stay where they fit;
    otherwise they are given anew."""
    new = Stream(config, rows)
    new.keyframes, new.counts = s.keyframes, s.counts
    new.epoch, new.seq, new.whole_before = s.epoch, s.seq, s.whole_before
    a, n, peak = new.arena, s.arena.n, s.arena.peak
    for name, array in a.arrays.items():
        array[:n] = s.arena[name]
    a.n, a.stable = n, s.arena.stable
    if peak <= rows:
        a.peak = peak
        a.row_of[:peak], a.died[:peak] = s.arena.row_of[:peak], s.arena.died[:peak]
        return new
    a.peak, new.whole_before = n, s.epoch
    a["ids"][:] = np.arange(n)
    a.row_of[:n] = np.arange(n)
    return new
