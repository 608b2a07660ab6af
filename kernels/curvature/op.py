"""``retain::curvature_step``: one routing tick of B streams, by the device its tensors live on."""

from __future__ import annotations

import torch
from torch import Tensor

from retain.kernels.curvature import cpu
from retain.kernels.curvature import layout as at


@torch.library.custom_op(
    "retain::curvature_step", mutates_args=("history", "state"), device_types="cpu"
)
def curvature_step(
    features: Tensor,
    history: Tensor,
    state: Tensor,
    times: Tensor,
    flags: Tensor,
    params: Tensor,
    robust: bool,
) -> Tensor:
    """Decide for one frame of each stream; ``history`` and ``state`` move on in place.

    ``features`` [B, D] float16, bfloat16 or float32; ``history`` float32 [B, 2, D]; ``state``
    float64 [B, 9]; ``times`` float64 [B]; ``flags`` uint8 [B]; ``params`` float64 [15], whose
    mode ``robust`` repeats. Returns float64 [B, 12]. Columns: ``layout.py``.
    """
    decision = torch.empty(len(features), at.DECISION, dtype=torch.float64)
    cpu.step(
        features.float().contiguous().numpy(),
        history.numpy(),
        state.numpy(),
        times.numpy(),
        flags.numpy(),
        params.numpy(),
        decision.numpy(),
    )
    return decision


@curvature_step.register_kernel("cuda")
def _(
    features: Tensor,
    history: Tensor,
    state: Tensor,
    times: Tensor,
    flags: Tensor,
    params: Tensor,
    robust: bool,
) -> Tensor:
    from retain.kernels.curvature.triton_kernel import launch

    return launch(features, history, state, times, flags, params, robust)


@curvature_step.register_fake
def _(
    features: Tensor,
    history: Tensor,
    state: Tensor,
    times: Tensor,
    flags: Tensor,
    params: Tensor,
    robust: bool,
) -> Tensor:
    return features.new_empty(features.shape[0], at.DECISION, dtype=torch.float64)
