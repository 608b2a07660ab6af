"""Small clouds of Gaussians and cameras that look at them, as arguments of ``rasterization``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retain.kernels.rasterize import reference

DIFFERENTIABLE = ("means", "quats", "scales", "covars", "opacities", "colors", "viewmats",
                  "backgrounds")  # fmt: skip


def cloud(
    n: int = 60,
    cameras: int = 2,
    channels: int = 3,
    batch: tuple[int, ...] = (),
    size: tuple[int, int] = (51, 37),
    seed: int = 1,
    **more: Any,
) -> dict[str, Any]:
    """Gaussians of all sizes four metres ahead; of sixty, some lie behind the cameras and some so
    far to the side that the Jacobian is taken at the border."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=rng)

    means = normal(n, 3) * torch.tensor([1.5, 1.0, 1.0]) + torch.tensor([0.0, 0.0, 4.0])
    scales = (0.7 * normal(n, 3) - 1.8).exp()
    means[..., : n // 15, 2] = -1
    means[..., n // 15 : n // 8, 0] = 4.5
    scales[..., n // 15 : n // 8, :] = 1.0
    views = torch.eye(4).repeat(*batch, cameras, 1, 1)
    for k in range(1, cameras):
        twist = torch.linalg.matrix_exp(
            torch.tensor([[0, -0.1, 0.2], [0.1, 0, 0], [-0.2, 0, 0]]) * k
        )
        views[..., k, :3, :3] = twist
        views[..., k, :3, 3] = torch.tensor([0.3, -0.1, 0.2])
    width, height = size
    K = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.9 * width, 0.48 * height], [0, 0, 1]])
    return {
        "means": means,
        "quats": normal(n, 4),
        "scales": scales,
        "opacities": torch.rand(*batch, n, generator=rng) * 0.97 + 0.02,
        "colors": torch.rand(*batch, n, channels, generator=rng),
        "viewmats": views,
        "Ks": K.repeat(*batch, cameras, 1, 1),
        "width": width,
        "height": height,
    } | more


def with_covars(scene: dict[str, Any]) -> dict[str, Any]:
    """The same, its shapes given as covariances."""
    covars = reference.covariance(scene["quats"].double(), scene["scales"].double()).float()
    return scene | {"covars": covars, "quats": None, "scales": None}


def cast(scene: dict[str, Any], kind: torch.dtype) -> dict[str, Any]:
    return {k: v.to(kind) if isinstance(v, Tensor) else v for k, v in scene.items()}


def leaves(scene: dict[str, Any]) -> dict[str, Tensor]:
    """Copies of what gradients are wanted of."""
    return {
        k: scene[k].clone().requires_grad_() for k in DIFFERENTIABLE if scene.get(k) is not None
    }


def gradients(
    draw: Any, scene: dict[str, Any], weights: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Picture and alpha of ``draw`` and the gradients of their weighted sum."""
    own = leaves(scene)
    image, alpha, _ = draw(**(scene | own))
    loss = (image * weights[0].to(image)).sum() + (alpha * weights[1].to(alpha)).sum()
    loss.backward()
    grads = {k: v.grad for k, v in own.items() if v.grad is not None}
    return image.detach(), alpha.detach(), grads


def one(
    depth: float = 4.0, scale: float = 0.1, opacity: float = 0.9, size: int = 64
) -> dict[str, Any]:
    """A white ball in the middle of a square picture, one unit of focal length for a pixel."""
    return {
        "means": torch.tensor([[0.0, 0.0, depth]]),
        "quats": torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        "scales": torch.full((1, 3), scale),
        "opacities": torch.tensor([opacity]),
        "colors": torch.ones(1, 3),
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]]]),
        "width": size,
        "height": size,
    }


def several(scenes: list[dict[str, Any]]) -> dict[str, Any]:
    """Their Gaussians together, seen by the first one's camera."""
    names = ("means", "quats", "scales", "opacities", "colors")
    return scenes[0] | {name: torch.cat([scene[name] for scene in scenes]) for name in names}
