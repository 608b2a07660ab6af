"""``retain::project_gaussians`` and ``retain::rasterize_pixels``, each with its backward, so that
gradients of what lies between (where the Gaussians are in the picture) can be had.

``project`` and ``pixels`` are the same, past the dispatcher where nobody traces: the first call of
an operator makes torch load its compiler, which takes as long as hundreds of pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from retain.kernels.rasterize import cpu


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _arrays(*tensors: Tensor | None) -> list[list[Any]]:
    """For every entry of the first dimension; what is missing is an empty array of six columns."""
    none = np.empty((0, 6), np.float32)
    count = next(len(x) for x in tensors if x is not None)
    whole = [None if x is None else _array(x) for x in tensors]
    return [[none if x is None else x[i] for x in whole] for i in range(count)]


def _stacked(items: Iterable[Any]) -> tuple[Tensor, ...]:
    """Arrays of every entry, one tensor for each place."""
    columns = list(zip(*items, strict=True))
    return tuple(
        torch.from_numpy(column[0][None] if len(column) == 1 else np.stack(column))
        for column in columns
    )


def project(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``project_gaussians``, in the shortest way."""
    run: Any = _Project.apply if _eager(given[0]) else project_gaussians
    made: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = run(*given)
    return made


def pixels(*given: Any) -> tuple[Tensor, ...]:
    """``rasterize_pixels``, in the shortest way."""
    run: Any = _Pixels.apply if _eager(given[0]) else rasterize_pixels
    made: tuple[Tensor, ...] = run(*given)
    return made


def _eager(tensor: Tensor) -> bool:
    """Whether there is a CPU tensor, and nobody traces or watches what is done to it: they would
    see numbers that come from nowhere."""
    return (
        type(tensor) is Tensor
        and tensor.is_cpu
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
    )


def _projected(
    means: Tensor,
    quats: Tensor | None,
    scales: Tensor | None,
    covars: Tensor | None,
    opacities: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    eps2d: float,
    antialiased: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``reference.project``, which says what goes in and comes out."""
    options: list[Any] = [
        width, height, near_plane, far_plane, radius_clip, eps2d, antialiased
    ]  # fmt: skip
    each = _arrays(means, quats, scales, covars, opacities, viewmats, Ks)
    return _stacked(cpu.project(*given, *options) for given in each)  # type: ignore[return-value]


project_gaussians = torch.library.custom_op(
    "retain::project_gaussians", _projected, mutates_args=(), device_types="cpu"
)


@project_gaussians.register_fake
def _(
    means: Tensor,
    quats: Tensor | None,
    scales: Tensor | None,
    covars: Tensor | None,
    opacities: Tensor,
    viewmats: Tensor,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    side = (means.shape[0], viewmats.shape[1], means.shape[1])
    return (
        means.new_empty(*side, 2, dtype=torch.int32),
        means.new_empty(*side, 2),
        means.new_empty(side),
        means.new_empty(*side, 3),
        means.new_empty(side),
    )


def _projection_gradients(
    means: Tensor,
    quats: Tensor | None,
    scales: Tensor | None,
    covars: Tensor | None,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    eps2d: float,
    radii: Tensor,
    d_means2d: Tensor,
    d_depths: Tensor,
    d_conics: Tensor,
    d_compensations: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of means, quats, scales, covars (empty for those not given) and viewmats."""
    fixed = _arrays(means, quats, scales, covars, viewmats, Ks)
    given = _arrays(radii, d_means2d, d_depths, d_conics, d_compensations)
    options: list[Any] = [width, height, eps2d]
    return _stacked(  # type: ignore[return-value]
        cpu.project_backward(*one, *options, *two) for one, two in zip(fixed, given, strict=True)
    )


_project_backward = torch.library.custom_op(
    "retain::project_gaussians_backward",
    _projection_gradients,
    mutates_args=(),
    device_types="cpu",
)


@_project_backward.register_fake
def _(
    means: Tensor,
    quats: Tensor | None,
    scales: Tensor | None,
    covars: Tensor | None,
    viewmats: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    none = means.new_empty(means.shape[0], 0, 6)
    return (
        torch.empty_like(means),
        *(torch.empty_like(none if x is None else x) for x in (quats, scales, covars)),
        torch.empty_like(viewmats),
    )  # type: ignore[return-value]


def _keep_projection(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    means, quats, scales, covars, _, viewmats, Ks, width, height, _, _, _, eps2d, _ = inputs
    ctx.save_for_backward(means, quats, scales, covars, viewmats, Ks, *output)
    ctx.options = width, height, eps2d


def _projection_backward(ctx: Any, _: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, Ks, radii, means2d, depths, conics, compensations = ctx.saved_tensors
    outputs = (means2d, depths, conics, compensations)
    given = _given(grads, outputs)
    back: Any = _projection_gradients if _eager(Ks) else _project_backward
    d_means, d_quats, d_scales, d_covars, d_views = back(*inputs, Ks, *ctx.options, radii, *given)
    _, quats, scales, covars, _ = inputs
    return (
        d_means,
        None if quats is None else d_quats,
        None if scales is None else d_scales,
        None if covars is None else d_covars,
        None,
        d_views,
        *[None] * 8,
    )


def _given(grads: Iterable[Tensor | None], outputs: Iterable[Tensor]) -> list[Tensor]:
    """Zeros for outputs that nobody used."""
    pairs = zip(grads, outputs, strict=True)
    return [torch.zeros_like(out) if grad is None else grad for grad, out in pairs]


project_gaussians.register_autograd(_projection_backward, setup_context=_keep_projection)


class _Project(torch.autograd.Function):
    """``project_gaussians`` in eager mode."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        made = _projected(*given)
        _keep_projection(ctx, given, made)
        ctx.mark_non_differentiable(made[0])
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _projection_backward(ctx, *grads)


def _drawn(
    means2d: Tensor,
    depths: Tensor,
    conics: Tensor,
    opacities: Tensor,
    radii: Tensor,
    colors: Tensor,
    backgrounds: Tensor | None,
    width: int,
    height: int,
    with_depth: bool,
    probe: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``reference.pixels``: image [I, H, W, D] and alpha [I, H, W]; then for the backward
    transmittance [I, H, W], int32 [I, H, W] (how many Gaussians a pixel came to), tile lists, and
    splats [., 8 + D].

    ``probe`` [I, N, 2] changes nothing; its gradient is the sum over pixels of the magnitudes of
    that of means2d (Ye et al. 2024, AbsGS).
    """
    own = _arrays(colors)
    pictures, lists, splats = [], [], []
    for i, given in enumerate(_arrays(means2d, depths, conics, opacities, radii, backgrounds)):
        given += own[i * len(own) // len(means2d)] + [width, height, with_depth]
        picture = cpu.pixels(*given)
        pictures.append((picture.image, 1 - picture.left, picture.left, picture.reached))
        lists.append(picture.tiles.packed())
        splats.append(picture.splats)
    joined = (torch.from_numpy(np.concatenate(each)) for each in (lists, splats))
    return (*_stacked(pictures), *joined)  # type: ignore[return-value]


rasterize_pixels = torch.library.custom_op(
    "retain::rasterize_pixels", _drawn, mutates_args=(), device_types="cpu"
)


@rasterize_pixels.register_fake
def _(
    means2d: Tensor,
    depths: Tensor,
    conics: Tensor,
    opacities: Tensor,
    radii: Tensor,
    colors: Tensor,
    backgrounds: Tensor | None,
    width: int,
    height: int,
    with_depth: bool,
    probe: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    side, channels = (means2d.shape[0], height, width), colors.shape[2] + with_depth
    context = torch.library.get_ctx()
    return (
        means2d.new_empty(*side, channels),
        means2d.new_empty(side),
        means2d.new_empty(side),
        means2d.new_empty(side, dtype=torch.int32),
        means2d.new_empty(context.new_dynamic_size(), dtype=torch.int32),
        means2d.new_empty(context.new_dynamic_size(), cpu.CHANNELS + channels),
    )


def _pixel_gradients(
    d_image: Tensor,
    d_alpha: Tensor,
    means2d: Tensor,
    depths: Tensor,
    conics: Tensor,
    opacities: Tensor,
    colors: Tensor,
    backgrounds: Tensor | None,
    left: Tensor,
    reached: Tensor,
    lists: Tensor,
    splats: Tensor,
    absolute: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of means2d, depths, conics, opacities, the probe (if ``absolute``, else empty) and
    colors."""
    d_colors = np.zeros(colors.shape, np.float32)
    packed, drawn, grads = _array(lists), _array(splats), []
    each = _arrays(d_image, d_alpha, means2d, depths, conics, opacities, backgrounds, left, reached)
    for i, given in enumerate(each):
        tiles, packed = cpu.Tiles.unpacked(packed)
        own, drawn = np.split(drawn, [len(tiles.order)])
        given += [tiles, own, d_colors[i * len(d_colors) // len(each)], absolute]
        grads.append(cpu.pixels_backward(*given))
    return (*_stacked(grads), torch.from_numpy(d_colors))  # type: ignore[return-value]


_pixels_backward = torch.library.custom_op(
    "retain::rasterize_pixels_backward", _pixel_gradients, mutates_args=(), device_types="cpu"
)


@_pixels_backward.register_fake
def _(
    d_image: Tensor,
    d_alpha: Tensor,
    means2d: Tensor,
    depths: Tensor,
    conics: Tensor,
    opacities: Tensor,
    colors: Tensor,
    backgrounds: Tensor | None,
    left: Tensor,
    reached: Tensor,
    lists: Tensor,
    splats: Tensor,
    absolute: bool,
) -> tuple[Tensor, ...]:
    probe = means2d if absolute else means2d[:, :0]
    return tuple(torch.empty_like(x) for x in (means2d, depths, conics, opacities, probe, colors))


def _keep_pixels(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    means2d, depths, conics, opacities, _, colors, backgrounds, *_ = inputs
    ctx.absolute = len(inputs) > 10 and inputs[10] is not None
    ctx.save_for_backward(means2d, depths, conics, opacities, colors, backgrounds, *output[2:])
    ctx.side = output[0].shape


def _picture_backward(
    ctx: Any, d_image: Tensor | None, d_alpha: Tensor | None, *_: Any
) -> tuple[Tensor | None, ...]:
    *inputs, colors, backgrounds, left, reached, lists, splats = ctx.saved_tensors
    if d_image is None:
        d_image = left.new_zeros(ctx.side)
    d_alpha = torch.zeros_like(left) if d_alpha is None else d_alpha
    back: Any = _pixel_gradients if _eager(left) else _pixels_backward
    d_means2d, d_depths, d_conics, d_opacities, d_probe, d_colors = back(
        d_image, d_alpha, *inputs, colors, backgrounds, left, reached, lists, splats, ctx.absolute
    )
    d_backgrounds = None
    if backgrounds is not None and ctx.needs_input_grad[6]:
        seen = d_image[..., : backgrounds.shape[-1]]
        d_backgrounds = torch.einsum("ihw,ihwd->id", left, seen)
    return (
        d_means2d, d_depths, d_conics, d_opacities, None, d_colors, d_backgrounds, *[None] * 3,
        d_probe if ctx.absolute else None,
    )  # fmt: skip


rasterize_pixels.register_autograd(_picture_backward, setup_context=_keep_pixels)
# mypy: disallow-untyped-decorators=False


class _Pixels(torch.autograd.Function):
    """``rasterize_pixels`` in eager mode."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, ...]:
        made = _drawn(*given)
        _keep_pixels(ctx, given, made)
        ctx.mark_non_differentiable(*made[2:])
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _picture_backward(ctx, *grads)
        return gradients if ctx.absolute else gradients[: len(ctx.needs_input_grad)]
