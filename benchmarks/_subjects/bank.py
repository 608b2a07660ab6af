"""The detector's memory: AP50 on spoilt frames of generated clips, small host and its read-out.

A clip moves, is spoilt in bursts (shaken, out of focus, dark, covered) of which one is long, stands
still for a second (every frame the same), and ends in another scene.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from _subjects import Outcome, Stream, routed
from retain.datasets.detect.base import Found, Truth
from retain.datasets.detect.degrade import KINDS, degrade
from retain.datasets.detect.evaluate import evaluate
from retain.datasets.detect.objects import ObjectVideo
from retain.memory.gate import WriteRule
from retain.models.curvestream import torch_threads
from retain.models.mamba.carry import BoxCarry, FoundAt
from retain.models.mamba.host import Cells
from retain.models.mamba.hosts.open import open_host
from retain.models.mamba.memory import Memory, MemoryOptions, Seen
from retain.models.mamba.weights import load_readout, shipped_for
from retain.pipeline.frame import Frame, Image
from retain.pipeline.results import Boxes

SEED = 2_100_000
"""Neither the detector nor the memory was trained on clips from here on."""
RATE = 25
ROWS = (4, 16, 64, 128, 256, 600)
"""Of the bank, at the budgets that are tried. `detect` takes no budget for fewer than 64."""


@dataclass(frozen=True)
class Clip:
    truths: list[Truth]
    cells: list[Cells]
    """What the host says of each frame, whatever is remembered."""
    spoilt: np.ndarray
    """bool [frames]."""


class FeatureBank:
    name = "feature bank"
    unit = "AP50 on spoilt frames, %"
    gated = True

    def __init__(self) -> None:
        self._host = open_host("small", "cpu")
        name = shipped_for(self._host)
        assert name is not None
        self._readout = load_readout(name, self._host)
        hub = self._memory(MemoryOptions()).hub
        self._row: int = hub["bank"].row_bytes  # type: ignore[attr-defined]
        self._fixed = sum(hub[name].min_bytes for name in hub if name != "bank")

    def streams(self, quick: bool) -> Sequence[Stream]:
        return [self._stream(seed) for seed in range(1 if quick else 6)]

    def _stream(self, seed: int) -> Stream:
        pictures, truths, spoilt = drawn(seed)
        frames = [
            Frame(f"objects-{seed}", 1000 * seed + n, n, Fraction(1, RATE), picture)
            for n, picture in enumerate(pictures)
        ]
        with torch_threads(1):
            cells = [self._host.describe([picture])[0] for picture in pictures]
        clip = Clip(truths, cells, np.array(spoilt))
        return Stream(frames[0].stream, frames, routed(frames), clip)

    def budgets(self, quick: bool) -> Sequence[int]:
        return [self._fixed + count * self._row for count in (ROWS[1::3] if quick else ROWS)]

    def _memory(self, options: MemoryOptions) -> Memory:
        return Memory(self._host, self._readout, options, "stream")

    def run(self, stream: Stream, rule: WriteRule, budget_bytes: int | None = None) -> Outcome:
        """The bank without the carry, which hides a part of what it does; with it beside. What the
        host alone does to a picture is not timed."""
        options = MemoryOptions()
        if budget_bytes is not None:
            rows = (budget_bytes - self._fixed) // self._row
            options = MemoryOptions(capacity=rows, budget_bytes=budget_bytes)
        memory, clip = self._memory(options), stream.truth
        found: list[Seen] = []
        written = []
        began = time.thread_time()
        with torch_threads(1):
            for frame, route, cells in zip(stream.frames, stream.routes, clip.cells, strict=True):
                gate = rule.gate(frame.seq, route)
                seen = memory.see(cells, frame.seq, frame.seconds, cut=route.cut, gate=gate)
                written.append(gate > 0)
                found.append(seen)
        ms = 1000 * (time.thread_time() - began) / len(found)
        boxes = [_found(seen.boxes) for seen in found]
        more = {
            "untouched frames": self._ap50(clip, boxes, ~clip.spoilt),
            "with the carry": self._ap50(clip, _with_carry(stream, found), clip.spoilt),
            "the detector alone": self._ap50(
                clip, [_found(seen.plain) for seen in found], clip.spoilt
            ),
        }
        quality = self._ap50(clip, boxes, clip.spoilt)
        return Outcome(quality, float(np.mean(written)), ms, memory.hub.nbytes, more)

    def _ap50(self, clip: Clip, found: list[Found], frames: np.ndarray) -> float:
        kept = np.flatnonzero(frames)
        truths = [clip.truths[k] for k in kept]
        return 100 * evaluate(truths, [found[k] for k in kept], self._host.names).whole.ap50


def _found(boxes: Boxes) -> Found:
    return Found(boxes.boxes, boxes.scores, boxes.labels.astype(np.int64))


def _with_carry(stream: Stream, seen: list[Seen]) -> list[Found]:
    """What the stage shows: the carry takes what the bank said, and no bank reads the carry."""
    carry, out = BoxCarry(), []
    for frame, one in zip(stream.frames, seen, strict=True):
        if one.reset:
            carry.reset("stream")
        item = FoundAt(_found(one.boxes), frame.seq, frame.seconds, one.boxes.memory)
        out.append(carry.write("stream", item).found)
    return out


def drawn(seed: int) -> tuple[list[Image], list[Truth], list[bool]]:
    """Pictures, truth, and which are spoilt."""
    rng = np.random.default_rng((seed, 3))
    clip, other = (ObjectVideo(SEED + 2 * seed + k, frames=120, rate=RATE) for k in (0, 1))
    pictures: list[Image] = []
    truths, spoilt = [], []

    def show(video: ObjectVideo, first: int, count: int, hurt: bool = False) -> int:
        kind, strength = KINDS[int(rng.integers(len(KINDS)))], float(rng.uniform(0.42, 1))
        for k in range(first, first + count):
            sample = video[k]
            image = degrade(sample.image, kind, strength, rng) if hurt else sample.image
            pictures.append(np.ascontiguousarray(image))
            truths.append(sample.truth)
            spoilt.append(hurt)
        return first + count

    at = show(clip, 0, 12)
    for length in (3, 5, 24, 4):
        at = show(clip, at, length, hurt=True)
        at = show(clip, at, int(rng.integers(5, 10)))
    pictures += [pictures[-1]] * RATE
    truths += [truths[-1]] * RATE
    spoilt += [False] * RATE
    at = show(clip, at, 4, hurt=True)
    show(clip, at, 5)
    at = show(other, 0, 10)
    show(other, at, 8, hurt=True)
    return pictures, truths, spoilt


SUBJECT = FeatureBank()
