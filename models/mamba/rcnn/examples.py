"""Examples to learn from: a key frame, spoilt or not, and clean frames of the same scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retain.datasets.detect.base import Clip, Clips, Truth
from retain.datasets.detect.degrade import KINDS, degrade, preset
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image


@dataclass(frozen=True, slots=True)
class Example:
    """One key frame and what may be remembered while it is looked at."""

    key: Image
    truth: Truth
    """Of the key; nothing of it chooses what is remembered."""
    references: tuple[Image, ...]


def draw(
    clips: Clips, rng: np.random.Generator, references: int, share: float, degraded: str
) -> Example:
    """A labelled frame of a random clip, spoilt in ``share`` of cases with strengths of the preset
    ``degraded``, and other frames of its scene as they are. Raises UsageError where the clip
    has no labels."""
    clip = clips[int(rng.integers(len(clips)))]
    order = rng.permutation(len(clip)).tolist()
    key = next((k for k in order if clip.truth(k).labelled), None)
    if key is None:
        raise UsageError(f"The clip {clip.name!r} has no labelled frame to learn from.")
    sample = clip[key]
    image = sample.image
    others = [k for k in scene(clip, key) if k != key] or [key]
    chosen = rng.choice(others, references, replace=len(others) < references)
    if rng.random() < share:
        how = preset(degraded)
        kind = KINDS[int(rng.integers(len(KINDS)))]
        image = degrade(image, kind, float(rng.uniform(how.low, how.high)), rng)
    return Example(image, sample.truth, tuple(clip[int(k)].image for k in chosen))


def scene(clip: Clip, index: int) -> range:
    """Frames between the cuts around ``index``."""
    edges = [0, *sorted(clip.cuts), len(clip)]
    return range(
        max(edge for edge in edges if edge <= index), min(edge for edge in edges if edge > index)
    )


def numbers(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """The detector's number of each class in ``names``, the background being 0. Raises UsageError
    for a class that it does not know."""
    if unknown := [name for name in names if name not in known]:
        raise UsageError(
            f"The detector knows no {', '.join(unknown)}.",
            hint="Train on clips of its classes, or give it the names it was trained with.",
        )
    return [1 + list(known).index(name) for name in names]


def target(truth: Truth, classes: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Boxes float32 [n, 4] and labels int64 [n] as torchvision takes them: those that are to be
    found, cut at the frame's edges."""
    width, height = truth.size
    boxes = np.clip(truth.boxes, 0, [width, height, width, height]).astype(np.float32)
    good = truth.real & (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    labels = np.asarray(classes, np.int64)[truth.labels[good]]
    return {
        "boxes": torch.from_numpy(boxes[good]).to(device),
        "labels": torch.from_numpy(labels).to(device),
    }
