"""What is written into a Gaussian map, and what is read from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry.rigid import is_rigid
from retain.kernels.rasterize.gaussians import Floats, Gaussians


@dataclass(frozen=True, slots=True)
class Keyframe:
    """One keyframe as Gaussians, in the world. Raises ValueError for arrays that do not fit.

    id          any number >= 0 that no other keyframe of the stream has
    seq         of its frame
    c2w         float64 [4, 4]
    gaussians   N of them
    confidence  float32 [N], >= 0: how much each is to be believed, against others; 0 drops it
    normals     float32 [N, 3], unit length, world
    size        float32 [N], metres of surface each stands for: z / f * step. Chooses its voxel's
                size
    """

    id: int
    seq: int
    c2w: NDArray[np.float64]
    gaussians: Gaussians
    confidence: Floats
    normals: Floats
    size: Floats

    def __post_init__(self) -> None:
        n = len(self.gaussians)
        for name, shape in {"confidence": (n,), "normals": (n, 3), "size": (n,)}.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32:
                raise ValueError(
                    f"Keyframe.{name} must be float32 {list(shape)}, "
                    f"got {array.dtype} {list(array.shape)}"
                )
        if self.id < 0 or not is_rigid(self.c2w):
            raise ValueError(f"keyframe {self.id} needs an id >= 0 and a rigid pose")


@dataclass(frozen=True, slots=True)
class MapView:
    """Gaussians of the map, stable ones first. Views of live arrays: not to be written to, and good
    only until the stream's next change; copy what has to last.

    ids        uint32 [N]: handles, the same for as long as a Gaussian lives
    stable     how many are stable
    weights    float32 [N]: confidence gathered so far
    normals    float32 [N, 3]: mean normal; shorter than 1 where those merged disagree
    born       float32 [N, 3]: the centre when it became stable (active: meaningless)
    first_seen, last_seen  int32 [N]: seq of frames
    """

    gaussians: Gaussians
    ids: NDArray[np.uint32]
    stable: int
    weights: Floats
    normals: Floats
    born: Floats
    first_seen: NDArray[np.int32]
    last_seen: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Changes:
    """What became of the map since an epoch: forget ``removed``, then set ``ids`` to ``gaussians``.

    An id can be in both: its Gaussian went and another one took the number. ``whole``: this is all
    there is, forget everything first.
    """

    epoch: int
    whole: bool
    removed: NDArray[np.uint32]
    ids: NDArray[np.uint32]
    gaussians: Gaussians
