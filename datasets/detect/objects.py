"""Videos with objects made on the spot: exact boxes, tracks, silhouettes, known degradation.

Objects are assembled from moving parts, in any colour and texture, over a textured background with
clutter and moving distractors; they cross each other and pass behind poles while the camera pans.
Every frame is exposed for half of its time, and blurs accordingly. Some frames are spoilt, in
bursts, as ``degrade`` does it; the truth does not change by that. Everything follows from the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.base import (
    CLEAN,
    IGNORE,
    OCCLUDED,
    Degradation,
    Mask,
    Sample,
    Truth,
    truth_of,
)
from retain.datasets.detect.degrade import degrade, plan, preset
from retain.datasets.detect.objects_blend import expose, gather, over, own
from retain.datasets.detect.objects_kinds import NAMES
from retain.datasets.detect.objects_paint import Pixels
from retain.datasets.detect.objects_world import World, make_world
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import MAX_SIDE, Image

_SHUTTER = 0.5
"""Of a frame's time."""
_SMEAR = 1.5
"""Pixels between the moments of which an exposure is made, as far as ``_MOMENTS`` allow."""
_MOMENTS = 8
_GONE, _HIDDEN, _PARTLY = 0.1, 0.2, 0.75
"""Of an object's silhouette: less in the frame is not there; less to be seen is not to be judged;
less to be seen, or of a side of its box, counts as occluded."""
MOST_FRAMES = 1_000_000


class ObjectVideo:
    """One procedural Clip.

    seed           which video
    frames         how many
    width, height  of the frames; objects scale with the width
    rate           frames per second; the same motion is sampled more finely when it is higher
    degraded       ``clean``, ``mild`` or ``strong``: see ``degrade.PRESETS``

    Sample ``i`` is the same whichever samples were read before. Raises UsageError for options that
    are none.
    """

    names = NAMES
    cuts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        seed: int = 0,
        frames: int = 60,
        width: int = 320,
        height: int = 240,
        rate: float = 25.0,
        degraded: str = "clean",
    ) -> None:
        if seed < 0 or frames < 1 or not 0.1 <= rate <= 1000:
            raise UsageError("seed is from 0, frames from 1, rate from 0.1 to 1000.")
        _not_endless(frames)
        if not (32 <= width <= MAX_SIDE and 32 <= height <= MAX_SIDE):
            raise UsageError(f"Sides are from 32 to {MAX_SIDE} pixels, not {width}x{height}.")
        self.seed, self.rate, self._frames, self._size = seed, rate, frames, (width, height)
        self.name, self.numbers = f"objects-{seed:05d}", range(frames)
        rng = np.random.default_rng((seed, 1))
        self.degradations: tuple[Degradation, ...] = plan(frames, rng, preset(degraded))
        """What happens to each frame."""

    @cached_property
    def _world(self) -> World:
        return make_world(np.random.default_rng((self.seed, 0)), self._size)

    def __len__(self) -> int:
        return self._frames

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def truth(self, index: int) -> Truth:
        return self._seen(index, self._shapes(index))[0]

    def __getitem__(self, index: int) -> Sample:
        return self._sample(index, self.degradations[index])

    def clean(self, index: int) -> Sample:
        """The same frame, not degraded."""
        return self._sample(index, CLEAN)

    def _sample(self, index: int, how: Degradation) -> Sample:
        index = range(self._frames)[index]
        shapes = self._shapes(index)
        truth, mask = self._seen(index, shapes)
        rng = np.random.default_rng((self.seed, 2, index))
        image = degrade(self._exposed(index, shapes, rng), how.kind, how.strength, rng)
        return Sample(index, index / self.rate, image, truth, mask, how)

    def _shapes(self, index: int) -> list[Pixels]:
        t = range(self._frames)[index] / self.rate
        return [actor.shape(t) for actor in self._world.actors]

    def _exposed(self, index: int, shapes: Sequence[Pixels], rng: np.random.Generator) -> Image:
        world, span = self._world, _SHUTTER / self.rate
        middle = index / self.rate
        moments = int(np.clip(np.ceil(world.speed(middle) * span / _SMEAR), 1, _MOMENTS))
        total = np.zeros((self._size[1], self._size[0], 3), np.uint16)
        for moment in range(moments):
            gather(total, self._moment(middle + span * ((moment + 0.5) / moments - 0.5), shapes))
        left, top = (int(at) for at in rng.integers(0, 256, 2))
        return np.asarray(expose(total, moments, world.grain, left, top), np.uint8)

    def _moment(self, t: float, shapes: Sequence[Pixels]) -> Pixels:
        world = self._world
        image = world.backdrop(t)
        for actor, shape in zip(world.actors, shapes, strict=True):
            x, y = world.place(actor, t)
            layer, left, top = _moved(shape, x, y)
            over(image, layer, left, top)
        for left_edge, look in world.poles:
            over(image, look, world.pole_at(left_edge, t), 0)
        return image

    def _seen(self, index: int, shapes: Sequence[Pixels]) -> tuple[Truth, Mask]:
        """Boxes of whole silhouettes, cut by the frame, and who is seen in each pixel."""
        world, t = self._world, range(self._frames)[index] / self.rate
        owner = np.zeros((self._size[1], self._size[0]), np.uint8)
        rows: list[tuple[int, int, NDArray[np.float64], int, int]] = []
        for track, (actor, shape) in enumerate(zip(world.actors, shapes, strict=True)):
            layer, left, top = _moved(shape, *world.place(actor, t))
            name = track + 1 if actor.label >= 0 else 0
            inside = own(owner, layer, left, top, name)
            whole = int((layer[..., 3] > 127).sum())
            if name and inside >= max(1.0, _GONE * whole):
                rows.append((track, actor.label, self._box(layer, left, top), inside, whole))
        for left_edge, look in world.poles:
            own(owner, look, world.pole_at(left_edge, t), 0, 0)
        counts = np.bincount(owner.ravel(), minlength=256)
        flags = [
            (IGNORE if counts[track + 1] < _HIDDEN * whole else 0)
            | (OCCLUDED if counts[track + 1] < _PARTLY * inside or _cut(owner, track, box) else 0)
            for track, _, box, inside, whole in rows
        ]
        truth = truth_of(
            self._size,
            [row[2] for row in rows],
            [row[1] for row in rows],
            [row[0] for row in rows],
            flags,
        )
        return truth, owner

    def _box(self, layer: Pixels, left: int, top: int) -> NDArray[np.float64]:
        solid = layer[..., 3] > 127
        x, y = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
        box = np.array([x[0] + left, y[0] + top, x[-1] + 1 + left, y[-1] + 1 + top], np.float64)
        width, height = self._size
        return np.clip(box, 0, [width, height, width, height])


def _cut(owner: Mask, track: int, box: NDArray[np.float64]) -> bool:
    """Whether what is seen of an object spans much less than its box in a direction."""
    x0, y0, x1, y1 = box.astype(int)
    seen = owner[y0:y1, x0:x1] == track + 1
    for axis, side in ((0, x1 - x0), (1, y1 - y0)):
        at = np.flatnonzero(seen.any(axis))
        if not len(at) or at[-1] - at[0] + 1 < _PARTLY * side:
            return True
    return False


def _moved(shape: Pixels, x: float, y: float) -> tuple[Pixels, int, int]:
    """``shape`` with its middle at (x, y): shifted by less than a pixel, and its left and top."""
    import cv2

    half = shape.shape[0] // 2
    left, top = int(np.floor(x)), int(np.floor(y))
    shift = np.array([[1, 0, x - left], [0, 1, y - top]])
    layer = cv2.warpAffine(shape, shift, shape.shape[1::-1], flags=cv2.INTER_LINEAR)
    return layer, left - half, top - half


def _not_endless(frames: int) -> None:
    """Whoever opens clips counts their frames and plans what happens to each."""
    if frames > MOST_FRAMES:
        raise UsageError(f"All clips together have at most {MOST_FRAMES:,} frames, not {frames:,}.")


class ObjectVideos:
    """Clips ``seed``, ``seed`` + 1, ... of ObjectVideo, made when asked for."""

    names = NAMES
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        clips: int = 8,
        seed: int = 0,
        frames: int = 60,
        width: int = 320,
        height: int = 240,
        rate: float = 25.0,
        degraded: str = "clean",
    ) -> None:
        if clips < 1:
            raise UsageError("clips is from 1.")
        _not_endless(clips * frames)
        self._clips, self._seed = clips, seed
        self._how = (frames, width, height, rate, degraded)
        ObjectVideo(seed, *self._how)  # wrong options are told now

    def __len__(self) -> int:
        return self._clips

    def __getitem__(self, index: int) -> ObjectVideo:
        """Raises IndexError past the end."""
        return ObjectVideo(self._seed + range(self._clips)[index], *self._how)
