"""What a detector must offer to be given a memory: its last features, and what it makes of them.

A host is a frozen, trained detector cut in two. ``describe`` runs it up to the rows its last layers
predict from, one row per cell of an anchor-free detector or per proposal of a two-stage one;
``predict`` is those last layers. Between the two the bank is read (readout.py), so a read-out of
zero effect returns the host's own boxes bit for bit. See docs/detect.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from retain.datasets.detect.base import Found, Size
from retain.pipeline.frame import Image


@dataclass(frozen=True, slots=True)
class Cells:
    """What the host saw in one picture, before it decides. N rows, the same order everywhere."""

    rows: Tensor
    """float32 [N, C] features that ``predict`` decides from."""
    anchors: Tensor
    """float32 [N, 4] x1 y1 x2 y2 in pixels of the host's input: the cell's square, or the
    proposal."""
    levels: Tensor
    """int64 [N], of the feature pyramid."""
    size: Size
    """Of the picture, width and height in its own pixels."""
    scale: float
    """Pixels of the host's input per pixel of the picture; the corner stays at (0, 0)."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """A host's decision for each row, before any threshold."""

    objectness: Tensor
    """[N] logits: is there anything? For hosts without, the best class against the background."""
    classes: Tensor
    """[N, K] logits, each class on its own."""
    boxes: Tensor
    """[N, 4] x1 y1 x2 y2 in pixels of the host's input."""

    @property
    def scores(self) -> Tensor:
        """[N, K] probabilities: objectness times class."""
        return self.objectness.sigmoid()[:, None] * self.classes.sigmoid()

    @property
    def best(self) -> Tensor:
        """[N] of the best class."""
        return self.objectness.sigmoid() * self.classes.sigmoid().amax(1)


class Host(Protocol):
    """A frozen detector. All methods are deterministic; each picture's numbers are the same bits
    whatever pictures come with it."""

    names: tuple[str, ...]
    """Of the K classes."""
    channels: int
    """C."""
    digest: str
    """Stands for the weights (memory/bank/rows.digest); a bank of other weights is refused."""
    side: int
    """Longest side of the input in pixels."""

    def describe(self, images: Sequence[Image]) -> list[Cells]:
        """``images``: uint8 RGB [H, W, 3], of any sizes. No gradients."""
        ...

    def predict(self, rows: Tensor, cells: Cells, which: Tensor | None = None) -> Predicted:
        """Decide from ``rows`` [M, C] standing in for those of ``cells`` that ``which`` [M] lists
        (all, if None), each at most once. Gradients reach ``rows``, not the host. A row's decision
        is the same bits whichever others are listed."""
        ...

    def found(
        self, predicted: Predicted, cells: Cells, threshold: float = 0.01
    ) -> tuple[Found, Tensor]:
        """What remains after the threshold and suppression of duplicates, best first, in pixels of
        the picture; and int64 [n]: the row each box is from."""
        ...
