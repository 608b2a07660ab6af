"""Clips to train on: phantoms drawn once into a cache, batches of a seed and a step alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.models.gdkvm.augment import augment, corrupt
from retain.models.gdkvm.draw import draw

VERSION = 2
"""Raise when the phantom's look changes, so that old caches are drawn anew."""

Progress = Callable[[int, int], None]
"""Called with (done, of)."""


@dataclass(frozen=True, slots=True)
class ClipCache:
    """Training clips, memory-mapped: uint8 [n, L, H, W], masks with 255 where nobody labelled."""

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.frames)


def phantoms(folder: Path, clips: int, size: int, seed: int, tell: Progress) -> ClipCache:
    """``clips`` phantom streams from the cache in ``folder``, drawn first where they are missing.

    Whole or not at all: an interrupted drawing leaves nothing behind under its name.
    """
    what = {"clips": clips, "size": size, "seed": seed, "version": VERSION}
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    place = folder / f"phantom-{name}"
    if not place.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=folder))
        try:
            draw(unfinished, clips, size, seed, tell)
            (unfinished / "meta.json").write_text(json.dumps(what))
            try:
                unfinished.replace(place)
            except OSError:  # another run was faster, and has drawn the same
                if not place.is_dir():
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return ClipCache(
        np.load(place / "frames.npy", mmap_mode="r", allow_pickle=False),
        np.load(place / "masks.npy", mmap_mode="r", allow_pickle=False),
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """``clip`` float32 [B, T, 1, H, W] in [-1, 1]; ``target`` int64 [B, T, H, W]."""

    clip: Tensor
    target: Tensor


def batch(
    cache: ClipCache,
    step: int,
    *,
    seed: int,
    size: int,
    length: int,
    corruption: float,
    rows: slice = slice(None),
) -> Batch:
    """``rows`` of the ``size`` of ``step``: the same whenever and wherever they are asked for."""
    clips, targets = [], []
    for row in range(size)[rows]:
        rng = np.random.default_rng([seed, step, row])
        chosen = int(rng.integers(len(cache)))
        window = times(rng, cache.frames.shape[1], length)
        frames, masks = augment(cache.frames[chosen][window], cache.masks[chosen][window], rng)
        clips.append(corrupt(frames, rng, corruption))
        targets.append(masks)
    return Batch(to_input(np.stack(clips)), torch.from_numpy(np.stack(targets)).long())


def times(rng: np.random.Generator, available: int, length: int) -> NDArray[np.int64]:
    """Which frames: each twice (a fast camera), or every 1st to 4th, starting anywhere it fits;
    three times in ten backwards."""
    most = max(1, min(4, (available - 1) // max(1, length - 1)))
    stride = int(rng.integers(0, most + 1)) or 0.5
    window = (np.arange(length) * stride).astype(np.int64)
    window += int(rng.integers(0, available - window[-1]))
    return window[::-1] if rng.random() < 0.3 else window


def to_input(frames: NDArray[np.float32]) -> Tensor:
    """Normalised grey [..., H, W] in 0..1 to what the network takes: [..., 1, H, W] in -1..1."""
    return torch.from_numpy((np.ascontiguousarray(frames) - 0.5) / 0.5).unsqueeze(-3)


def only_objects(target: Tensor, objects: Iterable[int]) -> Tensor:
    """Labels of a network with fewer objects: those not listed become background."""
    out = torch.where(target == 255, target, 0)
    for index, label in enumerate(objects, start=1):
        out = torch.where(target == label, index, out)
    return out
