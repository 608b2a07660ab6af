"""YOLOX as a host: rows are the last features of each cell (arXiv 2107.08430).

A row is what the class is decided from and what place and objectness are decided from, one after
the other; a cell is a square of 8, 16 or 32 input pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import torch
from torch import Tensor

from retain.datasets.detect.base import Found, Size
from retain.memory.bank.rows import digest
from retain.models.mamba.host import Cells, Predicted
from retain.models.mamba.hosts.letterbox import STRIDE, boxed, letterbox
from retain.models.mamba.hosts.suppress import of_rows
from retain.models.mamba.hosts.yolox_net import STRIDES, YoloxNet
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

IOU = 0.65
"""Boxes of one class that overlap more are the same object (YOLOX's evaluation)."""
MOST = 100
"""Boxes in a picture."""
LARGEST = 10.0
"""Of the logarithm of a side in cells: far past any picture, well before infinity."""


class Grid(NamedTuple):
    """The cells of one input size."""

    anchors: Tensor
    """float32 [N, 4] x1 y1 x2 y2 in input pixels."""
    levels: Tensor
    """int64 [N]."""
    counts: tuple[int, ...]
    """Cells of each level."""


@lru_cache(maxsize=16)
def grid(outer: Size, device: torch.device) -> Grid:
    """Cells in rows from the top left, the finest level first."""
    anchors, counts = [], []
    for stride in STRIDES:
        width, height = outer[0] // stride, outer[1] // stride
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        corner = torch.stack((x, y), 2).reshape(-1, 2)
        anchors.append(torch.cat((corner, corner + 1), 1) * float(stride))
        counts.append(width * height)
    levels = torch.arange(len(STRIDES)).repeat_interleave(torch.tensor(counts))
    return Grid(torch.cat(anchors).to(device), levels.to(device), tuple(counts))


class Yolox:
    """A frozen YOLOX. See ``Host``; tensors are on the device of the network."""

    def __init__(
        self, network: YoloxNet, names: Sequence[str], device: str | torch.device, side: int = 0
    ) -> None:
        """``side``: longest side of the input; 0 takes what the size was trained for. Raises
        UsageError for another number of names than of classes, or an unusable side."""
        plan = network.plan
        side = side or (416 if plan.kind in ("nano", "tiny") else 640)
        if side % STRIDE or not 64 <= side <= 4096:
            raise UsageError(
                f"The input side {side} does not fit a YOLOX.",
                hint=f"Take a multiple of {STRIDE} from 64 to 4096; 416 or 640 is usual.",
            )
        if len(names) != plan.classes:
            raise UsageError(
                f"There are {len(names)} names for the {plan.classes} classes of these weights."
            )
        self.names = tuple(names)
        self.channels = 2 * plan.hidden
        self.side = side
        self.digest = digest(*network.state_dict().values())
        self.device = torch.device(device)
        # Channels last: a third less time on a CPU.
        network = network.eval().requires_grad_(False).to(self.device)
        self.network = network.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def describe(self, images: Sequence[Image]) -> list[Cells]:
        """One by one: a batch may take another way through the arithmetic than its pictures."""
        return [self._describe(image) for image in images]

    def _describe(self, image: Image) -> Cells:
        size = image.shape[1], image.shape[0]
        plan = letterbox(size, self.side)
        bgr = cv2.cvtColor(boxed(image, plan), cv2.COLOR_RGB2BGR)
        # A view: rows of BGR bytes are what channels last is.
        pixels = torch.from_numpy(bgr).to(self.device)[None].permute(0, 3, 1, 2).float()
        rows = self.network(pixels)
        own = grid(plan.outer, self.device)
        return Cells(torch.cat(rows), own.anchors, own.levels, size, plan.scale)

    def predict(self, rows: Tensor, cells: Cells, which: Tensor | None = None) -> Predicted:
        """See ``Host``; no row twice in ``which``. All rows are always run, because a product of
        few rows may differ in its last bits from the same rows among many."""
        own = grid(letterbox(cells.size, self.side).outer, rows.device)
        whole = rows if which is None else cells.rows.index_put((which,), rows)
        parts = [
            self.network.head.decide(level, part)
            for level, part in enumerate(torch.split(whole.contiguous(), list(own.counts)))
        ]
        classes, objectness, places = (torch.cat(part) for part in zip(*parts, strict=True))
        anchors = own.anchors
        if which is not None:
            classes, objectness, places = classes[which], objectness[which], places[which]
            anchors = anchors[which]
        stride = anchors[:, 2:] - anchors[:, :2]
        centre = places[:, :2] * stride + anchors[:, :2]
        half = places[:, 2:].clamp(max=LARGEST).exp() * stride / 2
        return Predicted(objectness, classes, torch.cat((centre - half, centre + half), 1))

    def found(
        self, predicted: Predicted, cells: Cells, threshold: float = 0.01
    ) -> tuple[Found, Tensor]:
        """See ``Host``."""
        return of_rows(predicted, cells, threshold, IOU, MOST)
