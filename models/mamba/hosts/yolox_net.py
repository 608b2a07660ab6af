"""YOLOX's network for inference: batch norms are folded into the convolutions.

CSPDarknet with a space-to-depth stem, a feature pyramid with a way down and a way up, and a head
that decides on class and place apart (arXiv 2107.08430, section 2). Modules are named as in the
authors' checkpoints, so ``backbone.backbone.dark2.0.conv.weight`` there is
``backbone.backbone.dark2.0.weight`` here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (8, 16, 32)
"""Input pixels per cell of the three levels."""
KINDS = {
    (16, 1, True): "nano",
    (24, 1, False): "tiny",
    (32, 1, False): "s",
    (48, 2, False): "m",
    (64, 3, False): "l",
    (80, 4, False): "x",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What tells one YOLOX from another."""

    base: int
    """Channels after the stem."""
    depth: int
    """Bottlenecks of the shortest stage."""
    depthwise: bool
    """Whether 3x3 convolutions are split into one per channel and one across channels."""
    classes: int

    @property
    def kind(self) -> str:
        """nano, tiny, s, m, l, x, or its numbers where it is none of these."""
        known = KINDS.get((self.base, self.depth, self.depthwise))
        return known or f"{self.base} channels wide, {self.depth} deep"

    @property
    def hidden(self) -> int:
        """Channels of each branch of the head."""
        return 4 * self.base


class Conv(nn.Conv2d):
    """Convolution and SiLU."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, size, stride, size // 2, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        return F.silu(super().forward(input), inplace=True)


class Separable(nn.Module):
    """A 3x3 convolution in two: within channels, then across."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = Conv(inputs, inputs, 3, stride, groups=inputs)
        self.pconv = Conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pconv(self.dconv(x))
        return out


def _conv3(plan: Plan, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    if plan.depthwise:
        return Separable(inputs, outputs, stride)
    return Conv(inputs, outputs, 3, stride)


class Focus(nn.Module):
    """Each 2x2 pixels become one of four times the channels."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(12, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., ::2], x[..., 1::2]
        corners = left[..., ::2, :], left[..., 1::2, :], right[..., ::2, :], right[..., 1::2, :]
        out: Tensor = self.conv(torch.cat(corners, 1))
        return out


class Bottleneck(nn.Module):
    def __init__(self, plan: Plan, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels)
        self.conv2 = _conv3(plan, channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.shortcut else out


class Csp(nn.Module):
    """Half of the channels go through the bottlenecks, half pass by."""

    def __init__(
        self, plan: Plan, inputs: int, outputs: int, depth: int, shortcut: bool = False
    ) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = Conv(inputs, half)
        self.conv2 = Conv(inputs, half)
        self.m = nn.Sequential(*(Bottleneck(plan, half, shortcut) for _ in range(depth)))
        self.conv3 = Conv(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        through, past = self.conv1(x), self.conv2(x)
        out: Tensor = self.conv3(torch.cat((self.m(through), past), 1))
        return out


class Pyramid(nn.Module):
    """Maxima over neighbourhoods of 5, 9 and 13 cells beside the cell itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels // 2)
        self.conv2 = Conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        pools = [x]
        for _ in range(3):  # a maximum over 5 of maxima over 5 is one over 9
            pools.append(F.max_pool2d(pools[-1], 5, 1, 2))
        out: Tensor = self.conv2(torch.cat(pools, 1))
        return out


class Darknet(nn.Module):
    """[1, 3, H, W] to maps of strides 8, 16 and 32."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        c, n = plan.base, plan.depth

        def stage(width: int, depth: int) -> nn.Sequential:
            return nn.Sequential(
                _conv3(plan, width * c // 2, width * c, 2),
                Csp(plan, width * c, width * c, depth, shortcut=True),
            )

        self.stem = Focus(c)
        self.dark2 = stage(2, n)
        self.dark3 = stage(4, 3 * n)
        self.dark4 = stage(8, 3 * n)
        self.dark5 = nn.Sequential(
            _conv3(plan, 8 * c, 16 * c, 2), Pyramid(16 * c), Csp(plan, 16 * c, 16 * c, n)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.dark3(self.dark2(self.stem(x)))
        middle = self.dark4(fine)
        return fine, middle, self.dark5(middle)


class Neck(nn.Module):
    """The backbone and its feature pyramid; maps of 4, 8 and 16 ``base`` channels."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        c, n = plan.base, plan.depth
        self.backbone = Darknet(plan)
        self.lateral_conv0 = Conv(16 * c, 8 * c)
        self.C3_p4 = Csp(plan, 16 * c, 8 * c, n)
        self.reduce_conv1 = Conv(8 * c, 4 * c)
        self.C3_p3 = Csp(plan, 8 * c, 4 * c, n)
        self.bu_conv2 = _conv3(plan, 4 * c, 4 * c, 2)
        self.C3_n3 = Csp(plan, 8 * c, 8 * c, n)
        self.bu_conv1 = _conv3(plan, 8 * c, 8 * c, 2)
        self.C3_n4 = Csp(plan, 16 * c, 16 * c, n)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = self.backbone(x)
        down5 = self.lateral_conv0(coarse)
        down4 = self.reduce_conv1(self.C3_p4(torch.cat((_doubled(down5), middle), 1)))
        out3 = self.C3_p3(torch.cat((_doubled(down4), fine), 1))
        out4 = self.C3_n3(torch.cat((self.bu_conv2(out3), down4), 1))
        out5 = self.C3_n4(torch.cat((self.bu_conv1(out4), down5), 1))
        return out3, out4, out5


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Head(nn.Module):
    """Per level, the features that class and place are decided from, and the last linear maps."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        h = plan.hidden

        def branch() -> nn.Sequential:
            return nn.Sequential(_conv3(plan, h, h), _conv3(plan, h, h))

        self.stems = nn.ModuleList(Conv(n * plan.base, h) for n in (4, 8, 16))
        self.cls_convs = nn.ModuleList(branch() for _ in STRIDES)
        self.cls_preds = nn.ModuleList(nn.Linear(h, plan.classes) for _ in STRIDES)
        self.reg_convs = nn.ModuleList(branch() for _ in STRIDES)
        self.reg_preds = nn.ModuleList(nn.Linear(h, 4) for _ in STRIDES)
        self.obj_preds = nn.ModuleList(nn.Linear(h, 1) for _ in STRIDES)

    def forward(self, maps: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        stems = [stem(x) for stem, x in zip(self.stems, maps, strict=True)]
        return [
            (cls(x), reg(x))
            for cls, reg, x in zip(self.cls_convs, self.reg_convs, stems, strict=True)
        ]

    def decide(self, level: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [n, 2h] of one level to class logits [n, K], objectness logits [n] and places [n, 4]
        in cells: x and y from the cell's corner, logarithms of width and height."""
        cls, reg = rows.chunk(2, 1)
        objectness: Tensor = self.obj_preds[level](reg)
        return self.cls_preds[level](cls), objectness[:, 0], self.reg_preds[level](reg)


class YoloxNet(nn.Module):
    """[1, 3, H, W] BGR of 0 to 255 to rows of features per level, float32 [H/s * W/s, 2h]: what the
    class is decided from, then what place and objectness are."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        self.backbone = Neck(plan)
        self.head = Head(plan)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[tuple[Tensor, Tensor]] = self.head(self.backbone(x))
        return [torch.cat(pair, 1)[0].flatten(1).T for pair in maps]

    def in_order(self) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
        """Every layer with weights by name, in the order they are run in."""
        layers = [(k, m) for k, m in self.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        steps = ("stems", "cls_convs", "cls_preds", "reg_convs", "reg_preds", "obj_preds")
        prefixes = [f"head.{step}.{level}" for level in range(len(STRIDES)) for step in steps]
        order = [layer for layer in layers if layer[0].startswith("backbone.")]
        for prefix in prefixes:
            order += [(k, m) for k, m in layers if k == prefix or k.startswith(f"{prefix}.")]
        return order
