"""Two ways to run a clip through a detector with memory. Say which, whenever a number is given.

``causal``: what a stream can do. An empty bank at the start, the past only, the first frames are
only written.

``offline``: as MAMBA's figures were made (the code of 2024). Frames from the whole clip fill the
bank before the first is judged, and the rest follows in a shuffled order: it sees the future.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from retain.datasets.detect.base import Clip, Found
from retain.models.mamba.rcnn.network import MambaRCNN
from retain.models.mamba.rcnn.stream import RcnnMemory, RcnnMemoryConfig
from retain.pipeline.errors import UsageError

Order = Literal["causal", "offline"]

START = 14
"""Frames, evenly spread, that fill the bank before an ``offline`` run, beside the first one."""


def run(
    model: MambaRCNN,
    clip: Clip,
    order: Order = "causal",
    config: RcnnMemoryConfig | None = None,
    *,
    seed: int = 0,
) -> list[Found]:
    """What is found in each frame of ``clip``, in its order. ``seed``: of the shuffle."""
    if order not in ("causal", "offline"):
        raise UsageError(f"The protocol is 'causal' or 'offline', not {order!r}.")
    memory = RcnnMemory(model, clip.name, config)
    if order == "causal":
        cuts = set(clip.cuts)
        return [_look(memory, clip, i, cut=i in cuts) for i in range(len(clip))]
    for index in start_up(len(clip)):
        _look(memory, clip, index, read=False)
    found = {i: _look(memory, clip, i, read=True) for i in shuffled(len(clip), seed)}
    return [found[i] for i in range(len(clip))]


def start_up(frames: int) -> list[int]:
    """Frames that fill the bank: the first one and ``START`` from the whole clip. One may come
    twice."""
    if not frames:
        return []
    spread = np.linspace(0, frames - 1, min(START, frames)).round().astype(int).tolist()
    return [0, *spread]


def shuffled(frames: int, seed: int) -> list[int]:
    """The first frame, then the others in a random order."""
    rest = 1 + np.random.default_rng(seed).permutation(max(frames - 1, 0))
    return [*range(min(frames, 1)), *rest.tolist()]


def _look(
    memory: RcnnMemory, clip: Clip, index: int, *, read: bool | None = None, cut: bool = False
) -> Found:
    sample = clip[index]
    return memory.look(sample.image, sample.seq, sample.seconds, discontinuity=cut, read=read)
