"""``retain::gated_delta_write`` and ``_read``: a frame's step, by the device its tensors live on.

``frame`` is both. Gradients reach state, key, value and gates; ``dt`` has none. Eager CPU goes
past the dispatcher, whose bookkeeping costs more than a small step does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from retain.kernels.gated_delta import cpu, cpu_gradient, gradient
from retain.kernels.gated_delta.reference import Gates, Mode, Rule


def frame(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Gates,
    *,
    mode: Mode = "mass",
    rule: Rule = "full",
    dt: Tensor | None = None,
    tile_alpha: bool = False,
) -> tuple[Tensor, Tensor]:
    """Write a frame, then read it: (new state [B, N, Ck, Cv], readout [B, N, Cv, P]).

    ``state`` [B, N, Ck, Cv] float32 or float64; ``key`` [B, Ck, P] with columns summing to 1;
    ``value`` [B, N, Cv, P]; ``dt`` [B] frames since the last write, 1 if None. The state keeps its
    type and the readout has that of ``value``. ``reference.py`` says what is computed.
    """
    if rule == "none":
        return state, torch.zeros_like(value)
    if _eager_cpu(state) and torch.is_grad_enabled():
        own = _as(gates, state)
        both: tuple[Tensor, Tensor] = _Frame.apply(
            state, key, value, *own, dt, mode, rule, tile_alpha
        )
        return both
    new = write(state, key, value, gates, mode=mode, rule=rule, dt=dt, tile_alpha=tile_alpha)
    return new, cpu.cast(read(new, key), value)


def write(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    gates: Gates,
    *,
    mode: Mode = "mass",
    rule: Rule = "full",
    dt: Tensor | None = None,
    tile_alpha: bool = False,
) -> Tensor:
    """``reference.step`` by the fastest way for its device; shapes and types as in ``frame``."""
    if rule == "none":
        return state
    own = _as(gates, state)
    if _eager_cpu(state) and not torch.is_grad_enabled():
        own = Gates(*(gate.detach() for gate in own))
        return cpu.write(state, key, value, own, dt, mode, rule, tile_alpha)
    new: Tensor = gated_delta_write(state, key, value, *own, dt, mode, rule, tile_alpha)
    return new


def read(state: Tensor, key: Tensor) -> Tensor:
    """``reference.read``: S^T K, [B, N, Cv, P] in the type of ``key``."""
    if _eager_cpu(state) and not torch.is_grad_enabled():
        return cpu.read(state, key)
    readout: Tensor = gated_delta_read(state, key)
    return readout


def _as(gates: Gates, state: Tensor) -> Gates:
    return Gates(*(cpu.cast(gate, state) for gate in gates))


def _eager_cpu(state: Tensor) -> bool:
    """Whether there is a CPU tensor, and nobody traces or watches what is done to it."""
    return (
        type(state) is Tensor
        and state.is_cpu
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()
    )


class _Frame(torch.autograd.Function):
    """``frame`` on CPU with gradients."""

    @staticmethod
    def forward(
        ctx: Any, state: Tensor, key: Tensor, value: Tensor, *rest: Any
    ) -> tuple[Tensor, Tensor]:
        *gates, dt, mode, rule, tile_alpha = rest
        new = cpu.write(state, key, value, Gates(*gates), dt, mode, rule, tile_alpha)
        ctx.save_for_backward(state, key, value, *gates, dt, new)
        ctx.options = mode, rule, tile_alpha
        return new, cpu.cast(cpu.read(new, key), value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_new: Tensor, d_readout: Tensor) -> tuple[Tensor | None, ...]:
        state, key, value, *gates, dt, new = ctx.saved_tensors
        through, d_read = gradient.read_backward(d_readout, new, key)
        own = cpu_gradient if ctx.options[1] in ("full", "beta", "alpha") else gradient
        d_state, d_key, *rest = own.write_backward(
            d_new + through, state, key, value, Gates(*gates), dt, *ctx.options
        )
        return (d_state, d_key + d_read, *rest, None, None, None, None)


@torch.library.custom_op("retain::gated_delta_write", mutates_args=(), device_types="cpu")
def gated_delta_write(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    w_beta: Tensor,
    w_alpha: Tensor,
    a_log: Tensor,
    dt_bias: Tensor,
    dt: Tensor | None,
    mode: str,
    rule: str,
    tile_alpha: bool,
) -> Tensor:
    gates = Gates(w_beta, w_alpha, a_log, dt_bias)
    return cpu.write(state, key, value, gates, dt, mode, rule, tile_alpha)


@gated_delta_write.register_kernel("cuda")
def _(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    w_beta: Tensor,
    w_alpha: Tensor,
    a_log: Tensor,
    dt_bias: Tensor,
    dt: Tensor | None,
    mode: str,
    rule: str,
    tile_alpha: bool,
) -> Tensor:
    from retain.kernels.gated_delta import triton_kernel

    gates = Gates(w_beta, w_alpha, a_log, dt_bias)
    return triton_kernel.write(state, key, value, gates, dt, mode, rule, tile_alpha)


@gated_delta_write.register_fake
def _(
    state: Tensor,
    key: Tensor,
    value: Tensor,
    w_beta: Tensor,
    w_alpha: Tensor,
    a_log: Tensor,
    dt_bias: Tensor,
    dt: Tensor | None,
    mode: str,
    rule: str,
    tile_alpha: bool,
) -> Tensor:
    return state.new_empty(state.shape)


def _keep_write(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:8])
    ctx.options = inputs[8:]


def _write_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    state, key, value, *gates, dt = ctx.saved_tensors
    grads = gradient.write_backward(grad, state, key, value, Gates(*gates), dt, *ctx.options)
    return (*grads, None, None, None, None)


gated_delta_write.register_autograd(_write_backward, setup_context=_keep_write)


@torch.library.custom_op("retain::gated_delta_read", mutates_args=(), device_types="cpu")
def gated_delta_read(state: Tensor, key: Tensor) -> Tensor:
    return cpu.read(state, key)


@gated_delta_read.register_kernel("cuda")
def _(state: Tensor, key: Tensor) -> Tensor:
    from retain.kernels.gated_delta import triton_kernel

    return triton_kernel.read(state, key)


@gated_delta_read.register_fake
def _(state: Tensor, key: Tensor) -> Tensor:
    batch, objects, _, columns = state.shape
    return key.new_empty(batch, objects, columns, key.shape[-1])


def _keep_read(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _read_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    return gradient.read_backward(grad, *ctx.saved_tensors)


gated_delta_read.register_autograd(_read_backward, setup_context=_keep_read)
