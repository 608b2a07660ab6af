"""One picture of one stream, with the times that matter kept apart."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
MetaValue = str | int | float | bool

MAX_SIDE = 32_768
SYNTHETIC = "synthetic"
"""The key of ``Frame.meta`` that is True where a model made the picture. It travels with the frame,
through recordings and between hosts; memories refuse such frames."""
_EMPTY: Mapping[str, MetaValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of one stream.

    ``image`` is uint8 [H, W, 3], RGB, C-contiguous and read-only: it may be a view of shared
    memory that several stages see at once. Its memory stays valid as long as the array (or any
    view of it) is referenced; a stage that keeps many frames should copy them.
    """

    stream: str
    seq: int
    """Number of this frame in its stream, from 0. A gap means frames were dropped on the way."""
    pts: int
    """Presentation time in ticks of ``time_base``; exact. Never arrival time."""
    time_base: Fraction
    image: Image
    t_arrival_ns: int = field(default_factory=time.monotonic_ns)
    """``time.monotonic_ns()`` when the frame reached this host: ages are measured from here."""
    wall_ns: int = field(default_factory=time.time_ns)
    """UTC nanoseconds since the epoch when the frame reached this host."""
    discontinuity: bool = False
    """True on the first frame after a gap (reconnect, restart, seek); memories do not bridge it."""
    meta: Mapping[str, MetaValue] = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        image = self.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"Frame.image must be uint8 [H, W, 3] RGB, got {image.dtype} {list(image.shape)}"
            )
        if not 0 < image.shape[0] <= MAX_SIDE or not 0 < image.shape[1] <= MAX_SIDE:
            raise ValueError(f"Frame sides must be 1..{MAX_SIDE}, got {list(image.shape[:2])}")
        if not image.flags.c_contiguous:
            raise ValueError("Frame.image must be C-contiguous; use numpy.ascontiguousarray")
        if self.seq < 0:
            raise ValueError(f"Frame.seq must be >= 0, got {self.seq}")
        image.flags.writeable = False

    @property
    def seconds(self) -> float:
        """Presentation time in seconds, for display and for rates."""
        return float(self.pts * self.time_base)

    @property
    def synthetic(self) -> bool:
        """Whether a model made the picture, in whole or in part."""
        return bool(self.meta.get(SYNTHETIC, False))

    @property
    def height(self) -> int:
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    @property
    def nbytes(self) -> int:
        return int(self.image.nbytes)

    def age_s(self, now_ns: int | None = None) -> float:
        """Seconds since the frame reached this host."""
        return ((time.monotonic_ns() if now_ns is None else now_ns) - self.t_arrival_ns) / 1e9
