"""What a bank of clips holds, and how clips are cut from a stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import numpy as np

from retain.memory.base import Json
from retain.memory.table import ARRIVAL, Columns
from retain.pipeline.errors import UsageError, nearest

Admit = Literal["surprise", "reservoir"]

SCORES = 256
"""Last scores of which the quantile is taken; 8 bytes each."""
MAX_CLIPS = 1_000_000
"""Up to here a search of all rows was measured to be quick enough; see docs/clip-bank.md."""
TEXT = {"stream": 64, "origin": 96, "caption": 256}
"""Bytes of UTF-8 a row keeps of each."""


@dataclass(frozen=True, slots=True)
class ClipShape:
    """Frames, pixels and channels (1 grey, 3 RGB) of every clip. Raises UsageError otherwise."""

    frames: int = 8
    height: int = 12
    width: int = 12
    channels: int = 1

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width) < 1 or self.channels not in (1, 3):
            raise UsageError(f"No clip can be {self}: sizes are positive, channels 1 or 3.")

    @property
    def array(self) -> tuple[int, int, int, int]:
        """[T, H, W, C]."""
        return self.frames, self.height, self.width, self.channels

    def __str__(self) -> str:
        kind = "grey" if self.channels == 1 else "RGB"
        return f"{self.frames} {kind} frames of {self.width}x{self.height} pixels"


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """How clips are cut. Raises UsageError for numbers that cannot work."""

    shape: ClipShape = field(default_factory=ClipShape)
    stride: int = 4
    """Frames taken between one clip and the next; below ``shape.frames`` they overlap."""
    every: int = 1
    """Of the stream every so-manyth frame is taken."""
    slack: int = 0
    """So many frames more may be missing between two taken; after more the clip starts anew."""

    def __post_init__(self) -> None:
        if min(self.stride, self.every) < 1 or self.slack < 0:
            raise UsageError(
                f"Windows need stride and every >= 1 and slack >= 0, got {self.stride}, "
                f"{self.every} and {self.slack}."
            )


@dataclass(frozen=True, slots=True)
class ClipBankConfig:
    """What a bank may hold, per stream. Raises UsageError when a value cannot work."""

    encoder: str
    """Name of the encoder that the descriptors come from."""
    weights: str
    """Digest of its weights. Descriptors of others cannot be compared and are refused."""
    dim: int
    """E, numbers of a descriptor."""
    shape: ClipShape = field(default_factory=ClipShape)
    coarse: int = 0
    """F, numbers of a second, coarser feature that picks the candidates; 0: there is none."""
    capacity: int = 256
    least: int = 4
    """Clips below which the bank is of no use."""
    admit: Admit = "surprise"
    """What enters a full bank: ``surprise``, what scores high or resembles nothing held (the most
    redundant leaves); ``reservoir``, a uniform sample of all clips offered."""
    quantile: float = 0.9
    """A score above this quantile of the last ``SCORES`` is high."""
    far: float | None = None
    """A descriptor resembles nothing held when 1 - cosine to the nearest is above this. None: when
    it is less like any than the two held that are most alike are like each other, so that the
    bank's rows grow apart; what is far depends on the encoder, and no number suits them all."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.admit not in get_args(Admit):
            known = get_args(Admit)
            raise UsageError(f"Unknown admission {self.admit!r}.", hint=nearest(self.admit, known))
        if self.dim < 1 or self.coarse < 0:
            raise UsageError(f"A clip's descriptor needs a length, not {self.dim}.")
        if not 1 <= self.least <= self.capacity <= MAX_CLIPS:
            raise UsageError(
                f"A clip bank has room for {self.least} to {MAX_CLIPS} clips, not {self.capacity}."
            )
        if not 0 <= self.quantile <= 1 or not 0 <= (self.far or 0) <= 2:
            raise UsageError("A clip bank's quantile is in [0, 1] and its distance in [0, 2].")

    @property
    def columns(self) -> Columns:
        """Name and type of all that a row holds."""
        coarse: Columns = {"coarse": (np.float32, (self.coarse,))} if self.coarse else {}
        return {
            "descriptor": (np.float32, (self.dim,)),
            **coarse,
            "frames": (np.uint8, self.shape.array),
            **{name: (np.uint8, (size,)) for name, size in TEXT.items()},
            "stream_key": np.int64,
            "caption_key": np.int64,
            "first": np.int64,
            "last": np.int64,
            "start_s": np.float64,
            "end_s": np.float64,
            "score": np.float64,
            "key": np.float64,
            ARRIVAL: np.int64,
            "nearest": np.float32,
            "twin": np.int64,
        }

    @property
    def row_bytes(self) -> int:
        """Bytes of one clip with all that belongs to it."""
        return sum(np.dtype(dtype).itemsize for dtype in self.columns.values())

    def nbytes(self, rows: int) -> int:
        """Bytes of a bank with room for ``rows``."""
        return rows * self.row_bytes + 8 * SCORES

    def as_json(self) -> dict[str, Json]:
        return asdict(self)
