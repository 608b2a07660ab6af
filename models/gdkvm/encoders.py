"""Pictures, and pictures with masks, into maps: small stages (mini), ResNets (base)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.models.gdkvm.blocks import ResBlock, norm


class Maps(NamedTuple):
    """One picture's maps, coarse to fine; ``coarse`` has the memory's cells."""

    coarse: Tensor
    middle: Tensor
    """Twice the side of ``coarse``."""
    fine: Tensor
    """Four times the side of ``coarse``."""


class MiniEncoder(nn.Module):
    """Strides 2, 4 and 8, with a look from stride 16 that sees the whole picture."""

    channels = (64, 32, 16)
    """Of ``Maps``, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), norm(16), nn.ReLU())
        self.fine = ResBlock(16, 16)
        self.middle = nn.Sequential(ResBlock(16, 32, 2), ResBlock(32, 32))
        self.coarse = nn.Sequential(ResBlock(32, 64, 2), ResBlock(64, 64))
        self.context = nn.Sequential(ResBlock(64, 64, 2), ResBlock(64, 64))

    def forward(self, pictures: Tensor) -> Maps:
        """[B, 1, H, W] in [-1, 1]."""
        fine = self.fine(self.stem(pictures))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        context = self.context(coarse)
        context = F.interpolate(context, coarse.shape[-2:], mode="bilinear", align_corners=False)
        return Maps(coarse + context, middle, fine)


class MiniMaskEncoder(nn.Module):
    """Picture, this mask, the other masks -> one map per object at the memory's cells."""

    channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4, 2, bias=False), norm(8), nn.ReLU(), ResBlock(8, 32, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class ResNetEncoder(nn.Module):
    """ResNet-50 to its third stage on grey pictures: strides 4, 8 and 16."""

    channels = (1024, 512, 256)

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50

        net = resnet50()
        net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.fine, self.middle, self.coarse = net.layer1, net.layer2, net.layer3

    def forward(self, pictures: Tensor) -> Maps:
        fine = self.fine(self.stem(pictures))
        middle = self.middle(fine)
        return Maps(self.coarse(middle), middle, fine)


class ResNetMaskEncoder(nn.Module):
    """ResNet-18 to its third stage on picture, this mask, the other masks: stride 16."""

    channels = 256

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet18

        net = resnet18()
        net.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.layers = nn.Sequential(
            net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def with_masks(picture: Tensor, masks: Tensor) -> Tensor:
    """Picture [B, 1, H, W] and masks [B, N, H, W] -> [B N, 3, H, W]: picture, own, all others."""
    number = masks.shape[1]
    others = (masks.sum(dim=1, keepdim=True) - masks).clamp(0, 1)
    pictures = picture.expand(-1, number, -1, -1)
    return torch.stack([pictures, masks, others], dim=2).flatten(0, 1)
