"""``retain::bank_read`` as the laws of kernels try it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from retain.kernels.bank_read import cpu, op, reference
from retain.kernels.catalog import Kernel

SIZES = (  # batch, queries, rows, heads, dim, width, heads of values, listed
    (2, 7, 23, 3, 5, 4, 3, 19),
    (1, 1, 6, 4, 5, 6, 1, 5),
    (3, 2, 1, 1, 8, 1, 1, 0),
    (1, cpu.QUERIES + 3, cpu.ROWS + 1, 2, 4, 3, 2, cpu.ROWS + 5),
)


def inputs(rng: torch.Generator) -> Iterator[tuple[Any, ...]]:
    for batch, queries, rows, heads, dim, width, own, count in SIZES:

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=rng, dtype=torch.float64)

        query, keys = normal(batch, queries, heads, dim), normal(rows, heads, dim)
        index = torch.randint(-1, rows, (batch, count), generator=rng)
        bias = normal(batch, count, heads)
        yield query, keys, normal(rows, own, width), index, bias, dim**-0.5
        yield query, keys, normal(rows, own, width), None, None, 0.3


READ = Kernel(
    fast=op.bank_read,
    reference=reference.attend,
    inputs=inputs,
    tolerance={torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3},
    gradients=(0, 1, 2, 4),
)
