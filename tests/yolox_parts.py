"""YOLOX as its authors' checkpoints have it, batch norms and all, in float64: an oracle."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from retain.models.mamba.hosts.yolox_net import Plan, YoloxNet

NANO = Plan(16, 1, True, 80)
TINY = Plan(24, 1, False, 80)
BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def official(plan: Plan, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of a checkpoint's ``model``."""
    g = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        layers = YoloxNet(plan).in_order()
    state: dict[str, Tensor] = {}
    for name, layer in layers:
        outputs, fan = layer.weight.shape[0], layer.weight[0].numel()
        noise = torch.randn(layer.weight.shape, generator=g) * (1.6 / fan) ** 0.5
        if isinstance(layer, torch.nn.Linear):
            state[f"{name}.weight"] = noise[:, :, None, None] / 2
            state[f"{name}.bias"] = torch.randn(outputs, generator=g)
            continue
        state[f"{name}.conv.weight"] = noise / 128 if "stem.conv" in name else noise
        state[f"{name}.bn.weight"] = 0.5 + torch.rand(outputs, generator=g)
        state[f"{name}.bn.bias"] = 0.3 * torch.randn(outputs, generator=g)
        state[f"{name}.bn.running_mean"] = 0.3 * torch.randn(outputs, generator=g)
        state[f"{name}.bn.running_var"] = 0.5 + torch.rand(outputs, generator=g)
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)
    return state


class Reference:
    """The forward pass by the names in a checkpoint, one function per block of the paper."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = {k: v.double() for k, v in state.items()}

    def __call__(self, x: Tensor) -> Tensor:
        """[1, 3, H, W] to [N, 5 + K]: place, objectness and class logits in cells."""
        c3, c4, c5 = self._backbone(x.double())
        b = "backbone"
        top = self._conv(f"{b}.lateral_conv0", c5)
        up = torch.cat([self._twice(top), c4], 1)
        middle = self._conv(f"{b}.reduce_conv1", self._csp(f"{b}.C3_p4", up))
        p3 = self._csp(f"{b}.C3_p3", torch.cat([self._twice(middle), c3], 1))
        down = torch.cat([self._conv(f"{b}.bu_conv2", p3, 2), middle], 1)
        p4 = self._csp(f"{b}.C3_n3", down)
        p5 = self._csp(f"{b}.C3_n4", torch.cat([self._conv(f"{b}.bu_conv1", p4, 2), top], 1))
        return torch.cat([self._head(k, p) for k, p in enumerate((p3, p4, p5))])

    def _backbone(self, x: Tensor) -> list[Tensor]:
        b = "backbone.backbone"
        corners = [x[..., i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]
        x = self._conv(f"{b}.stem.conv", torch.cat(corners, 1))
        out = []
        for k in (2, 3, 4):
            x = self._csp(f"{b}.dark{k}.1", self._conv(f"{b}.dark{k}.0", x, 2), shortcut=True)
            out.append(x)
        x = self._conv(f"{b}.dark5.1.conv1", self._conv(f"{b}.dark5.0", x, 2))
        pools = [F.max_pool2d(x, n, 1, n // 2) for n in (5, 9, 13)]
        x = self._conv(f"{b}.dark5.1.conv2", torch.cat([x, *pools], 1))
        return [*out[1:], self._csp(f"{b}.dark5.2", x)]

    def _conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        if f"{name}.dconv.conv.weight" in self.state:
            return self._conv(f"{name}.pconv", self._conv(f"{name}.dconv", x, stride))
        weight = self.state[f"{name}.conv.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=groups)
        scale, shift, mean, var = (self.state[f"{name}.bn.{end}"] for end in BN[:4])
        return F.silu(F.batch_norm(x, mean, var, scale, shift, eps=1e-3))

    def _csp(self, name: str, x: Tensor, shortcut: bool = False) -> Tensor:
        one, two = self._conv(f"{name}.conv1", x), self._conv(f"{name}.conv2", x)
        k = 0
        while f"{name}.m.{k}.conv1.conv.weight" in self.state:
            new = self._conv(f"{name}.m.{k}.conv2", self._conv(f"{name}.m.{k}.conv1", one))
            one = one + new if shortcut else new
            k += 1
        return self._conv(f"{name}.conv3", torch.cat([one, two], 1))

    def _twice(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def _head(self, level: int, x: Tensor) -> Tensor:
        x = self._conv(f"head.stems.{level}", x)
        cls = reg = x
        for k in (0, 1):
            cls = self._conv(f"head.cls_convs.{level}.{k}", cls)
            reg = self._conv(f"head.reg_convs.{level}.{k}", reg)
        parts = []
        for name, branch in (("reg", reg), ("obj", reg), ("cls", cls)):
            prefix = f"head.{name}_preds.{level}"
            parts.append(
                F.conv2d(branch, self.state[f"{prefix}.weight"], self.state[f"{prefix}.bias"])
            )
        return torch.cat(parts, 1)[0].flatten(1).T
