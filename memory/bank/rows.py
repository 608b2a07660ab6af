"""What is written into a bank, and what a read of it gives."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.kernels.bank_read import geo, reference
from retain.kernels.bank_read.reference import Geo
from retain.memory.eviction import COLUMNS as POLICY_COLUMNS
from retain.memory.table import ARRIVAL, Columns

COLUMNS: Columns = {
    **{name: POLICY_COLUMNS[name] for name in ("seconds", "score", "key")},
    ARRIVAL: np.int64,
    "frame": np.int64,
    "box": (np.float32, (4,)),
    "level": np.int32,
    "enhanced": np.uint8,
}
"""What is known of a row besides its features. ``arrival`` counts the rows of the stream."""


@dataclass(frozen=True, slots=True)
class BankWrite:
    """Rows of one frame, the most important first: where they do not all fit, the first do."""

    rows: Tensor
    """[k, C] features."""
    frame: int
    """Its number in the stream."""
    seconds: float = 0.0
    scores: NDArray[np.floating] | Sequence[float] | None = None
    """[k]; 0 if None."""
    boxes: NDArray[np.floating] | None = None
    """[k, 4] xyxy, pixels of the frame; zeros if None."""
    levels: NDArray[np.integer] | Sequence[int] | int = 0
    """Of the feature pyramid."""
    enhanced: bool = True
    """Whether the rows were read into before. Both kinds in one bank are two populations."""


@dataclass(frozen=True, slots=True)
class BankQuery:
    """What to read: of one level only, or all; ``target`` [T, C] is what ``lasso`` rebuilds."""

    level: int | None = None
    target: Tensor | None = None
    count: int | None = None
    """Rows at most, where not the ``key_set`` of the configuration."""


class Projection(Protocol):
    """What becomes of a row when it is written, and is kept beside it or in its place."""

    @property
    def key_shape(self) -> tuple[int, int]:
        """(heads, channels) of a key."""
        ...

    @property
    def value_shape(self) -> tuple[int, int]: ...

    @property
    def digest(self) -> str:
        """Stands for the weights: rows projected by others are refused."""
        ...

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """[k, C] -> keys and values, [k, *shape] each."""
        ...


class GeoProjection:
    """Keys and values of MAMBA's enhancement. ``weights`` are as trained, and stay so."""

    def __init__(self, weights: Geo, heads: int) -> None:
        self._weights = Geo(*(None if x is None else x.detach() for x in weights))  # type: ignore[arg-type]
        channels = len(weights.b_key)
        self.key_shape = self.value_shape = heads, channels // heads
        parts = (weights.w_key, weights.b_key, weights.w_value, weights.b_value)
        self.digest = digest(*parts)

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return geo.project(rows, self._weights, self.key_shape[0])


def digest(*weights: Tensor) -> str:
    """A name for these very numbers."""
    flat = b"".join(tensor.detach().cpu().float().numpy().tobytes() for tensor in weights)
    return hashlib.sha256(flat).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A row that took part in a read, and its share of it, in [0, 1]."""

    stream: str
    frame: int
    seconds: float
    box: tuple[float, float, float, float]
    score: float
    level: int
    enhanced: bool
    share: float


@dataclass(frozen=True, slots=True)
class KeySet:
    """The rows to attend to, in place: ``keys`` and ``values`` are views of all the stream holds,
    not to be changed, and true until its next write; ``index`` lists those that are read.
    """

    stream: str
    index: Tensor
    """int64 [K], on the bank's device."""
    keys: Tensor
    """[R, H, D]."""
    values: Tensor
    """[R, H or 1, E]."""
    rows: Tensor | None
    """[R, C] as written, where they are kept."""
    columns: dict[str, NDArray[Any]]
    """``COLUMNS`` of the rows listed, [K, ...]."""

    def __len__(self) -> int:
        return len(self.index)

    def shares(
        self, query: Tensor, bias: Tensor | None = None, scale: float | None = None
    ) -> Tensor:
        """[N, H, K]: how much each of the queries [N, H, D] reads of each row listed. For the few
        queries that became results; a read itself never holds this. ``bias`` [K, H]."""
        own = None if bias is None else bias[None]
        return reference.weights(query[None], self.keys, self.index[None], own, scale)[0]

    def decided(self, shares: Tensor, top: int = 3) -> list[list[Remembered]]:
        """Which memory decided: the rows of the largest ``shares`` [N, H, K], averaged over heads,
        for each of N queries. Fewer than ``top`` where fewer are listed."""
        mean = shares.mean(1)
        best = mean.topk(min(top, len(self)), dim=1)
        return [
            [self._remembered(j, share) for j, share in zip(places, values, strict=True)]
            for places, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _remembered(self, j: int, share: float) -> Remembered:
        c = self.columns
        left, up, right, down = c["box"][j].tolist()
        return Remembered(
            stream=self.stream,
            frame=int(c["frame"][j]),
            seconds=float(c["seconds"][j]),
            box=(left, up, right, down),
            score=float(c["score"][j]),
            level=int(c["level"][j]),
            enhanced=bool(c["enhanced"][j]),
            share=share,
        )
