"""The operators of the rasteriser as the laws of kernels try them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from retain.kernels.catalog import Kernel
from retain.kernels.rasterize import operators, reference


def scenes(rng: torch.Generator) -> Iterator[tuple[Any, ...]]:
    """Gaussians of all sizes four metres ahead of two cameras, a few behind them."""
    for count, width, height in ((60, 51, 37), (1, 16, 16), (25, 33, 8)):

        def normal(*shape: int) -> Tensor:
            return torch.randn(1, *shape, generator=rng, dtype=torch.float64)

        means = normal(count, 3) + torch.tensor([0.0, 0.0, 4.0])
        means[:, : count // 15, 2] = -1
        views = torch.eye(4, dtype=torch.float64).repeat(1, 2, 1, 1)
        views[0, 1, :3, 3] = torch.tensor([0.3, -0.1, 0.2])
        K = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.9 * width, 0.5 * height], [0, 0, 1]])
        opacities = 0.02 + 0.97 * torch.rand(1, count, generator=rng, dtype=torch.float64)
        scales = (0.7 * normal(count, 3) - 1.8).exp()
        for antialiased in (False, True):
            yield (
                means, normal(count, 4), scales, None, opacities, views,
                K.double().repeat(1, 2, 1, 1), width, height, 0.01, 1e10, 0.0, 0.3, antialiased,
            )  # fmt: skip


def pictures(rng: torch.Generator) -> Iterator[tuple[Any, ...]]:
    for i, scene in enumerate(scenes(rng)):
        radii, means2d, depths, conics, _ = (each[0] for each in reference.project(*scene))
        count, (width, height) = means2d.shape[1], scene[7:9]
        colors = torch.rand(1, count, (3, 1)[i % 2], generator=rng, dtype=torch.float64)
        beyond = torch.rand(2, colors.shape[2], generator=rng, dtype=torch.float64)
        yield (
            means2d, depths, conics, scene[4].expand(2, count).clone(), radii, colors,
            beyond if i % 3 else None, width, height, bool(i % 2),
        )  # fmt: skip


PROJECT = Kernel(
    operators.project_gaussians, reference.project, scenes, {torch.float32: 2e-5},
    gradients=(0, 1, 2, 5),
)  # fmt: skip
PIXELS = Kernel(
    operators.rasterize_pixels, reference.pixels, pictures, {torch.float32: 2e-5},
    gradients=(0, 1, 2, 3, 5, 6),
)  # fmt: skip
