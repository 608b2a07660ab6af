"""Streams and memories for the tests of retain.memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, Item
from retain.pipeline.frame import Frame
from retain.pipeline.results import Held


def features(count: int, dim: int = 32, seed: int = 0) -> np.ndarray:
    """Float32 [count, dim]: a slowly moving scene with a jump now and then."""
    rng = np.random.default_rng(seed)
    here = rng.standard_normal(dim)
    rows = []
    for _ in range(count):
        here = here + 0.03 * rng.standard_normal(dim)
        if rng.random() < 0.08:
            here = rng.standard_normal(dim)
        rows.append(here + 0.02 * rng.standard_normal(dim))
    return np.asarray(rows, np.float32)


def frames(
    count: int, width: int = 96, height: int = 64, seed: int = 0, stream: str = "s"
) -> Iterator[Frame]:
    """Smooth coloured pictures, two per second."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, width)[None, :, None]
    for i in range(count):
        colour = rng.integers(0, 256, 3)
        image = np.broadcast_to(colour * ramp, (height, width, 3)).astype(np.uint8)
        yield Frame(stream, i, i * 500, Fraction(1, 1000), np.ascontiguousarray(image))


def feed(memory: FrameMemory, rows: np.ndarray, stream: str = "s", fps: float = 2.0) -> Held:
    """Route and write bare features."""
    for i, feature in enumerate(rows):
        seconds = i / fps
        route = memory.route(stream, feature, seconds)
        memory.write(stream, Item(None, i, i, Fraction(1), seconds, feature, route))
    return memory.held(stream)


def bare(dim: int = 32, **changes: object) -> FrameMemory:
    """A frame memory without pictures."""
    values: dict[str, object] = {"dim": dim, "payload": "none", "max_entries": 20}
    return FrameMemory(FrameMemoryConfig(**(values | changes)))  # type: ignore[arg-type]
