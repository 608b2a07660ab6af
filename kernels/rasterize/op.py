"""``rasterization``: gsplat's contract, on a CPU by our kernels, on CUDA by gsplat itself."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from retain.kernels.rasterize import contract, operators


def rasterization(
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
    packed: bool = True,
    tile_size: int = 16,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    sparse_grad: bool = False,
    absgrad: bool = False,
    rasterize_mode: str = "classic",
    channel_chunk: int = 32,
    distributed: bool = False,
    camera_model: str = "pinhole",
    segmented: bool = False,
    covars: Tensor | None = None,
    with_ut: bool = False,
    with_eval3d: bool = False,
    **others: Any,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Picture [..., C, H, W, X], alpha [..., C, H, W, 1] and meta of N Gaussians in C cameras.

    means [..., N, 3], quats [..., N, 4] wxyz, scales [..., N, 3], opacities [..., N], colors
    [..., (C,) N, D] or with ``sh_degree`` [..., (C,) N, K, 3], viewmats [..., C, 4, 4] world to
    camera, Ks [..., C, 3, 3], backgrounds [..., C, D]; float32, values activated. Differentiable
    in all of them but Ks. docs/rasterizer.md has the whole contract.

    Raises ValueError for shapes and modes that do not fit and NotImplementedError for what needs
    gsplat on CUDA, or where that is wanted and missing.
    """
    given = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors,
        "viewmats": viewmats, "Ks": Ks, "width": width, "height": height, "near_plane": near_plane,
        "far_plane": far_plane, "radius_clip": radius_clip, "eps2d": eps2d, "sh_degree": sh_degree,
        "packed": packed, "tile_size": tile_size, "backgrounds": backgrounds,
        "render_mode": render_mode, "sparse_grad": sparse_grad, "absgrad": absgrad,
        "rasterize_mode": rasterize_mode, "channel_chunk": channel_chunk,
        "distributed": distributed, "camera_model": camera_model, "segmented": segmented,
        "covars": covars, "with_ut": with_ut, "with_eval3d": with_eval3d, **others,
    }  # fmt: skip
    if means.is_cuda:
        from retain.kernels.rasterize.cuda import gsplat_rasterization

        return gsplat_rasterization(given)
    _refuse(given, others)
    request = contract.request(**{name: given[name] for name in _WANTED})
    if means.dtype != torch.float32:
        raise ValueError(f"The rasteriser works in float32; means are {means.dtype}. Convert them.")
    if not absgrad:
        return contract.draw(request, operators.project, operators.pixels)
    probes: list[Tensor] = []

    def pixels(centers: Tensor, *rest: Any) -> tuple[Tensor, ...]:
        probes.append(torch.zeros(centers.shape, requires_grad=True))
        return operators.pixels(centers, *rest, probes[0])

    image, alpha, meta = contract.draw(request, operators.project, pixels)
    centers = meta["means2d"]
    probes[0].register_hook(  # type: ignore[no-untyped-call]
        lambda grad: setattr(centers, "absgrad", grad.view(centers.shape))
    )
    return image, alpha, meta


_WANTED = tuple(inspect.signature(contract.request).parameters)
_CUDA_ONLY = {
    "distributed": False, "camera_model": "pinhole", "with_ut": False, "with_eval3d": False,
    "radial_coeffs": None, "tangential_coeffs": None, "thin_prism_coeffs": None,
    "ftheta_coeffs": None, "viewmats_rs": None,
}  # fmt: skip


def _refuse(given: dict[str, Any], others: dict[str, Any]) -> None:
    for name in others:
        if name not in _CUDA_ONLY and name != "rolling_shutter":
            raise TypeError(f"rasterization() has no argument {name!r}")
    shutter = given.get("rolling_shutter")
    if getattr(shutter, "name", shutter) not in (None, "GLOBAL"):
        raise NotImplementedError(
            "Rolling shutters are not drawn on the CPU: move the tensors to CUDA, where gsplat "
            "does it, or leave rolling_shutter out."
        )
    for name, plain in _CUDA_ONLY.items():
        value = given.get(name, plain)
        if value is not plain and value != plain:
            shown = name if isinstance(value, Tensor) else f"{name}={value!r}"
            raise NotImplementedError(
                f"{shown} is not supported on the CPU: move the tensors to CUDA, where "
                f"gsplat does it, or leave {name} out. Pictures of lenses with distortion can be "
                "rectified first."
            )
