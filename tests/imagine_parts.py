"""A small model that has learnt nothing, frames for it, and a stage on both."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from retain.models.ditmem.config import DitConfig, EncoderConfig
from retain.models.ditmem.guided import GuideConfig, Guided
from retain.models.ditmem.stage import Imagine
from retain.models.ditmem.weights import save
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet

DIT = DitConfig(dim=24, depth=1, heads=2, mlp=1)
CONFIG = GuideConfig(DIT, EncoderConfig(wide=(8, 8), heads=2), training="joint")


def guided(config: GuideConfig = CONFIG, seed: int = 0) -> Guided:
    """Weights at random; the head too, which begins at zero, so that the memory is felt."""
    torch.manual_seed(seed)
    made = Guided(config)
    torch.nn.init.normal_(made.dit.head.weight, std=0.1)
    return made


def weights(folder: Path, name: str = "small", **values: object) -> str:
    """A file of such a model."""
    path = folder / f"{name}.safetensors"
    save(path, guided(**values))  # type: ignore[arg-type]
    return str(path)


def frame(
    seq: int,
    pts: int | None = None,
    *,
    fresh: bool = False,
    stream: str = "main",
    made: bool = False,
) -> Frame:
    """A square that moves, 8 frames a second; ``made``: flagged as a model's."""
    image = np.full((24, 36, 3), 20, np.uint8)
    at = 3 * seq % 28
    image[8:16, at : at + 8] = (200, 220, 240)
    meta = {"synthetic": True} if made else {}
    when = seq if pts is None else pts
    return Frame(stream, seq, when, Fraction(1, 8), image, discontinuity=fresh, meta=meta)


def feed(stage: Imagine, frames: list[Frame]) -> list[Packet]:
    return [out for one in frames if (out := stage.process(Packet(one))) is not None]
