"""Faster R-CNN that reads a memory in three places, with torchvision's own modules and names.

A picture's maps are enhanced between backbone and RPN (``pixel``), its proposals after each linear
of the box head, before the ReLU (``fc6`` and ``fc7``; of ``fasterrcnn_resnet50_fpn_v2`` there is
only ``fc5``). Who reads what is up to the caller: every such place calls a ``Read``. The same
forward code therefore runs with a stream's banks, with the references of a training clip, and
plainly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from retain.datasets.detect.base import Found
from retain.kernels.bank_read import geo
from retain.kernels.bank_read.reference import Form, Geo
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

PIXEL = "pixel"
"""The place between backbone and RPN."""


class Read(Protocol):
    """What becomes of the rows of a frame at one of the places."""

    def __call__(self, place: str, query: Tensor, level: int = 0) -> Tensor:
        """``query`` [N, C] -> [N, C]; ``level`` is the map's, for pixels."""
        ...


def plain(place: str, query: Tensor, level: int = 0) -> Tensor:
    """A Read without memory."""
    return query


class GeoLayer(nn.Module):
    """MAMBA's enhancement with trainable weights; ``kernels/bank_read/reference`` defines it.

    ``form``: ``paper``, or ``released_2022`` without an output map. The last linear starts at zero
    (ours, neither code does), so that an untrained layer changes nothing.
    """

    def __init__(self, channels: int, heads: int = 16, form: Form = "paper") -> None:
        super().__init__()
        if channels % heads:
            raise UsageError(f"{heads} heads do not divide {channels} channels.")
        self.heads, self.form = heads, form
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels) if form == "paper" else None
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @property
    def last(self) -> nn.Linear:
        return self.value if self.out is None else self.out

    @property
    def weights(self) -> Geo:
        q, k, v, out = self.query, self.key, self.value, self.out
        last = () if out is None else (out.weight, out.bias)
        return Geo(q.weight, q.bias, k.weight, k.bias, v.weight, v.bias, *last)

    def forward(self, query: Tensor, rows: Tensor) -> Tensor:
        """``query`` [N, C] plus what it reads of the raw ``rows`` [M, C]; gradients reach all."""
        if not len(query) or not len(rows):
            return query
        keys, values = geo.project(rows, self.weights, self.heads)
        return geo.enhance(query[None], keys, values, self.weights)[0]


@dataclass(frozen=True, slots=True)
class Detected:
    """What one pass found, in pixels of the network's input, and what it went by."""

    boxes: Tensor
    """[n, 4] xyxy."""
    scores: Tensor
    """[n], falling."""
    labels: Tensor
    """[n] from 0, without the background."""
    proposals: Tensor
    """[N, 4] in the RPN's order, which is that of importance."""
    likely: Tensor
    """[N] the probability of each proposal's best class."""
    maps: dict[str, Tensor]
    """[1, C, H, W] each, enhanced where the network reads memory."""
    padded: tuple[int, int]
    """Height and width of the input."""
    inner: tuple[int, int]
    """Height and width of the resized picture in its upper left corner."""
    original: tuple[int, int]
    """Height and width of the picture as it was given."""

    def in_picture(self, boxes: Tensor) -> Tensor:
        """``boxes`` of the input, in pixels of the picture."""
        out: Tensor = resize_boxes(boxes, self.inner, self.original)
        return out

    @property
    def found(self) -> Found:
        parts = self.in_picture(self.boxes), self.scores, self.labels
        return Found(*(part.cpu().numpy() for part in parts))


class MambaRCNN(nn.Module):
    """``base`` with a GeoLayer at each place. Takes the modules of ``base``, does not copy them.

    names   of the classes, without the background
    levels  maps that are enhanced, by name; the coarse ones, where cells are few. They share one
            layer, and a bank in which each row knows its level

    Parameters keep the names they have in ``base``, and the layers' begin with ``geo.``. It stays
    in evaluation mode, in training too: statistics of normalisation are never learned. Raises
    UsageError when names, levels or heads do not fit ``base``.
    """

    def __init__(
        self,
        base: FasterRCNN,
        names: Sequence[str],
        levels: Sequence[str] = ("0", "1"),
        form: Form = "paper",
        heads: int = 16,
    ) -> None:
        super().__init__()
        self.transform, self.backbone = base.transform, base.backbone
        self.rpn, self.roi_heads = base.rpn, base.roi_heads
        check_names(base, names)
        self.names, self.levels = tuple(names), tuple(levels)
        widths = {PIXEL: int(base.backbone.out_channels), **_linears(base.roi_heads.box_head)}
        self.geo = nn.ModuleDict({k: GeoLayer(c, heads, form) for k, c in widths.items()})
        self.eval()

    def train(self, mode: bool = True) -> MambaRCNN:
        """Changes nothing; see above."""
        return super().train(False)

    @property
    def instance_places(self) -> tuple[str, ...]:
        return tuple(name for name in self.geo if name != PIXEL)

    @property
    def device(self) -> torch.device:
        return next(self.geo.parameters()).device

    def layer(self, place: str) -> GeoLayer:
        layer = self.geo[place]
        assert isinstance(layer, GeoLayer)
        return layer

    def maps(self, pictures: Tensor, read: Read) -> dict[str, Tensor]:
        """The backbone's maps of ``pictures`` [B, 3, H, W], the listed ones enhanced. The map that
        torchvision subsamples from the coarsest one is made anew from it."""
        maps: dict[str, Tensor] = self.backbone(pictures)
        if missing := [name for name in self.levels if name not in maps]:
            raise UsageError(f"The backbone has the maps {', '.join(maps)}, no {missing[0]!r}.")
        for level, name in enumerate(self.levels):
            maps[name] = _through(maps[name], read, level)
        extra = getattr(getattr(self.backbone, "fpn", None), "extra_blocks", None)
        if not isinstance(extra, LastLevelMaxPool):
            return maps
        names = [name for name in maps if name != "pool"]
        values, names = extra([maps[name] for name in names], [], names)
        return OrderedDict(zip(names, values, strict=True))

    def rows(
        self,
        maps: dict[str, Tensor],
        proposals: list[Tensor],
        sizes: list[tuple[int, int]],
        read: Read,
    ) -> Tensor:
        """[sum of N, C] what the box predictor decides from."""
        x: Tensor = self.roi_heads.box_roi_pool(maps, proposals, sizes)
        head = self.roi_heads.box_head
        if isinstance(head, TwoMLPHead):
            x = F.relu(read("fc6", head.fc6(x.flatten(1))))
            return F.relu(read("fc7", head.fc7(x)))
        for name, part in head.named_children():
            # The head's own ReLU works in place, on rows that a Read may have kept.
            x = F.relu(x) if isinstance(part, nn.ReLU) else part(x)
            if isinstance(part, nn.Linear):
                x = read(f"fc{name}", x)
        return x

    @torch.no_grad()
    def detect(self, image: Image, read: Read = plain) -> Detected:
        """One picture, uint8 RGB [H, W, 3]. Without memory, the boxes of ``base`` bit for bit."""
        batch, _ = self.transform([as_tensor(image, self.device)])
        maps = self.maps(batch.tensors, read)
        proposals, _ = self.rpn(batch, maps)
        rows = self.rows(maps, proposals, batch.image_sizes, read)
        logits, deltas = self.roi_heads.box_predictor(rows)
        boxes, scores, labels = self.roi_heads.postprocess_detections(
            logits, deltas, proposals, batch.image_sizes
        )
        likely = logits.softmax(-1)[:, 1:].amax(1)
        padded = int(batch.tensors.shape[-2]), int(batch.tensors.shape[-1])
        inner, original = batch.image_sizes[0], (image.shape[0], image.shape[1])
        return Detected(
            boxes[0], scores[0], labels[0] - 1, proposals[0], likely, maps, padded, inner, original
        )


def as_tensor(image: Image, device: torch.device) -> Tensor:
    """float32 [3, H, W] in [0, 1]."""
    picture = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return picture.permute(2, 0, 1).float().div(255)


def check_names(base: FasterRCNN, names: Sequence[str]) -> None:
    """Raises UsageError unless there is a name for each class of ``base``."""
    known = base.roi_heads.box_predictor.cls_score.out_features - 1
    if len(names) != known:
        raise UsageError(
            f"The classifier knows {known} classes and the background, the list has {len(names)}.",
            hint="Give the names that it was trained with, in their order, without a background.",
        )


def _linears(head: nn.Module) -> dict[str, int]:
    """Places in a box head, and their channels."""
    if isinstance(head, TwoMLPHead):
        return {"fc6": head.fc6.out_features, "fc7": head.fc7.out_features}
    children: list[tuple[str, Any]] = list(head.named_children())
    return {f"fc{k}": m.out_features for k, m in children if isinstance(m, nn.Linear)}


def _through(maps: Tensor, read: Read, level: int) -> Tensor:
    """A map [B, C, H, W] whose cells were read as rows, picture by picture, row by row."""
    rows = maps.permute(0, 2, 3, 1)
    out = read(PIXEL, rows.flatten(0, 2), level)
    # In the order of memory of the backbone's maps: a convolution may round otherwise.
    return out.view(rows.shape).permute(0, 3, 1, 2).contiguous()
