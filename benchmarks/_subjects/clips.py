"""Reference clips of `imagine`: whether what obeys a law never seen looks newer than what obeys one
that was seen.

A camera watches balls under one hidden law after the other. Most of what it sees is worth nothing
as a reference: the same experiment again, the last picture standing still with a sensor's noise,
the lens covered. At the end come new experiments, by laws that it has seen and by laws that it has
not, in turns; quality is the AUC of their novelty. The weights are those that ship. The bank is
small (``ROWS`` clips): one of the default size would take hours of stream to fill. Only what comes
at the end is judged, which costs 43 ms a clip; the novelty of the rest enters no memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from _subjects import Outcome, Stream, routed
from retain.datasets.worlds.config import WorldConfig
from retain.datasets.worlds.draw import draw
from retain.memory.clips.clip import Frames
from retain.memory.gate import WriteRule
from retain.models.ditmem.evaluate import auc
from retain.models.ditmem.imaginer import Imaginer
from retain.models.ditmem.mind import Mind
from retain.models.ditmem.stage import Imagine
from retain.models.ditmem.weights import opened
from retain.pipeline.frame import Frame, Image
from retain.pipeline.results import Novelty

SEED = 700
"""Of worlds of the split that no training has seen."""
KNOWN, UNSEEN = 3, 12
"""Laws that hold for a while, and laws that hold for one experiment at the end."""
EXPERIMENTS, PROBES = 4, 4
"""Of each known law, at first and at the end."""
ROWS = 8
"""Clips that the bank of the table has room for."""
CLIP = 8
STRIDE = 4
RATE = 8
NOISE = 2.0
"""Grey levels, standard deviation."""


class Clips(Stream):
    """Write rules count its clips, as the stage does."""

    def gates(self, rule: WriteRule) -> list[float]:
        """Of each clip."""
        frames = super().gates(rule)
        spans = clips(self.frames)
        if not rule.by_router:
            return [rule.gate(n, empty=n == 0) for n in range(len(spans))]
        return [1.0 if n == 0 else float(np.mean(frames[a:b])) for n, (a, b) in enumerate(spans)]


@dataclass(frozen=True)
class Truth:
    known: frozenset[int]
    """Last frames (``seq``) of experiments at the end, by a law seen before ..."""
    unseen: frozenset[int]
    """... and by one that was not."""

    @property
    def begins(self) -> int:
        """``seq`` of the first frame of the end."""
        return min(self.known | self.unseen) - CLIP + 1


class Judge(Imaginer):
    """Judges nothing until it is told to."""

    judging = False

    def novelty(self, clip: Frames, references: Sequence[Frames], seed: int) -> tuple[float, float]:
        if not self.judging:
            return math.nan, math.nan
        return super().novelty(clip, references, seed)


class ReferenceClips:
    name = "reference clips"
    unit = "AUC of novelty"
    gated = True

    def __init__(self) -> None:
        self._make = Judge(opened("auto", "cpu"), "cpu")

    def streams(self, quick: bool) -> Sequence[Stream]:
        return [_stream(seed) for seed in range(1 if quick else 8)]

    def budgets(self, quick: bool) -> Sequence[int]:
        return [self._budget(rows) for rows in ((4, 32) if quick else (4, 8, 16, 32, 64))]

    def _budget(self, rows: int) -> int:
        mind = Mind("", self._make, 2_000_000, STRIDE)
        fixed = mind.windows.min_bytes + mind.notes.min_bytes
        return fixed + mind.clips.settings.nbytes(rows)

    def run(self, stream: Stream, rule: WriteRule, budget_bytes: int | None = None) -> Outcome:
        """Beside the AUC: how much better what obeys a known law is foreseen for references.
        CPU time is that of frames before the end."""
        budget = budget_bytes or self._budget(ROWS)
        stage = Imagine(budget_mb=budget / 1e6, write=str(rule), stride=STRIDE)
        stage._make, self._make.judging = self._make, False
        truth: Truth = stream.truth
        said: dict[int, Novelty] = {}
        began = time.thread_time()
        for n, packet in enumerate(stream.packets()):
            if packet.frame.seq == truth.begins:
                ms, self._make.judging = 1000 * (time.thread_time() - began) / n, True
            out = stage.process(packet)
            if out is not None and isinstance(found := out.results.get("novelty"), Novelty):
                said[packet.frame.seq] = found
        known, unseen = (
            [said[seq] for seq in sorted(group)] for group in (truth.known, truth.unseen)
        )
        quality = auc(np.array([n.score for n in known]), np.array([n.score for n in unseen]))
        foreseen = 1 - sum(n.guided for n in known) / sum(n.alone for n in known)
        mind = stage._mind
        assert mind is not None
        held = mind.clips.stats(mind.stream)
        more = {"foreseen, %": 100 * foreseen, "clips held": float(held["clips"])}
        return Outcome(quality, float(held["seen"]) / mind.offered, ms, mind.nbytes, more)


def clips(frames: Sequence[Frame]) -> list[tuple[int, int]]:
    """First frame, and that after the last, of each clip that the stage cuts."""
    spans, begun = [], 0
    for n, frame in enumerate(frames):
        begun = n if frame.discontinuity else begun
        count = n + 1 - begun
        if count >= CLIP and (count - CLIP) % STRIDE == 0:
            spans.append((n + 1 - CLIP, n + 1))
    return spans


def _stream(seed: int) -> Stream:
    rng = np.random.default_rng((SEED, seed))
    config = WorldConfig("ball", 12, CLIP, "test")
    drawn = draw(config, KNOWN + UNSEEN, EXPERIMENTS + PROBES, SEED + seed).frames
    shown = [np.rint(255 * world[:, :, 0]).astype(np.float64) for world in drawn]
    frames: list[Frame] = []

    def show(pictures: Iterator[np.ndarray] | Sequence[np.ndarray], cut: bool = True) -> int:
        for n, picture in enumerate(pictures):
            seq = 10_000 * seed + len(frames)
            image = _seen(picture, rng)
            fresh = cut and n == 0 and bool(frames)
            frames.append(
                Frame(f"balls {seed}", seq, seq, Fraction(1, RATE), image, discontinuity=fresh)
            )
        return frames[-1].seq

    for law in range(KNOWN):
        for experiment in shown[law][:EXPERIMENTS]:
            for _ in range(int(rng.integers(1, 4))):
                show(experiment)
            show([experiment[-1]] * int(rng.integers(4, 20)), cut=False)
            if rng.random() < 0.3:
                show([np.zeros((12, 12))] * CLIP)
    ends: tuple[list[int], list[int]] = [], []
    probes = [(0, shown[law][EXPERIMENTS + n]) for law in range(KNOWN) for n in range(PROBES)]
    probes += [(1, shown[KNOWN + law][EXPERIMENTS]) for law in range(UNSEEN)]
    for k in rng.permutation(len(probes)).tolist():
        which, experiment = probes[k]
        ends[which].append(show(experiment))
    truth = Truth(frozenset(ends[0]), frozenset(ends[1]))
    return Clips(frames[0].stream, frames, routed(frames, "pixels"), truth)


def _seen(picture: np.ndarray, rng: np.random.Generator) -> Image:
    """As a camera with a little noise gives it, uint8 [12, 12, 3]."""
    noisy = np.rint(picture + rng.normal(0, NOISE, picture.shape)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(noisy[:, :, None], 3, 2))


SUBJECT = ReferenceClips()
