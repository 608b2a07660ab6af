"""A small GDKVM and clips for it: for tests of what does not depend on size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.data import ClipCache
from retain.models.gdkvm.network import Gdkvm

GRID = 32


def tiny_config(**changes: Any) -> GdkvmConfig:
    sizes = {"key_dim": 8, "value_dim": 16, "pixel_dim": 16, "sensory_dim": 8, "heads": 2}
    return GdkvmConfig(**({"grid": GRID, **sizes} | changes))


def tiny(seed: int = 0, **changes: Any) -> Gdkvm:
    """The same weights for a seed, whatever the switches."""
    torch.manual_seed(seed)
    return Gdkvm(tiny_config(**changes)).eval()


def clip(batch: int = 1, length: int = 5, grid: int = GRID, seed: int = 1) -> Tensor:
    """[B, T, 1, H, W] in -1..1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, length, 1, grid, grid, generator=generator) * 2 - 1


def random_cache(clips: int = 3, length: int = 12) -> ClipCache:
    """A bright disc of label 1 in a ring of label 2, beating and wandering in noise."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:GRID, :GRID]
    masks = np.zeros((clips, length, GRID, GRID), np.uint8)
    for i in range(clips):
        for t in range(length):
            distance = np.hypot(y - 14 - 2 * i, x - 16) - 2 * np.sin(t)
            masks[i, t][distance < 9] = 2
            masks[i, t][distance < 6] = 1
    looks = np.array([60, 30, 180], np.uint8)[masks]
    return ClipCache(looks + rng.integers(0, 60, looks.shape, dtype=np.uint8), masks)
