"""What the rasteriser computes, as dense torch: every Gaussian at every pixel, in any precision.

Zwicker et al. 2001 for the projection, Kerbl et al. 2023 for the blending; cut-offs, clamps and
antialiasing (Yu et al. 2024) as in gsplat 1.5.3. Autograd gives the gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retain.kernels.rasterize import contract

EXTENT = 3.33
MARGIN = 0.15
SMALLEST = 1 / 255
LIMIT = 0.999
STOP = 1e-4


def rasterization(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """``op.rasterization`` for small scenes; takes what ``contract.request`` does."""
    return contract.draw(contract.request(*args, **kwargs), project, pixels)


def rotation(quats: Tensor) -> Tensor:
    """[..., 3, 3] of quaternions [..., 4] wxyz of any length."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def covariance(quats: Tensor, scales: Tensor) -> Tensor:
    """[..., 3, 3]: R S S R^T."""
    half = rotation(quats) * scales[..., None, :]
    return half @ half.mT


def full(upper: Tensor) -> Tensor:
    """[..., 3, 3] of xx, xy, xz, yy, yz, zz."""
    return upper[..., [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(*upper.shape[:-1], 3, 3)


def project(
    means: Tensor, quats: Tensor | None, scales: Tensor | None, covars: Tensor | None,
    opacities: Tensor, viewmats: Tensor, Ks: Tensor, width: int, height: int,
    near_plane: float, far_plane: float, radius_clip: float, eps2d: float, antialiased: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """radii int32 [B, C, N, 2], means2d [B, C, N, 2], depths [B, C, N], conics [B, C, N, 3] and
    compensations [B, C, N] of means [B, N, 3] and so on; zero where one is not drawn."""
    if covars is not None:
        cov = full(covars)
    else:
        assert quats is not None
        assert scales is not None
        cov = covariance(quats, scales)
    turn = viewmats[:, :, None, :3, :3]
    x, y, z = (turn @ means[:, None, :, :, None] + viewmats[:, :, None, :3, 3:])[..., 0].unbind(-1)
    fits = (z >= near_plane) & (z <= far_plane)
    z = torch.where(fits, z, 1.0)
    fx, fy, cx, cy = (Ks[:, :, None, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    low, high = -(cx + MARGIN * width) / fx, (width - cx + MARGIN * width) / fx
    tx = z * (x / z).clamp(low, high)
    low, high = -(cy + MARGIN * height) / fy, (height - cy + MARGIN * height) / fy
    ty = z * (y / z).clamp(low, high)
    none = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, none, -fx * tx / z**2, none, fy / z, -fy * ty / z**2], dim=-1)
    flat = jacobian.reshape(*z.shape, 2, 3) @ turn
    cov2d = flat @ cov[:, None] @ flat.mT
    xx, xy, yy = cov2d[..., 0, 0], cov2d[..., 0, 1], cov2d[..., 1, 1]
    sharp = xx * yy - xy * xy
    xx, yy = xx + eps2d, yy + eps2d
    det = xx * yy - xy * xy
    fits = fits & (det > 0)
    det = torch.where(fits, det, 1.0)
    compensations = (sharp / det).clamp_min(1e-30).sqrt()
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)
    with torch.no_grad():
        drawn = opacities[:, None] * (compensations if antialiased else 1.0)
        fits = fits & (drawn >= SMALLEST)
        extent = (2 * (drawn / SMALLEST).clamp_min(1.0).log()).sqrt().clamp_max(EXTENT)
        radii = torch.stack([xx, yy], dim=-1).clamp_min(0.0).sqrt().mul(extent[..., None]).ceil()
        fits = fits & (radii > radius_clip).any(-1)
        size = means2d.new_tensor([width, height])
        fits = fits & ((means2d + radii > 0) & (means2d - radii < size)).all(-1)
        radii = torch.where(fits[..., None], radii, 0.0).int()
    conics = torch.stack([yy / det, -xy / det, xx / det], dim=-1)
    return (
        radii,
        torch.where(fits[..., None], means2d, 0.0),
        torch.where(fits, z, 0.0),
        torch.where(fits[..., None], conics, 0.0),
        torch.where(fits, compensations, 0.0),
    )


def pixels(
    means2d: Tensor, depths: Tensor, conics: Tensor, opacities: Tensor, radii: Tensor,
    colors: Tensor, backgrounds: Tensor | None, width: int, height: int, with_depth: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Image [I, H, W, D] and alpha [I, H, W] of I pictures: means2d [I, N, 2] and so on.

    ``colors`` [J, N, D]: picture i has those of i J / I. ``with_depth`` appends a channel.
    """
    images, alphas = [], []
    for i in range(len(means2d)):
        drawn = torch.nonzero((radii[i] > 0).all(-1))[:, 0]
        order = drawn[torch.argsort(depths[i, drawn], stable=True)]
        shades = colors[i * len(colors) // len(means2d)]
        if with_depth:
            shades = torch.cat([shades, depths[i, :, None]], dim=-1)
        image, left = _blend(
            means2d[i, order], conics[i, order], opacities[i, order], shades[order], width, height
        )
        if backgrounds is not None:
            beyond = torch.nn.functional.pad(backgrounds[i], (0, int(with_depth)))
            image = image + left[..., None] * beyond
        images.append(image)
        alphas.append(1 - left)
    return torch.stack(images), torch.stack(alphas)


def _blend(
    centers: Tensor, conics: Tensor, opacities: Tensor, colors: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Image [H, W, D] and transmittance [H, W] of M Gaussians, nearest first."""
    x = torch.arange(width).to(centers) + 0.5 - centers[:, 0, None]
    y = torch.arange(height).to(centers) + 0.5 - centers[:, 1, None]
    a, b, c = conics[:, :, None, None].unbind(1)
    x, y = x[:, None, :], y[:, :, None]
    power = -0.5 * (a * x * x + c * y * y) - b * x * y
    alpha = (opacities[:, None, None] * power.exp()).clamp_max(LIMIT)
    alpha = torch.where(alpha >= SMALLEST, alpha, 0.0)
    through = torch.cumprod(1 - alpha, dim=0)
    # What is behind falls further, so one comparison finds where every pixel stops.
    kept = torch.where(through >= STOP, alpha, 0.0)
    left = torch.cumprod(1 - kept, dim=0)
    before = torch.cat([left.new_ones(1, height, width), left])
    image = torch.einsum("nhw,nd->hwd", kept * before[:-1], colors)
    return image, before[-1]
