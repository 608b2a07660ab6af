"""Short windows of any videos, varied as other cameras would have seen them, to learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from retain.datasets.detect.objects import ObjectVideo
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Image
from retain.pipeline.sources.any import AnySource

LENGTH = 12
"""Frames of a window."""
_STRIDES = (1, 1, 1, 2)
"""Every frame, or every second: as far as things move from frame to frame at usual rates."""
_LEAST_SIDE = 0.45
"""Of the picture: the smallest crop."""


@dataclass(frozen=True, slots=True)
class Window:
    """``LENGTH`` frames of one video."""

    images: list[Image]
    """uint8 [H, W, 3] RGB of one size."""
    seconds: list[float]


def of_objects(count: int, seed: int) -> Iterator[Window]:
    """``count`` windows of procedural clips, one each, from ``seed`` on."""
    for k in range(count):
        rng = np.random.default_rng((seed, k))
        stride = _STRIDES[int(rng.integers(len(_STRIDES)))]
        clip = ObjectVideo(seed + k, LENGTH * stride)
        taken = [clip[i] for i in range(0, LENGTH * stride, stride)]
        images = [sample.image for sample in taken]
        yield Window(varied(images, rng), [sample.seconds for sample in taken])


def of_videos(sources: Sequence[str], count: int, seed: int) -> Iterator[Window]:
    """``count`` windows, shared out among ``sources`` by the square root of their lengths.

    Raises SourceError for a source that is missing, broken or too short.
    """
    lengths = [_length(source) for source in sources]
    shares = np.sqrt(np.array(lengths, np.float64))
    ends = np.rint(np.cumsum(shares) / shares.sum() * count).astype(int)
    given = np.diff(ends, prepend=0)
    for n, (source, frames, windows) in enumerate(zip(sources, lengths, given, strict=True)):
        yield from _of_video(source, frames, int(windows), np.random.default_rng((seed, n)))


def _length(source: str) -> int:
    reader = AnySource(source)
    try:
        count = sum(1 for _ in reader.frames())
    finally:
        reader.close()
    if count < LENGTH:
        raise SourceError(
            SourceFault.EMPTY,
            f"{source!r} has {count} frames; to learn from a video takes at least {LENGTH}.",
        )
    return count


def _of_video(source: str, frames: int, windows: int, rng: np.random.Generator) -> Iterator[Window]:
    """Windows in the order in which they end, so that one pass over the video is enough."""
    plans = []
    for _ in range(windows):
        stride = min(_STRIDES[int(rng.integers(len(_STRIDES)))], (frames - 1) // (LENGTH - 1))
        start = int(rng.integers(0, frames - (LENGTH - 1) * stride))
        plans.append(range(start, start + LENGTH * stride, stride))
    plans.sort(key=lambda plan: plan[-1])
    held: dict[int, tuple[Image, float]] = {}
    reader = AnySource(source)
    try:
        for k, frame in enumerate(reader.frames()):
            if not plans:
                return
            if any(k in plan for plan in plans):
                held[k] = frame.image.copy(), frame.seconds
            while plans and plans[0][-1] == k:
                plan = plans.pop(0)
                images = varied([held[i][0] for i in plan], rng)
                yield Window(images, [held[i][1] for i in plan])
                first = min((plan[0] for plan in plans), default=k + 1)
                held = {i: one for i, one in held.items() if i >= first}
    finally:
        reader.close()


def varied(images: Sequence[Image], rng: np.random.Generator) -> list[Image]:
    """The same window as another camera saw it: a part of the picture that moves and grows
    evenly, maybe mirrored, in other light. The same for all frames."""
    height, width = images[0].shape[:2]
    side = float(rng.uniform(_LEAST_SIDE, 1)) if rng.random() < 0.8 else 1.0
    grows = float(np.exp(rng.normal(0, 0.06)))
    sides = np.clip(side * np.linspace(1, grows, len(images)), _LEAST_SIDE, 1)
    first, last = rng.random(2), rng.random(2)
    last = first + (last - first) * rng.uniform(0, 0.3)
    mirror = bool(rng.random() < 0.5)
    gain, hue = rng.uniform(0.8, 1.2, 3) * rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.25)
    out = []
    for k, (image, part) in enumerate(zip(images, sides, strict=True)):
        t = k / max(1, len(images) - 1)
        corner = (first + (last - first) * t) * (1 - part)
        left, top = corner * (width, height)
        shift = np.array([[1 / part, 0, -left / part], [0, 1 / part, -top / part]])
        seen = cv2.warpAffine(image, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        seen = seen[:, ::-1] if mirror else seen
        light = 255 * (seen.astype(np.float32) / 255) ** np.float32(hue) * gain.astype(np.float32)
        out.append(np.ascontiguousarray(np.clip(light, 0, 255).astype(np.uint8)))
    return out
