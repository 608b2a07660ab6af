"""MAMBA's own read-out (arXiv 2401.09923): rows attend to remembered rows, by features alone.

``layers`` enhancements one after the other, each with a bank of its own that holds the rows as they
came to it (kernels/bank_read/geo.py). The output maps begin at zero, so an untrained one changes
no bit; as published they begin at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from retain.kernels.bank_read import geo
from retain.kernels.bank_read.reference import Geo
from retain.memory.bank.rows import GeoProjection
from retain.memory.base import Json

_MAPS = 4
Keys = tuple[Tensor, Tensor, Tensor | None]
"""Keys and values [R, H, D], and the places listed, int64 [K]; None: all."""


@dataclass(frozen=True, slots=True)
class PaperConfig:
    """Sizes of the read-out."""

    channels: int
    side: int
    """Longest side of the host's input; says what the weights are for, not read."""
    heads: int = 16
    layers: int = 2

    def as_json(self) -> dict[str, Json]:
        return {"kind": "paper", **asdict(self)}


class Paper(nn.Module):
    """See the module's text. Rows are standardised before and restored after."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("std", torch.ones(config.channels))
        c = config.channels
        self.maps = nn.ModuleList(nn.Linear(c, c) for _ in range(_MAPS * config.layers))
        """Of each layer: query, key, value, output."""
        for k, (weight, bias) in enumerate(self._pairs()):
            nn.init.normal_(weight, std=0.0 if k % _MAPS == _MAPS - 1 else c**-0.5)
            nn.init.zeros_(bias)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        every = list(self.maps.parameters())
        return list(zip(every[::2], every[1::2], strict=True))

    def weights(self, layer: int) -> Geo:
        pairs = self._pairs()[_MAPS * layer : _MAPS * (layer + 1)]
        return Geo(*(x for pair in pairs for x in pair))

    def projections(self) -> list[GeoProjection]:
        """What the banks keep of each row, one per layer."""
        heads = self.config.heads
        return [GeoProjection(self.weights(k), heads) for k in range(self.config.layers)]

    def project(self, layer: int, rows: Tensor) -> Keys:
        """Keys and values of standardised ``rows`` [M, C], with gradients."""
        return (*geo.project(rows, self.weights(layer), self.config.heads), None)

    def standard(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.std

    def forward(self, rows: Tensor, keys: Sequence[Keys]) -> tuple[Tensor, list[Tensor]]:
        """``rows`` [N, C] of the host, one entry of ``keys`` per layer. Enhanced rows [N, C], and
        what came to each layer, [N, C] standardised. Rows to which nothing is added are the same
        bits as before."""
        came, x = [], self.standard(rows)
        first = x
        for layer, (k, v, index) in enumerate(keys):
            came.append(x)
            listed = None if index is None else index[None]
            x = geo.enhance(x[None], k, v, self.weights(layer), listed)[0]
        added = (x - first) * self.std
        return torch.where(added == 0, rows, rows + added), came
