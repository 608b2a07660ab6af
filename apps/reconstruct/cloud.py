"""The map as a viewer knows it: Gaussians by id, put together from deltas, in blocks to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.datasets.splats.splat import NBYTES, RECORD, from_records
from retain.kernels.geometry import rigid
from retain.pipeline.results import SplatDelta

BLOCK = 16_384
"""Ids of one block, which is drawn anew as a whole when one of them changes."""


class Cloud:
    """Gaussians by id. Ids are handed out again when they are free, so this is as large as the
    largest map was: 33 bytes an id.

    After a delta that was missed nothing is known for sure: ``waiting`` until one is ``whole``.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.waiting = False
        self._records = np.zeros((0, NBYTES), np.uint8)
        self._there = np.zeros(0, bool)
        self._due: dict[int, None] = {}
        """Blocks that changed since they were last taken, the longest waiting first."""

    def __len__(self) -> int:
        return int(self._there.sum())

    def apply(self, delta: SplatDelta) -> None:
        """Follow the map's change, or let it go by while a ``whole`` one has to come."""
        if not delta.whole and (self.waiting or delta.epoch != self.epoch + 1):
            self.waiting = True
            return
        self.epoch, self.waiting = delta.epoch, False
        if delta.whole:
            self._mark(np.flatnonzero(self._there))
            self._there[:] = False
        removed = delta.removed[delta.removed < len(self._there)].astype(np.int64)
        self._there[removed] = False
        self._mark(removed)
        if not len(delta.ids):
            return
        ids = delta.ids.astype(np.int64)
        self._grow(int(ids.max()) + 1)
        self._records[ids] = delta.records
        self._there[ids] = True
        self._mark(ids)

    def refresh(self) -> None:
        """Take every block as changed: somebody new looks."""
        self._mark(np.flatnonzero(self._there))

    def take(self, most: int) -> dict[int, NDArray[np.uint8]]:
        """At most ``most`` blocks that changed, by number: their Gaussians' records uint8 [N, 32],
        as copies. Empty blocks are those that went."""
        taken = list(self._due)[:most]
        blocks = {}
        for number in taken:
            del self._due[number]
            part = slice(number * BLOCK, (number + 1) * BLOCK)
            blocks[number] = self._records[part][self._there[part]]
        return blocks

    @property
    def due(self) -> int:
        """Blocks that wait to be taken."""
        return len(self._due)

    def middle(self) -> NDArray[np.float64] | None:
        """The median of at most some thousand Gaussians' places [3]; None without any."""
        rows = np.flatnonzero(self._there)
        if not len(rows):
            return None
        some = self._records[rows[:: max(1, len(rows) // 4096)]]
        means: NDArray[Any] = np.ascontiguousarray(some).view(RECORD)[:, 0]["mean"]
        return np.asarray(np.median(means, axis=0), np.float64)

    def _mark(self, ids: NDArray[np.int64]) -> None:
        self._due.update(dict.fromkeys(np.unique(ids // BLOCK).tolist()))

    def _grow(self, size: int) -> None:
        if size <= len(self._there):
            return
        size = max(-(-size // BLOCK) * BLOCK, len(self._there) * 5 // 4)
        records, there = np.zeros((size, NBYTES), np.uint8), np.zeros(size, bool)
        records[: len(self._records)], there[: len(self._there)] = self._records, self._there
        self._records, self._there = records, there


def covariances(records: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centres [N, 3] and covariances [N, 3, 3] (R S S R^T) of .splat records uint8 [N, 32]."""
    gaussians = from_records(records)
    half = rigid.matrix(gaussians.quats).astype(np.float32) * gaussians.scales[:, None, :]
    return gaussians.means, half @ half.transpose(0, 2, 1)
