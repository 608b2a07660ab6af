"""``retain::bank_read``: attention to listed rows, by the device the tensors live on.

Gradients reach query, keys, values and bias. Eager CPU without gradients goes past the dispatcher.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retain.kernels.bank_read import cpu, gradient


def read(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """``reference.attend`` by the fastest way for its device: [B, N, H, E] of ``query``'s type.

    ``query`` [B, N, H, D]; ``keys`` [R, H, D]; ``values`` [R, H, E] or [R, 1, E]; ``index`` int64
    [B, K], -1 lists nothing, None lists every row; ``bias`` [B, K, H], finite; ``scale`` D^-1/2 if
    None. A read of no row is zero. Raises ValueError for shapes that do not fit; an index beyond
    the rows is an IndexError on CPU and lists nothing on CUDA.
    """
    _check(query, keys, values, index, bias)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    traced = torch.compiler.is_compiling() or type(query) is not Tensor
    if not traced and query.is_cpu and not torch.is_grad_enabled():
        return cpu.read(query, keys, values, index, bias, factor)[0]
    out: Tensor = bank_read(query, keys, values, index, bias, factor)[0]
    return out


def _check(
    query: Tensor, keys: Tensor, values: Tensor, index: Tensor | None, bias: Tensor | None
) -> None:
    batch, _, heads, dim = query.shape
    listed = (batch, len(keys)) if index is None else tuple(index.shape)
    if tuple(keys.shape[1:]) != (heads, dim):
        raise ValueError(f"keys {list(keys.shape)} do not fit queries {list(query.shape)}")
    if values.dim() != 3 or len(values) != len(keys) or values.shape[1] not in (1, heads):
        raise ValueError(f"values {list(values.shape)} do not fit keys {list(keys.shape)}")
    if len(listed) != 2 or listed[0] != batch:
        raise ValueError(f"an index {list(listed)} does not list rows for {batch} streams")
    if bias is not None and tuple(bias.shape) != (*listed, heads):
        raise ValueError(f"a bias {list(bias.shape)} does not fit {[*listed, heads]}")


@torch.library.custom_op("retain::bank_read", mutates_args=(), device_types="cpu")
def bank_read(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    return cpu.read(query, keys, values, index, bias, scale)


@bank_read.register_kernel("cuda")
def _(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    from retain.kernels.bank_read import triton_kernel

    return triton_kernel.read(query, keys, values, index, bias, scale)


@bank_read.register_fake
def _(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    shape = query.shape[:3]
    out = query.new_empty(*shape, values.shape[-1])
    return out, query.new_empty(shape, dtype=cpu.wide_type(query))


@torch.library.custom_op("retain::bank_read_backward", mutates_args=())
def bank_read_backward(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``gradient.backward`` for compiled graphs, which cannot look into the index."""
    return gradient.backward(grad, out, lse, query, keys, values, index, bias, scale)


@bank_read_backward.register_fake
def _(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    index: Tensor | None,
    bias: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    own = query.new_empty(0) if bias is None else torch.empty_like(bias)
    d_query, d_keys = torch.empty_like(query), torch.empty_like(keys)
    return d_query, d_keys, torch.empty_like(values), own


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*output, *tensors)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    """The sum that is kept for the backward has no gradient of its own."""
    *rows, d_bias = bank_read_backward(grad, *ctx.saved_tensors, ctx.scale)
    return (*rows, None, None if ctx.saved_tensors[-1] is None else d_bias, None)


bank_read.register_autograd(_backward, setup_context=_keep)
