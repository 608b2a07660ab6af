"""The operators of the gated delta memory as the laws of kernels try them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import torch
from torch import Tensor

from retain.kernels.catalog import Kernel
from retain.kernels.gated_delta import op, reference
from retain.kernels.gated_delta.reference import Gates, Mode, Rule

SIZES = ((1, 1, 32, 64, 4, 196), (2, 3, 5, 6, 2, 7), (1, 2, 17, 33, 3, 1))
"""Clips, objects, rows, columns, heads, pixels."""


def frame(rng: torch.Generator, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """State, key, value and the four gates, of the size that a trained model has them."""
    batch, objects, rows, columns, heads, pixels = sizes

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    return (
        0.5 * normal(batch, objects, rows, columns),
        normal(batch, rows, pixels).softmax(1),
        normal(batch, objects, columns, pixels),
        0.3 * normal(heads, columns),
        0.3 * normal(heads, columns),
        normal(heads),
        normal(heads) - 2,
    )


def writes(rng: torch.Generator) -> Iterator[tuple[Any, ...]]:
    for sizes in SIZES:
        for mode in get_args(Mode):
            for rule in get_args(Rule):
                if rule != "none":  # what has no operator: the state as it is
                    dt = torch.arange(1.0, 1 + sizes[0], dtype=torch.float64)
                    gap = None if rule == "beta" else dt
                    yield *frame(rng, sizes), gap, mode, rule, mode == "released_2025"


def written(state: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
    *gates, dt, mode, rule, tile = rest
    return reference.step(
        state, key, value, Gates(*gates), mode=mode, rule=rule, dt=dt, tile_alpha=tile
    )


def reads(rng: torch.Generator) -> Iterator[tuple[Any, ...]]:
    for sizes in SIZES:
        yield frame(rng, sizes)[:2]


TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
"""float32 rounding of sums of at most 196 terms of size 1."""
WRITE = Kernel(op.gated_delta_write, written, writes, TOLERANCE, gradients=(0, 1, 2, 3, 4, 5, 6))
READ = Kernel(op.gated_delta_read, reference.read, reads, TOLERANCE, gradients=(0, 1))
