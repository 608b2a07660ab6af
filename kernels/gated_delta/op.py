"""``frame``: one frame's write and read, by the device its tensors live on."""

from __future__ import annotations

import torch
from torch import Tensor

from retain.kernels.gated_delta import reference
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
    new = reference.step(
        state, key, value, gates, mode=mode, rule=rule, dt=dt, tile_alpha=tile_alpha
    )
    if rule == "none":
        return new, torch.zeros_like(value)
    return new, reference.read(new, key).to(value.dtype)
