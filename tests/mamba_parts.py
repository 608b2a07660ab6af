"""Small streams for the memory of a detector: a red square on grey, and the host that sees it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from detect_app_parts import Colours

from retain.models.mamba.gated import Gated, GatedConfig
from retain.models.mamba.paper import Paper, PaperConfig
from retain.models.mamba.windows import LENGTH, Window
from retain.pipeline.frame import Image

HOST = Colours()


def picture(
    left: float, *, seed: int = 0, size: tuple[int, int] = (160, 96), red: int = 250
) -> Image:
    """uint8 [H, W, 3]: textured grey with a square of 32 pixels, its left side at ``left``."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 160, (size[1] // 16, size[0] // 16))
    grey = np.kron(coarse, np.ones((16, 16))).astype(np.uint8)
    image = np.repeat(grey[..., None], 3, axis=2)
    if red:
        image[32:64, int(left) : int(left) + 32] = (red, 20, 20)
    return image


def dulled(image: Image) -> Image:
    """Almost no colour and no contrast: the host finds nothing in it."""
    grey = image.mean(2, keepdims=True)
    return np.repeat(0.3 * grey + 60, 3, axis=2).astype(np.uint8)


def windows(count: int, seed: int) -> Iterator[Window]:
    for k in range(count):
        rng = np.random.default_rng((seed, k))
        left, speed = rng.uniform(0, 60), rng.uniform(0, 4)
        images = [picture(left + speed * i, seed=seed + k) for i in range(LENGTH)]
        yield Window(images, [i / 24 for i in range(LENGTH)])


def gated(*, opened: bool = True, seed: int = 0) -> Gated:
    """A read-out of random weights; ``opened``: one that changes what it reads."""
    torch.manual_seed(seed)
    readout = Gated(GatedConfig(HOST.channels, HOST.side)).eval()
    if opened:
        readout.scale.fill_(1.0)
    return readout.requires_grad_(False)


def paper(*, opened: bool = True, seed: int = 0) -> Paper:
    torch.manual_seed(seed)
    readout = Paper(PaperConfig(HOST.channels, HOST.side, heads=2)).eval()
    if opened:
        with torch.no_grad():
            for weight in readout.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return readout.requires_grad_(False)
