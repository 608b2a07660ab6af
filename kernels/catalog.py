"""Kernels by name. Being listed here puts a kernel under the laws of tests/kernels/test_laws.py.

Listed is every operator under ``retain::`` but those that are another's backward. What is no
operator has tests of its own: merging by voxel changes arrays of NumPy in place, geometry and the
chunked form of the gated delta rule are plain formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Kernel:
    """A fast form beside its definition, and what to try both with."""

    fast: Any
    """The operator (``torch.library.custom_op``): tensors and plain values in, tensors out."""
    reference: Callable[..., Any]
    """The definition, called with the same arguments in float64. It returns as many of the
    operator's first outputs as it defines, then what ``writes`` names, as it is afterwards."""
    inputs: Callable[[torch.Generator], Iterable[tuple[Any, ...]]]
    """Arguments worth trying, small ones too: every floating tensor in float64."""
    tolerance: Mapping[torch.dtype, float]
    """Each type it takes, and by how much it may be off, as a share of the largest value."""
    narrow: tuple[int, ...] | None = None
    """Which arguments come in that type; None: all that are floating."""
    writes: tuple[int, ...] = ()
    """Which arguments move on in place."""
    gradients: tuple[int, ...] = ()
    """Which arguments gradients reach."""


KERNELS = {
    "bank-read": "retain.kernels.bank_read.trial:READ",
    "curvature-step": "retain.kernels.curvature.trial:STEP",
    "gated-delta-read": "retain.kernels.gated_delta.trial:READ",
    "gated-delta-write": "retain.kernels.gated_delta.trial:WRITE",
    "project-gaussians": "retain.kernels.rasterize.trial:PROJECT",
    "rasterize-pixels": "retain.kernels.rasterize.trial:PIXELS",
}
