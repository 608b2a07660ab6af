"""Gated DeltaNet behind the layers' interface (arXiv 2412.06464): the project's own rule.

The tokens of a frame are written one after the other, in a few products, by
``kernels/gated_delta/chunked.py``; the frame's decay falls on the first of them. Per head

    S_t = exp(g_t) (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T        o = q S

State H Dk Dv floats; a token costs 3 Dk Dv multiplications to write, Dk Dv to read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.kernels.gated_delta.chunked import advance
from retain.memory.carry import Shapes
from retain.memory.layers.base import Frame, Layer, LayerState
from retain.memory.layers.block_linear import read_matrix


@dataclass(frozen=True)
class TokenDelta(Layer):
    """See the module's text. Its own scan over frames is the kernel's, a frame being a chunk."""

    @property
    def shapes(self) -> Shapes:
        return {"s": (self.heads, self.key_dim, self.value_dim)}

    def update(self, state: LayerState, frame: Frame) -> LayerState:
        rest = torch.zeros_like(frame.beta[:, 1:])
        g = torch.cat([frame.g[:, None], rest], 1)
        return {"s": advance(frame.k, frame.v, g, frame.beta, state["s"])}

    def read(self, state: LayerState, q: Tensor, plain: Tensor | None = None) -> Tensor:
        return read_matrix(state, q, plain, 0.0)
