"""The target model D: a few thousand parameters per object, a pure function of them and the maps.

    hidden = relu(sum over maps of upsampled 1x1 convolutions + bias)      at stride 4
    logit  = 3x3 convolution of hidden

Parameters are one row per object, so that continual learning can speak of each coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from retain.models.object.features import CHANNELS, STRIDES, Maps

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN = 16
_SHAPES: tuple[tuple[int, ...], ...] = (
    *((HIDDEN, CHANNELS[name]) for name in STRIDES),
    (HIDDEN,),
    (HIDDEN, 3, 3),
    (1,),
)
_SIZES = [math.prod(shape) for shape in _SHAPES]
SIZE = sum(_SIZES)
"""Parameters of one object."""


def fresh(objects: int, seed: int = 0) -> Tensor:
    """float32 [objects, SIZE]: parameters to start from, the same for the same seed."""
    import torch

    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(objects, SIZE, generator=rng)
    maps, hidden = sum(CHANNELS.values()), 9 * HIDDEN
    first = len(STRIDES)
    scales = [math.sqrt(2 / maps)] * first + [0.0, 1 / math.sqrt(hidden), 0.0]
    return drawn * torch.cat(
        [torch.full((n,), scale) for n, scale in zip(_SIZES, scales, strict=True)]
    )


def logits(theta: Tensor, maps: Maps) -> Tensor:
    """float32 [objects, h, w] at stride 4, of ``theta`` [objects, SIZE] and the maps of a frame."""
    from torch.nn import functional as F

    parts = _parts(theta)
    objects, size = len(theta), maps["x4"].shape[-2:]
    hidden = parts[len(STRIDES)].reshape(1, -1, 1, 1)
    for name, weight in zip(STRIDES, parts, strict=False):
        seen = F.conv2d(maps[name], weight.reshape(objects * HIDDEN, -1, 1, 1))
        if seen.shape[-2:] != size:
            seen = F.interpolate(seen, size=size, mode="bilinear", align_corners=False)
        hidden = hidden + seen
    kernel, bias = parts[-2:]
    return F.conv2d(F.relu(hidden), kernel, bias.reshape(-1), padding=1, groups=objects)[0]


def _parts(theta: Tensor) -> Sequence[Tensor]:
    """[objects, *shape] of each of ``_SHAPES``."""
    import torch

    return [
        part.reshape(len(theta), *shape)
        for part, shape in zip(torch.split(theta, _SIZES, dim=1), _SHAPES, strict=True)
    ]
