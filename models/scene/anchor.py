"""The keyframe that frames are placed by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """A keyframe and its pose ``c2w`` [4, 4] as it is known now."""

    id: int
    c2w: Matrix

    def local(self, c2w: Matrix) -> Matrix:
        """A pose in the keyframe's coordinates."""
        return rigid.inverse(self.c2w) @ c2w

    def moved(self, poses: Mapping[int, Matrix]) -> Anchor:
        """The keyframe after a loop closure gave those in ``poses`` new ones."""
        return Anchor(self.id, poses.get(self.id, self.c2w))
