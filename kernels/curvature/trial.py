"""``retain::curvature_step`` as the laws of kernels try it: one tick of streams in all states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from retain.kernels.catalog import Kernel
from retain.kernels.curvature import layout as at
from retain.kernels.curvature import op, reference

STREAMS = 40
PAPER = (0, 1.0, 0.9, 30, 0.5, 1.5, 2, 0.0, 0.0, 1.0, 0.5, 0.3, 3, float("inf"), 3)
ROBUST = (1, 1.0, 0.9, 30, 0.5, 1.5, 4, 0.02, 0.01, 1.0, 0.5, 0.3, 3, 7.0, 3)
"""Columns of ``layout.py``: values like those of ``memory.router.RouterConfig``."""


def ticks(rng: torch.Generator) -> Iterator[tuple[Any, ...]]:
    """Streams in all states: without a past, with one frame of it, with two; still and moving."""
    for dim in (1, 16, 381):
        for params in (PAPER, ROBUST):
            draw = torch.randn(STREAMS, 3, dim, generator=rng, dtype=torch.float64)
            walk = torch.nn.functional.normalize(draw[:, :1] + 0.2 * draw.cumsum(1), dim=-1)
            state = torch.zeros(STREAMS, at.STATE, dtype=torch.float64)
            state[:, at.DEPTH] = torch.arange(STREAMS) % 3
            state[:, at.HEAD] = 1
            state[:, at.COUNT] = torch.arange(STREAMS) % 7
            state[:, at.MEAN], state[:, at.VAR], state[:, at.LENGTH] = 0.1, 0.01, 0.3
            state[:, at.SEEN], state[:, at.LAST_TIME], state[:, at.LAST_KEPT] = 9, 1.0, -2.0
            features = walk[:, 2].clone()
            features[::9] = walk[::9, 1]  # nothing moved
            features[::11] = 0  # no direction
            times = 1.0 + torch.rand(STREAMS, generator=rng, dtype=torch.float64) * 8
            flags = (torch.arange(STREAMS) % 4).to(torch.uint8)
            yield (
                features, walk[:, :2].float(), state, times, flags,
                torch.tensor(params, dtype=torch.float64), bool(params[at.ROBUST]),
            )  # fmt: skip


def stepped(
    features: Tensor, history: Tensor, state: Tensor, times: Tensor, flags: Tensor,
    params: Tensor, robust: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    history, state, decision = reference.step(
        features, history.double(), state, times, flags, params
    )
    return decision, history, state


STEP = Kernel(
    fast=op.curvature_step,
    reference=stepped,
    inputs=ticks,
    tolerance={torch.float32: 1e-5, torch.float16: 1e-5, torch.bfloat16: 1e-5},
    narrow=(0,),
    writes=(1, 2),
)
