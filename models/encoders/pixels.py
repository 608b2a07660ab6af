"""A descriptor without weights: what colours and edges are where. For tests and bare machines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retain.models.encoders.base import Features, no_variant, squares, unit
from retain.pipeline.frame import Image

GRID, CELL, BINS = 4, 8, 4


class Pixels:
    """Mean colour and edge directions in each cell of a 4x4 grid, 112 numbers. Deterministic.

    It knows light and shapes, not things: enough to tell shots apart, not to find an object.
    """

    def __init__(self, variant: str = "", device: str = "auto", download: bool = False) -> None:
        no_variant("pixels", variant)

    @property
    def name(self) -> str:
        return "pixels"

    @property
    def dim(self) -> int:
        return GRID * GRID * (3 + BINS)

    def encode(self, images: Sequence[Image]) -> Features:
        side = GRID * CELL
        small = squares(images, side).astype(np.float32) / 255.0
        cells = (len(images), GRID, CELL, GRID, CELL)
        # Around mid-grey, so that dark and bright pictures point in different directions.
        colour = small.reshape(*cells, 3).mean((2, 4)) - 0.5
        grey = small.mean(3)
        dy, dx = np.gradient(grey, axis=(1, 2))
        turn = np.arctan2(dy, dx) % np.pi * (BINS / np.pi)
        bins = np.minimum(turn.astype(np.int64), BINS - 1)
        weight = np.hypot(dx, dy)[..., None] * (bins[..., None] == np.arange(BINS))
        edges = weight.reshape(*cells, BINS).mean((2, 4))
        return unit(np.concatenate([colour, 2.0 * edges], -1).reshape(len(images), self.dim))
