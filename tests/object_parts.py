"""A small world for what follows objects: cheap features, and videos whose masks are known."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from retain.models.object.features import CHANNELS, STRIDES, colours
from retain.models.object.learn import Mode, Recipe
from retain.models.object.stage import SegmentObject
from retain.models.object.tracker import TrackerOptions
from retain.pipeline.frame import Frame, Image

torch.set_num_threads(1)  # sizes are small, and machines are shared

HEIGHT, WIDTH = 64, 96
Label = NDArray[np.uint8]


class Cheap:
    """Stands in for ``Features``: fixed random mixtures of colour at three scales."""

    device = "cpu"

    def __call__(self, picture: Image) -> dict[str, torch.Tensor]:
        out = {}
        for name, stride in STRIDES.items():
            size = (picture.shape[1] // stride, picture.shape[0] // stride)
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            seen = torch.from_numpy(small.astype(np.float32) / 255 - 0.5).permute(2, 0, 1)
            count = CHANNELS[name] - 3 * (name == "x4")
            mix = torch.randn(count, 3, generator=torch.Generator().manual_seed(stride))
            out[name] = torch.tanh(2 * torch.einsum("ck,khw->chw", mix, seen))[None]
        out["x4"] = torch.cat([out["x4"], colours(picture)], dim=1)
        return out


def options(mode: Mode = "hybrid", **recipe: object) -> TrackerOptions:
    how: dict[str, object] = {"every": 2, "first_steps": 40, **recipe}
    return TrackerOptions(
        recipe=Recipe(mode=mode, **how),  # type: ignore[arg-type]
        side=HEIGHT,
        examples=8,
        budget_bytes=2_000_000,
    )


def ground() -> Image:
    rng = np.random.default_rng(5)
    coarse = rng.integers(60, 140, (8, 12, 1), np.uint8).repeat(3, axis=2)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def scene(*places: tuple[float, float]) -> tuple[Image, Label]:
    """A picture and its mask: a red disc (1) and a green one (2), each at its (x, y)."""
    image, label = ground(), np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for k, (cx, cy) in enumerate(places):
        inside = np.hypot(x - cx, y - cy) < 11
        image[inside] = ((200, 40, 40), (40, 190, 60))[k]
        label[inside] = k + 1
    return image, label


def frame(seq: int, image: Image, stream: str = "main") -> Frame:
    return Frame(stream, seq, seq, Fraction(1, 25), np.ascontiguousarray(image))


def crossing(frames: int) -> Iterator[tuple[Image, Label]]:
    """The red disc goes from left to right through the picture."""
    for k in range(frames):
        yield scene((20 + 50 * k / max(frames - 1, 1), 30))


class Small(SegmentObject):
    """The stage with cheap features and a small working picture."""

    def __init__(self, mask: str, mode: Mode, every: int, budget_mb: float) -> None:
        super().__init__(mask, mode, every, side=HEIGHT, budget_mb=budget_mb)
        self._extract = Cheap()  # type: ignore[assignment]
