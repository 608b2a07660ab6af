"""The keyframes a map knows: a bounded table of poses, and which of them are in the window."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid

NONE = -1


class Keyframes:
    """Up to ``capacity`` keyframes by slot. The window, oldest first, is never evicted."""

    def __init__(self, capacity: int) -> None:
        self.ids = np.full(capacity, NONE, np.int64)
        self.seqs = np.full(capacity, NONE, np.int64)
        self.c2w = np.zeros((capacity, 4, 4))
        self.window: list[int] = []

    @staticmethod
    def fixed_bytes(capacity: int) -> int:
        return capacity * (8 + 8 + 128)

    @property
    def nbytes(self) -> int:
        return self.ids.nbytes + self.seqs.nbytes + self.c2w.nbytes

    def __len__(self) -> int:
        return int((self.ids != NONE).sum())

    def __contains__(self, keyframe: int) -> bool:
        return bool((self.ids == keyframe).any())

    @property
    def newest(self) -> int:
        """Id of the newest keyframe, or NONE."""
        return int(self.ids[self.window[-1]]) if self.window else NONE

    def since(self, count: int) -> int:
        """Seq of the ``count``-th newest keyframe."""
        return int(np.sort(self.seqs)[-count])

    def slots(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slot of each id, NONE for ids that are not here."""
        order = np.argsort(self.ids, kind="stable")
        at = np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(order) - 1)
        found = order[at]
        return np.where((self.ids[found] == ids) & (ids != NONE), found, NONE)

    def add(self, keyframe: int, seq: int, c2w: NDArray[np.float64]) -> int:
        """Put it into a free slot and at the end of the window. There must be one: see
        ``evict``."""
        slot = int(np.flatnonzero(self.ids == NONE)[0])
        self.ids[slot], self.seqs[slot], self.c2w[slot] = keyframe, seq, c2w
        self.window.append(slot)
        return slot

    def place(
        self, poses: Mapping[int, NDArray[np.float64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Give those that are here new poses by id: their slots [M], and the motions [M, 4, 4] in
        the world that they made. Raises ValueError for a pose that is none."""
        for keyframe, pose in poses.items():
            if not rigid.is_rigid(pose):
                raise ValueError(f"the new pose of keyframe {keyframe} is not rigid")
        slots = self.slots(np.array(list(poses), np.int64))
        new = np.array(list(poses.values()), np.float64).reshape(-1, 4, 4)[slots >= 0]
        slots = slots[slots >= 0]
        motions = new @ rigid.inverse(self.c2w[slots])
        self.c2w[slots] = new
        return slots, motions

    @property
    def full(self) -> bool:
        return bool((self.ids != NONE).all())

    def evict(self) -> tuple[int, int]:
        """Forget the keyframe, outside the window, that has another one nearest to it, of two the
        later. Returns its slot and that of the nearest one, which answers for its Gaussians now."""
        distance = self._distances()
        outside = np.ones(len(self.ids), bool)
        outside[self.window] = False
        nearest = np.where(outside, distance.min(axis=1), np.inf)
        closest = np.flatnonzero(nearest == nearest.min())
        slot = int(closest[np.argmax(self.seqs[closest])])
        heir = int(distance[slot].argmin())
        self.ids[slot], self.seqs[slot], self.c2w[slot] = NONE, NONE, 0.0
        return slot, heir

    def _distances(self) -> NDArray[np.float64]:
        """[K, K]: how far apart the tips of the cameras' axes are, each axis a metre long; so a
        turn counts as well as a step. Squared, infinite on the diagonal."""
        tips = (self.c2w[:, :3, 3:] + self.c2w[:, :3, :3]).reshape(len(self.c2w), 9)
        lengths = (tips**2).sum(axis=1)
        squared: NDArray[np.float64] = lengths[:, None] + lengths[None] - 2 * tips @ tips.T
        np.fill_diagonal(squared, np.inf)
        return squared
