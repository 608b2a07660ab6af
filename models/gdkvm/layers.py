"""Other memory layers in the place of GDKVM's gated-delta matrix (``GdkvmConfig.layer``).

The network hands them what it hands the matrix: keys of the cells, shared by the objects, and a
value per object and cell. Each object's heads are heads of one layer. The gates are the same
parameters, but look at what is written instead of at what is held, as SANA-WM's do:

    beta = sigmoid(W_beta v)  per cell        g = -exp(a_log) softplus(W_alpha mean(v) + dt_bias)

A softmax is no key of length 1, so keys are brought to it. Every frame is written before it is
read, the first one too.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from retain.kernels.gated_delta.reference import Gates
from retain.memory.layers.base import Frame, Layer, LayerState
from retain.memory.layers.block_linear import BlockLinear
from retain.memory.layers.cached import Cached
from retain.memory.layers.frame_delta import FrameDelta
from retain.memory.layers.kalman import Kalman
from retain.memory.layers.mixture import Mixture
from retain.models.gdkvm.config import GdkvmConfig

SEGMENT, CAP = 8, 4
"""Frames of a cached segment, and how many are kept."""

STATES, TOP = 4, 2
"""Of a mixture, beside the shared one."""

STEPS = 10
"""Of the regression: every cell of every frame asks."""


class ObjectLayer(nn.Module):
    """What ``Gdkvm`` calls: one layer for N objects, its state in one tensor [B, N, floats]."""

    def __init__(self, config: GdkvmConfig) -> None:
        super().__init__()
        self.config = config
        self.router = None
        if config.layer == "mixture":
            self.router = nn.Parameter(torch.randn(STATES, config.key_dim))

    @property
    def layer(self) -> Layer:
        c, n = self.config, len(self.config.objects) * self.config.heads
        size = (n, c.key_dim, c.value_dim // c.heads)
        match c.layer:
            case "frame_delta":
                return FrameDelta(*size)
            case "block_linear":
                return BlockLinear(*size)
            case "kalman":
                return Kalman(*size, steps=STEPS)
            case "cached":
                return Cached(FrameDelta(*size), SEGMENT, CAP)
        assert self.router is not None
        # Shared by all heads, whose logits are summed.
        router = self.router[:, None].expand(-1, n, -1) / n
        return Mixture(FrameDelta(*size), router, TOP)

    @property
    def floats(self) -> int:
        """Of the state of one object."""
        return self.layer.nbytes // 4 // len(self.config.objects)

    def forward(
        self, packed: Tensor, key: Tensor, value: Tensor, gates: Gates, dt: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Write a frame, then read it: (state [B, N, floats], readout [B, N, Cv, P]); arguments as
        in ``kernels/gated_delta/op.py``."""
        layer = self.layer
        state = layer.write(self._unpacked(layer, packed), frame(key, value, gates, dt))
        heads = layer.heads
        return self.pack(state), self.readout(layer.read(state, query(key, heads)))

    def pack(self, state: LayerState) -> Tensor:
        """[B, N, floats]."""
        number = len(self.config.objects)
        each = (x.reshape(len(x), number, -1) for _, x in sorted(state.items()))
        return torch.cat(list(each), -1)

    def _unpacked(self, layer: Layer, packed: Tensor) -> LayerState:
        number, names = len(self.config.objects), sorted(layer.shapes)
        shapes = [layer.shapes[name] for name in names]
        sizes = [torch.Size(shape).numel() // number for shape in shapes]
        parts = torch.split(packed, sizes, -1)
        return {
            name: part.reshape(len(packed), *shape)
            for name, part, shape in zip(names, parts, shapes, strict=True)
        }

    def readout(self, out: Tensor) -> Tensor:
        """[B, P, N H, Dv] as [B, N, Cv, P]."""
        batch, pixels = out.shape[:2]
        number = len(self.config.objects)
        return out.reshape(batch, pixels, number, -1).permute(0, 2, 3, 1)


def digest(gates: Gates) -> str:
    """Tells the gates of one network from those of another."""
    flat = b"".join(x.detach().cpu().float().numpy().tobytes() for x in gates)
    return hashlib.sha256(flat).hexdigest()[:16]


def query(key: Tensor, heads: int) -> Tensor:
    """[B, Ck, P] as [B, P, ``heads``, Ck], of length 1."""
    return F.normalize(key.mT, dim=-1)[:, :, None].expand(-1, -1, heads, -1)


def frame(key: Tensor, value: Tensor, gates: Gates, dt: Tensor | None) -> Frame:
    """Of key [B, Ck, P], value [B, N, Cv, P] and dt [B], 1 if None."""
    batch, number, _, pixels = value.shape
    heads = len(gates.a_log)
    cells = value.permute(0, 3, 1, 2)
    beta = torch.sigmoid(F.linear(cells, gates.w_beta))
    g = -gates.a_log.exp() * F.softplus(F.linear(cells.mean(1), gates.w_alpha, gates.dt_bias))
    if dt is not None:
        g = g * dt[:, None, None]
    return Frame(
        query(key, number * heads),
        cells.reshape(batch, pixels, number * heads, -1),
        beta.flatten(2),
        g.flatten(1),
    )
