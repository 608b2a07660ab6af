"""The small detector as a host: rows are what class and place of each cell are decided from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from retain.datasets.detect.base import Found
from retain.memory.bank.rows import digest
from retain.models.encoders.base import choose_device
from retain.models.mamba.host import Cells, Predicted
from retain.models.mamba.hosts.suppress import of_rows
from retain.models.mamba.small import weights
from retain.models.mamba.small.network import WIDTH, Network, decode, grid
from retain.pipeline.frame import Image

IOU = 0.6
"""Boxes of one class that overlap more are the same object."""
MOST = 100
"""Boxes in a picture."""
SIDE = 320
"""Of the pictures it was trained on."""


class SmallDetector:
    """A frozen small detector. See ``Host``; tensors are on the device of the network.

    The picture is scaled until its longest side is ``side``, and nothing is added to it: levels
    have as many cells as it takes to cover it.
    """

    def __init__(self, network: Network, names: Sequence[str], device: str = "cpu") -> None:
        self.names = tuple(names)
        self.channels = 2 * WIDTH
        self.side = SIDE
        self.digest = digest(*weights.numbers(network))
        self.device = torch.device(device)
        network = network.eval().requires_grad_(False).to(self.device)
        self.network = network.to(memory_format=torch.channels_last)
        self._grid = lru_cache(maxsize=16)(self._cells)

    @staticmethod
    def load(name_or_path: str | Path = "small", device: str = "auto") -> SmallDetector:
        """The weights that come with retain, or those in a file `retain train detector` wrote.
        Raises UsageError for a name nobody knows, StateError for a damaged file."""
        network, names, _ = weights.load(name_or_path)
        return SmallDetector(network, names, choose_device(device))

    @torch.no_grad()
    def describe(self, images: Sequence[Image]) -> list[Cells]:
        """One by one: a batch may take another way through the arithmetic than its pictures."""
        return [self._describe(image) for image in images]

    def _describe(self, image: Image) -> Cells:
        height, width = image.shape[:2]
        scale = self.side / max(height, width)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        if inner != (width, height):
            # Area averaging does not alias; it makes blocks of pictures it has to enlarge.
            kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, inner, interpolation=kind), np.uint8)
        pixels = torch.from_numpy(np.array(image)).to(self.device)  # frames are read-only
        rows = self.network(pixels[None].permute(0, 3, 1, 2).float())[0]
        anchors, levels = self._grid(inner[1], inner[0])
        return Cells(rows, anchors, levels, (width, height), scale)

    def _cells(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        anchors, levels = grid(height, width)
        return anchors.to(self.device), levels.to(self.device)

    def predict(self, rows: Tensor, cells: Cells, which: Tensor | None = None) -> Predicted:
        """See ``Host``; no row twice in ``which``. All rows are always run, because a product of
        few rows may differ in its last bits from the same rows among many."""
        whole = rows if which is None else cells.rows.index_put((which,), rows)
        decided = self.network.decide(whole.contiguous())
        boxes = decode(decided.places, cells.anchors)
        if which is None:
            return Predicted(decided.objectness, decided.classes, boxes)
        return Predicted(decided.objectness[which], decided.classes[which], boxes[which])

    def found(
        self, predicted: Predicted, cells: Cells, threshold: float = 0.01
    ) -> tuple[Found, Tensor]:
        """See ``Host``."""
        return of_rows(predicted, cells, threshold, IOU, MOST)
