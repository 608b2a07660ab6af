"""Gradient steps on a map against pictures of it (SplaTAM arXiv 2312.02126, MonoGS 2312.06741).

Loss per step, one picture: 0.8 L1 + 0.2 (1 - SSIM) on colour, plus 0.5 times the L1 of depth in
metres where it is known and the map covers it. Colours and opacities move from the first step;
scales, centres and turns follow, once colours have taken their place, and with them, if they may,
the poses that pictures were taken from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from retain.kernels.geometry import rigid
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.op import rasterization
from retain.models.scene.poses import COLOR, DEPTH, KeyframePoses, Target

OPACITY = 1e-3, 1 - 1e-3
"""Between which an opacity stays, so that its logit stays finite."""
THICK, NEAR = 1e-4, 0.05
"""Metres: the least scale; what is nearer is not drawn."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates of Adam, for activated colours, logits of opacity, logarithms of scales,
    centres in units of the pixel size at their depth, and quaternions."""

    colors: float = 5e-3
    opacities: float = 5e-2
    scales: float = 2e-2
    means: float = 5e-2
    quats: float = 3e-3
    geometry_after: int = 10
    """Steps in which colour and opacity move alone."""


class Refiner:
    """Adam on ``gaussians`` against ``targets``, ``unit`` counting as a metre. What it makes
    depends on nothing but its arguments and the steps taken."""

    def __init__(
        self,
        gaussians: Gaussians,
        targets: Sequence[Target],
        rates: Rates | None = None,
        *,
        unit: float = 1.0,
        poses: KeyframePoses | None = None,
    ) -> None:
        self._targets, self._unit, self._poses = targets, unit, poses
        self._values = _Parameters(gaussians, rates or Rates(), THICK * unit)
        self.steps = 0
        """Taken so far."""
        self.loss = float("nan")
        """Of the last step."""

    def take(self, order: Iterable[int], budget_s: float = float("inf")) -> None:
        """A step on ``targets[i]`` for each i of ``order``, or as many as fit into ``budget_s``."""
        began, first = perf_counter(), self.steps
        for index in map(int, order):
            taken, spent = self.steps - first, perf_counter() - began
            if taken and spent + spent / taken > budget_s:
                break
            self._values.thaw(self.steps)
            self.loss = self._step(index)
            self.steps += 1

    def _step(self, index: int) -> float:
        target, poses = self._targets[index], self._poses
        w2c, twist = (None, None) if poses is None else poses.w2c(index)
        loss = loss_of(self._values.tensors(), target, self._unit, w2c)
        loss.backward()  # type: ignore[no-untyped-call]
        self._values.optimiser.step()
        value = float(loss.detach())
        if poses is not None and twist is not None and self._values.thawed:
            poses.step(index, twist, value)
        return value

    def __len__(self) -> int:
        """How many targets there are."""
        return len(self._targets)

    def gaussians(self) -> Gaussians:
        """As they are now."""
        return self._values.gaussians()


def loss_of(
    parts: Sequence[Tensor], target: Target, unit: float = 1.0, w2c: Tensor | None = None
) -> Tensor:
    """The loss of ``(means, quats, scales, opacities, colors)``, activated, against one picture;
    ``unit``: what counts as a metre; ``w2c`` [4, 4] in place of the target's pose."""
    means, quats, scales, opacities, colors = parts
    camera = target.camera
    if w2c is None:
        w2c = torch.from_numpy(rigid.inverse(target.c2w))
    render, alpha, _ = rasterization(
        means, quats, scales, opacities, colors, w2c.float()[None],
        torch.from_numpy(camera.K).float()[None], camera.width, camera.height,
        near_plane=NEAR * unit, render_mode="RGB+ED",
    )  # fmt: skip
    color, depth = render[0, ..., :3], render[0, ..., 3]
    wanted = torch.tensor(target.image, dtype=torch.float32) / 255
    # Where the sensor saw nothing, the map may have nothing either: only what it shows is judged.
    shown = (alpha[0] > 0.5).float().detach()
    loss = COLOR * ((color - wanted).abs() * shown).mean()
    loss = loss + 0.2 * (1 - ssim(color * shown, wanted * shown))
    known = torch.tensor(target.depth)
    sure = (known > 0) & (alpha[0, ..., 0] > 0.5)
    return loss + DEPTH * ((depth - known).abs() / unit * sure).clamp(max=0.5).mean()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean structural similarity of two [H, W, C] pictures in 0..1: 11 x 11 Gaussian window, sigma
    1.5, where it fits wholly (Wang et al. 2004). Differentiable, on the CPU."""
    blurred = _Blur.apply(torch.cat([a, b, a * a, b * b, a * b], dim=2))
    ma, mb, aa, bb, ab = blurred[5:-5, 5:-5].chunk(5, dim=2)  # type: ignore[no-untyped-call]
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * ma * mb + c1) * (2 * (ab - ma * mb) + c2)
    score = score / ((ma * ma + mb * mb + c1) * (aa - ma * ma + bb - mb * mb + c2))
    mean: Tensor = score.mean()
    return mean


class _Blur(torch.autograd.Function):
    """SSIM's window over [H, W, C], zeros outside. It is its own adjoint. Torch's convolution of
    single channels takes thirty times as long."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor) -> Tensor:
        return _blurred(picture)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _blurred(grads[0])


_TAPS = np.exp(-((np.arange(11) - 5.0) ** 2) / 4.5).astype(np.float32)
_TAPS /= _TAPS.sum()


def _blurred(picture: Tensor) -> Tensor:
    array = picture.detach().contiguous().numpy()
    done = cv2.sepFilter2D(array, cv2.CV_32F, _TAPS, _TAPS, borderType=cv2.BORDER_CONSTANT)
    return torch.from_numpy(done.reshape(array.shape))


class Adam:
    """Adam (arXiv 1412.6980) on named tensors, with a rate for each. The same bits as torch's own,
    whose first use loads torch's compiler: 1.5 s, when the first keyframe is waiting."""

    FADES = 0.9, 0.999
    """Of the means of gradients and of their squares."""
    EPS = 1e-15

    def __init__(self, values: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
        self._values, self.rates = values, dict(rates)
        self._steps = 0
        self._means = {name: torch.zeros_like(value) for name, value in values.items()}
        self._squares = {name: torch.zeros_like(value) for name, value in values.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Move every tensor by its gradient, which is then gone."""
        self._steps += 1
        slow, slower = self.FADES
        short, shorter = 1 - slow**self._steps, 1 - slower**self._steps
        for name, value in self._values.items():
            if value.grad is None:
                continue
            mean = self._means[name].lerp_(value.grad, 1 - slow)
            square = self._squares[name].mul_(slower)
            square.addcmul_(value.grad, value.grad, value=1 - slower)
            size = (square.sqrt() / shorter**0.5).add_(self.EPS)
            value.addcdiv_(mean, size, value=-self.rates[name] / short)
            value.grad = None


class _Parameters:
    """The Gaussians as what Adam moves."""

    def __init__(self, gaussians: Gaussians, rates: Rates, thick: float) -> None:
        g, self._thick = gaussians, thick
        opacity = torch.tensor(g.opacities).clamp(*OPACITY)
        scales = torch.tensor(g.scales).clamp(min=thick)
        self._codes = g.codes
        # A disc's own size is the pixel's at its depth: one rate fits near and far.
        self._start = torch.tensor(g.means)
        self._unit = scales.amax(dim=1, keepdim=True)
        self._values = {
            "colors": torch.tensor(g.colors),
            "opacities": torch.logit(opacity),
            "scales": scales.log(),
            "means": torch.zeros_like(self._start),
            "quats": torch.tensor(g.quats),
        }
        for value in self._values.values():
            value.requires_grad_(True)
        self._rates, self.thawed = rates, False
        self.optimiser = Adam(self._values, {name: getattr(rates, name) for name in self._values})

    def thaw(self, step: int) -> None:
        """Let shapes and places move as well, once ``geometry_after`` steps are over."""
        geometry = self.thawed = step >= self._rates.geometry_after
        for name in ("scales", "means", "quats"):
            self.optimiser.rates[name] = getattr(self._rates, name) if geometry else 0.0

    def tensors(self) -> tuple[Tensor, ...]:
        v = self._values
        return (
            self._start + v["means"] * self._unit,
            v["quats"],
            v["scales"].exp(),
            torch.sigmoid(v["opacities"]),
            v["colors"],
        )

    def gaussians(self) -> Gaussians:
        with torch.no_grad():
            means, quats, scales, opacities, colors = self.tensors()
            arrays = (
                means,
                F.normalize(quats, dim=1),
                scales.clamp(min=self._thick),
                opacities.clamp(*OPACITY),
                colors.clamp(0, 1),
            )
        parts = [array.numpy() for array in arrays]
        if self._codes is not None:
            parts.append(self._codes.copy())
        return Gaussians(*parts)
