"""J and F of a tracker on clips with silhouettes, as DAVIS judges a semi-supervised one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from retain.datasets.detect.base import Clip, Sample
from retain.datasets.detect.jf import Judged, judge, overall
from retain.models.curvestream import torch_threads
from retain.models.object.given import Label, objects_of, renumbered
from retain.models.object.track import Planes
from retain.models.object.tracker import Tracker, TrackerOptions
from retain.pipeline.errors import UsageError

if TYPE_CHECKING:
    from retain.models.object.features import Features


@dataclass(frozen=True, slots=True)
class Scored:
    """How a tracker did on one clip."""

    name: str
    objects: tuple[Judged, ...]
    frames: int
    cpu_s: float
    """Of all frames after the first, in the process."""
    first_s: float
    """Of the first frame, in the process."""
    nbytes: int
    """Most bytes the memory had."""

    @property
    def all(self) -> Judged:
        return overall(self.objects)

    @property
    def per_second(self) -> float:
        """Frames per second of processor time."""
        return (self.frames - 1) / self.cpu_s if self.cpu_s else float("inf")


def largest(mask: Label, least: float, most: int) -> tuple[int, ...]:
    """Numbers, rising, of the ``most`` largest objects of ``mask`` that cover the share ``least``
    of it."""
    counts = np.bincount(mask.ravel(), minlength=256)[1:]
    big = np.flatnonzero(counts >= least * mask.size)
    order = big[np.argsort(-counts[big], kind="stable")][:most]
    return tuple(int(number) + 1 for number in np.sort(order))


def on_frame(planes: Planes, height: int, width: int) -> Label:
    """uint8 [height, width]: 0, or the number of the object that is likelier than all else."""
    large = np.stack(
        [cv2.resize(p, (width, height), interpolation=cv2.INTER_LINEAR) for p in planes]
    )
    best = large.argmax(axis=0)
    most = np.take_along_axis(large, best[None], axis=0)[0]
    return np.where(most > 1 - large.sum(axis=0), best + 1, 0).astype(np.uint8)


def score(
    clip: Clip, options: TrackerOptions, extract: Features, numbers: tuple[int, ...] = ()
) -> Scored:
    """Track the objects ``numbers`` of the first frame, or all in it, to the end of ``clip``.

    Raises UsageError for a clip whose first frame shows none, or frames without silhouettes.
    """
    first = clip[0]
    if first.mask is not None:
        numbers = numbers or objects_of(first.mask)
    if not numbers or first.mask is None:
        raise UsageError(
            f"The first frame of {clip.name!r} shows no object, so there is nothing to follow."
        )
    found: list[Label] = [renumbered(first.mask, numbers)]
    truth = [found[0]]
    tracker = Tracker(clip.name, len(numbers), first.image.shape[:2], options, extract)
    with torch_threads(options.threads):
        began = time.process_time()
        tracker.begin(first.image, found[0], first.seq, first.seconds)
        first_s = time.process_time() - began
        cpu_s, nbytes = 0.0, tracker.hub.nbytes
        for sample in _rest(clip):
            assert sample.mask is not None
            began = time.process_time()
            planes = tracker.look(sample.image, sample.seq, sample.seconds)
            found.append(on_frame(planes, *sample.image.shape[:2]))
            cpu_s += time.process_time() - began
            nbytes = max(nbytes, tracker.hub.nbytes)
            truth.append(renumbered(sample.mask, numbers))
    judged = tuple(
        judge((f == k for f in found), (t == k for t in truth)) for k in range(1, len(numbers) + 1)
    )
    return Scored(clip.name, judged, len(clip), cpu_s, first_s, nbytes)


def _rest(clip: Clip) -> Iterator[Sample]:
    for index in range(1, len(clip)):
        sample = clip[index]
        if sample.mask is None:
            raise UsageError(f"Frame {index} of {clip.name!r} has no silhouettes to judge by.")
        yield sample
