"""Faster R-CNN as a ``Host``: one row per proposal, behind the last linear of its box head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import boxes as ops

from retain.datasets.detect.base import Found, Size
from retain.memory.bank.rows import digest
from retain.models.mamba.host import Cells, Predicted
from retain.models.mamba.hosts.suppress import suppressed
from retain.models.mamba.rcnn.build import open_base
from retain.models.mamba.rcnn.network import as_tensor, check_names
from retain.pipeline.frame import Image

_SURE = 1e-6
"""Probabilities are taken as at most 1 less this: a logit must be finite."""


@dataclass(frozen=True, slots=True)
class PerClass(Predicted):
    """Faster R-CNN draws a box for each class; ``boxes`` are those of the best one."""

    each: Tensor
    """[N, K, 4]."""


class RCNNHost:
    """A ``Host`` of ``base``, which it freezes. The rows are what the box predictor takes, after
    the ReLU; proposals come in the RPN's order. Pictures are looked at one by one."""

    def __init__(self, base: FasterRCNN, names: Sequence[str], device: str = "cpu") -> None:
        check_names(base, names)
        self._base = base.eval().requires_grad_(False).to(device)
        self._device = torch.device(device)
        self.names = tuple(names)
        self.channels = int(base.roi_heads.box_predictor.cls_score.in_features)
        self.side = int(base.transform.max_size)
        self.digest = digest(*base.state_dict().values())

    @classmethod
    def open(
        cls,
        name: str,
        path: str | Path,
        names: Sequence[str] | None = None,
        device: str = "cpu",
    ) -> RCNNHost:
        """Of the weights in ``path``; see ``open_base``."""
        return cls(*open_base(name, path, names), device)

    @torch.no_grad()
    def describe(self, images: Sequence[Image]) -> list[Cells]:
        return [self._describe(image) for image in images]

    def _describe(self, image: Image) -> Cells:
        base, heads = self._base, self._base.roi_heads
        batch, _ = base.transform([as_tensor(image, self._device)])
        maps = base.backbone(batch.tensors)
        proposals, _ = base.rpn(batch, maps)
        rows = heads.box_head(heads.box_roi_pool(maps, proposals, batch.image_sizes))
        levels = heads.box_roi_pool.map_levels
        level = torch.zeros(len(rows), dtype=torch.int64, device=self._device)
        if levels is not None:
            level = levels(proposals)
        size = image.shape[1], image.shape[0]
        return Cells(rows, proposals[0], level, size, self._inner(size)[1] / size[0])

    def _inner(self, size: Size) -> tuple[int, int]:
        """Height and width to which torchvision resizes a picture."""
        t = self._base.transform
        scale = min(t.min_size[-1] / min(size), t.max_size / max(size))
        return math.floor(size[1] * scale), math.floor(size[0] * scale)

    def predict(self, rows: Tensor, cells: Cells, which: Tensor | None = None) -> PerClass:
        """``Predicted.scores`` are the classifier's softmax, up to rounding."""
        heads = self._base.roi_heads
        # A product of few rows may round otherwise than one of many: all are decided, always.
        whole = rows if which is None else cells.rows.index_put((which,), rows)
        logits, deltas = heads.box_predictor(whole)
        each = heads.box_coder.decode(deltas, [cells.anchors]).reshape(len(whole), -1, 4)
        each = ops.clip_boxes_to_image(each, self._inner(cells.size))[:, 1:]
        objectness, classes = decisions(logits)
        boxes = each[torch.arange(len(each), device=each.device), logits[:, 1:].argmax(1)]
        if which is None:
            return PerClass(objectness, classes, boxes, each)
        return PerClass(objectness[which], classes[which], boxes[which], each[which])

    def found(
        self, predicted: Predicted, cells: Cells, threshold: float = 0.01
    ) -> tuple[Found, Tensor]:
        """As torchvision does it: classes apart, the limits of overlap and number are its own."""
        heads, scores = self._base.roi_heads, predicted.scores
        each = predicted.boxes[:, None].expand(-1, scores.shape[1], -1)
        if isinstance(predicted, PerClass):
            each = predicted.each
        row, label = torch.where(scores > threshold)
        boxes, scores = each[row, label], scores[row, label]
        keep = ops.remove_small_boxes(boxes, min_size=1e-2)
        keep = keep[suppressed(boxes[keep], scores[keep], label[keep], heads.nms_thresh)]
        keep = keep[: heads.detections_per_img]
        size = cells.size[1], cells.size[0]
        boxes = resize_boxes(boxes[keep], self._inner(cells.size), size)
        parts = (x.detach().cpu().numpy() for x in (boxes, scores[keep], label[keep]))
        return Found(*parts), row[keep]


def decisions(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Objectness [N] and classes [N, K], logits each, from a softmax [N, 1 + K] with background:
    the best class against the background, and what makes the product of both the softmax."""
    objectness = logits[:, 1:].amax(1) - logits[:, 0]
    log = F.log_softmax(logits, -1)[:, 1:] - F.logsigmoid(objectness)[:, None]
    log = log.clamp(max=math.log1p(-_SURE))
    return objectness, log - torch.log(-torch.expm1(log))
