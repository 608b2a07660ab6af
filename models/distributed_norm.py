"""Batch normalisation over the batch that several processes share.

torch's SyncBatchNorm does the same on GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retain.models import distributed
from retain.models.distributed import Share


class SharedBatchNorm(nn.BatchNorm2d):
    """Mean and deviation are those of all processes' rows, which are equally many."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W]."""
        if not self.training:
            return super().forward(x)
        share = distributed.here()
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        # In float64 the square of a large mean does not drown the variance.
        first = mean.double()
        moments = torch.stack([first, var.double() + first.square()])
        first, second = _Total.apply(moments, share) / share.world
        spread = second - first.square()
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            number = x.numel() // x.shape[1] * share.world
            self.running_mean.lerp_(first.to(x.dtype), self.momentum)
            self.running_var.lerp_((spread * number / (number - 1)).to(x.dtype), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (spread + self.eps).rsqrt().to(x.dtype)
        shift = self.bias - first.to(x.dtype) * scale
        out: Tensor = x * scale[:, None, None] + shift[:, None, None]
        return out


def share_norms(network: nn.Module) -> None:
    """Replace every BatchNorm2d in ``network`` by one over all processes; names stay."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                twin = SharedBatchNorm(child.num_features, child.eps, child.momentum)
                twin.to(child.weight)
                twin.load_state_dict(child.state_dict())
                setattr(parent, name, twin.train(child.training))


class _Total(torch.autograd.Function):
    """The sum over all processes. Each feels the sum's effect on every one of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Share) -> Tensor:
        ctx.share = share
        return share.total(x).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.share.total(grads[0]), None
