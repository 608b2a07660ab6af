"""What ``rasterization`` takes and gives back (that of gsplat 1.5.3), whoever does the work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retain.kernels.rasterize import sh

RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
RASTERIZE_MODES = ("classic", "antialiased")
UPPER = ([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])
"""The six numbers of a symmetric 3x3 matrix."""
_NO_WEIGHT = 1e-10
"""Expected depth divides by no less; where nothing is drawn it is 0."""

Project = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]
Pixels = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments that matter, checked, their batch dimensions flattened to one.

    means [B, N, 3], quats [B, N, 4] and scales [B, N, 3] or covars [B, N, 6], opacities [B, N],
    colors [B, N, D], [B, C, N, D] or with SH [..., K, 3], viewmats [B, C, 4, 4], Ks [B, C, 3, 3],
    backgrounds [B, C, D] or None.
    """

    batch: tuple[int, ...]
    means: Tensor
    quats: Tensor | None
    scales: Tensor | None
    covars: Tensor | None
    opacities: Tensor
    colors: Tensor
    viewmats: Tensor
    Ks: Tensor
    backgrounds: Tensor | None
    width: int
    height: int
    near_plane: float
    far_plane: float
    radius_clip: float
    eps2d: float
    sh_degree: int | None
    render_mode: str
    antialiased: bool


def request(
    means: Tensor,
    quats: Tensor | None,
    scales: Tensor | None,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    rasterize_mode: str = "classic",
    covars: Tensor | None = None,
) -> Request:
    """Raises ValueError for shapes, types and modes that do not fit."""
    if render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode must be one of {RENDER_MODES}, got {render_mode!r}.")
    if rasterize_mode not in RASTERIZE_MODES:
        raise ValueError(
            f"rasterize_mode must be one of {RASTERIZE_MODES}, got {rasterize_mode!r}."
        )
    if min(width, height) < 1:
        raise ValueError(f"A picture cannot be {width}x{height}.")
    batch = tuple(means.shape[:-2])
    if 0 in batch:
        raise ValueError(f"Batch dimensions cannot be empty; means are {list(means.shape)}.")
    n, c = means.shape[-2], viewmats.shape[-3] if viewmats.dim() > 2 else 1
    _fits("means", means, means, (*batch, n, 3))
    if covars is not None:
        _fits("covars", covars, means, (*batch, n, 3, 3))
        covars = _flat(covars[..., UPPER[0], UPPER[1]], batch)
        quats = scales = None
    else:
        if quats is None or scales is None:
            raise ValueError("Give quats and scales, or covars.")
        _fits("quats", quats, means, (*batch, n, 4))
        _fits("scales", scales, means, (*batch, n, 3))
        quats, scales = _flat(quats, batch), _flat(scales, batch)
    _fits("opacities", opacities, means, (*batch, n))
    _fits("viewmats", viewmats, means, (*batch, c, 4, 4))
    _fits("Ks", Ks, means, (*batch, c, 3, 3))
    _colors_fit(colors, means, batch, c, n, sh_degree)
    if backgrounds is not None and render_mode in ("D", "ED"):
        backgrounds = None  # depth has none
    if backgrounds is not None:
        channels = colors.shape[-1]
        _fits("backgrounds", backgrounds, means, (*batch, c, channels))
        backgrounds = _flat(backgrounds, batch)
    return Request(
        batch, _flat(means, batch), quats, scales, covars, _flat(opacities, batch),
        _flat(colors, batch), _flat(viewmats, batch), _flat(Ks.detach(), batch), backgrounds,
        width, height, near_plane, far_plane, radius_clip, eps2d, sh_degree, render_mode,
        rasterize_mode == "antialiased",
    )  # fmt: skip


def _fits(name: str, tensor: Tensor, means: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(tensor.shape)}.")
    if tensor.dtype != means.dtype or tensor.device != means.device:
        raise ValueError(
            f"{name} is {tensor.dtype} on {tensor.device}, but means are {means.dtype} on "
            f"{means.device}; convert one of them."
        )


def _colors_fit(
    colors: Tensor, means: Tensor, batch: tuple[int, ...], c: int, n: int, degree: int | None
) -> None:
    last = 1 if degree is None else 2
    lead = tuple(colors.shape[:-last])
    if lead not in ((*batch, n), (*batch, c, n)) or (degree is not None and colors.shape[-1] != 3):
        tail = "D" if degree is None else "K, 3"
        raise ValueError(
            f"colors must have shape {[*batch, n]} or {[*batch, c, n]} and then {tail}, got "
            f"{list(colors.shape)}."
        )
    if degree is not None and not 0 <= (degree + 1) ** 2 <= colors.shape[-2]:
        raise ValueError(
            f"sh_degree {degree} needs {(degree + 1) ** 2} coefficients, colors have "
            f"{colors.shape[-2]}."
        )
    if 0 in colors.shape[len(lead) :]:
        raise ValueError(f"colors have no channels: {list(colors.shape)}.")
    _fits("colors", colors, means, tuple(colors.shape))


def _flat(tensor: Tensor, batch: tuple[int, ...]) -> Tensor:
    return tensor.reshape(math.prod(batch), *tensor.shape[len(batch) :])


def draw(r: Request, project: Project, pixels: Pixels) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Picture [..., C, H, W, X], alpha [..., C, H, W, 1] and what was computed on the way."""
    radii, means2d, depths, conics, compensations = project(
        r.means, r.quats, r.scales, r.covars, r.opacities, r.viewmats, r.Ks, r.width, r.height,
        r.near_plane, r.far_plane, r.radius_clip, r.eps2d, r.antialiased,
    )  # fmt: skip
    b, c, n = depths.shape
    opacities = r.opacities[:, None].expand(b, c, n)
    if r.antialiased:
        opacities = opacities * compensations
    meta = {
        "radii": radii, "means2d": means2d, "depths": depths, "conics": conics,
        "opacities": opacities,
    }  # fmt: skip
    meta = {name: value.reshape(*r.batch, *value.shape[1:]) for name, value in meta.items()}
    each = [meta[name].reshape(b * c, *value.shape[2:]) for name, value in (
        ("means2d", means2d), ("depths", depths), ("conics", conics), ("opacities", opacities),
        ("radii", radii),
    )]  # fmt: skip
    colors = _colors(r, b, c, n)
    background = None if r.backgrounds is None else r.backgrounds.reshape(b * c, -1)
    image, alpha, *_ = pixels(*each, colors, background, r.width, r.height, "D" in r.render_mode)
    alpha = alpha[..., None]
    if r.render_mode.endswith("ED"):
        expected = image[..., -1:] / alpha.clamp_min(_NO_WEIGHT)
        image = torch.cat([image[..., :-1], expected], dim=-1)
    side = (*r.batch, c, r.height, r.width)
    more = {"width": r.width, "height": r.height, "n_batches": b, "n_cameras": c}
    return image.reshape(*side, image.shape[-1]), alpha.reshape(*side, 1), meta | more


def _colors(r: Request, b: int, c: int, n: int) -> Tensor:
    """[B, N, D] for all cameras of a batch alike or [B C, N, D]."""
    if r.render_mode in ("D", "ED"):
        return r.means.new_empty(b, n, 0)
    if r.sh_degree is None:
        return r.colors if r.colors.dim() == 3 else r.colors.flatten(0, 1)
    eyes = torch.linalg.inv(r.viewmats)[..., :3, 3]
    directions = r.means[:, None] - eyes[:, :, None]
    coefficients = r.colors if r.colors.dim() == 5 else r.colors[:, None]
    return sh.colors(r.sh_degree, directions, coefficients).reshape(b * c, n, 3)
