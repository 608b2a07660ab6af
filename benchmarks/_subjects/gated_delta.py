"""The gated-delta state: Dice of `segment` on phantom echo streams, with the shipped weights.

A stream beats; loses contact (black), is dimmed and goes half into shadow, for 3 to 9 frames each
time; stands still for almost a second; and ends in another view, after a jump of the probe. Truth
is the phantom's at every frame, also where nothing can be seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from _subjects import Outcome, Stream, routed
from retain.datasets.echo.clip import CAVITY, EchoClip
from retain.datasets.echo.metrics import dice
from retain.datasets.echo.phantom import PhantomConfig, make_stream
from retain.memory.gate import WriteRule
from retain.models.gdkvm.evaluate import HELD_OUT
from retain.models.gdkvm.place import masks_on_frame
from retain.models.gdkvm.stage import Segment
from retain.pipeline.frame import Frame
from retain.pipeline.results import Masks

RATE, SIZE = 30, 160
HELD = 25
"""Frames for which the picture stands still."""
HURT = ("black", "dim", "left", "right")


@dataclass(frozen=True)
class Truth:
    cavity: list[NDArray[np.bool_]]
    kind: NDArray[np.str_]
    """[frames], of ``seen``, ``held`` and ``HURT``."""


class GatedDeltaState:
    name = "gated-delta state"
    unit = "Dice"
    gated = True

    def streams(self, quick: bool) -> Sequence[Stream]:
        return [stream(seed) for seed in range(1 if quick else 5)]

    def budgets(self, quick: bool) -> Sequence[int]:
        """Its size is that of the weights; one size ships."""
        return [self._watch(Segment(device="cpu"), stream(0))[1]]

    def run(self, stream: Stream, rule: WriteRule, budget_bytes: int | None = None) -> Outcome:
        began = time.thread_time()
        found, nbytes = self._watch(Segment(device="cpu", write=str(rule)), stream)
        ms = 1000 * (time.thread_time() - began) / len(found)
        truth = stream.truth
        scores = np.array(
            [
                dice(masks_on_frame(masks, SIZE, SIZE) == 1, cavity)
                for masks, cavity in zip(found, truth.cavity, strict=True)
            ],
            float,
        )
        hurt = np.isin(truth.kind, HURT)
        more = {
            "Dice on black frames": float(np.nanmean(scores[truth.kind == "black"])),
            "Dice on dim and shadowed frames": float(
                np.nanmean(scores[hurt & (truth.kind != "black")])
            ),
        }
        written = float(np.mean(np.array(stream.gates(rule)) > 0))
        return Outcome(float(np.nanmean(scores)), written, ms, nbytes, more)

    def _watch(self, stage: Segment, stream: Stream) -> tuple[list[Masks], int]:
        packets = [out for packet in stream.packets() for out in stage.process(packet)]
        packets += stage.flush()
        return [p.get("masks", Masks) for p in packets], int(stage.stats()["memory_bytes"])  # type: ignore[arg-type]


def stream(seed: int) -> Stream:
    rng = np.random.default_rng([seed, 7])
    config = PhantomConfig(size=SIZE)
    clip, other = (make_stream(HELD_OUT + 500 * k + seed, 3.0, RATE, config) for k in (0, 1))
    pictures: list[NDArray[np.uint8]] = []
    cavity: list[NDArray[np.bool_]] = []
    kind: list[str] = []

    def show(clip: EchoClip, first: int, count: int, how: str = "seen") -> int:
        for t in range(first, first + count):
            pictures.append(hurt(clip.frames[t], how, rng))
            cavity.append(clip.masks[t] == CAVITY)
            kind.append(how)
        return first + count

    t = show(clip, 0, 20)
    for block in range(4):
        t = show(clip, t, int(rng.integers(3, 10)), HURT[(seed + block) % 4])
        t = show(clip, t, int(rng.integers(4, 9)))
        if block == 1:
            pictures += [pictures[-1]] * HELD
            cavity += [cavity[-1]] * HELD
            kind += ["held"] * HELD
    t = show(other, show(other, 0, 15), 6, "black")
    show(other, t, 12)
    frames = [
        Frame("main", 1000 * seed + n, n, Fraction(1, RATE), np.repeat(picture[..., None], 3, 2))
        for n, picture in enumerate(pictures)
    ]
    return Stream(f"phantom {seed}", frames, routed(frames), Truth(cavity, np.array(kind)))


def hurt(picture: NDArray[np.uint8], how: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    grey = picture.astype(np.float32)
    half = grey.shape[1] // 2
    match how:
        case "black":
            grey[:] = 0
        case "dim":
            grey = 0.25 * grey + 8 * rng.standard_normal(grey.shape) * (grey > 0)
        case "left":
            grey[:, :half] *= 0.1
        case "right":
            grey[:, half:] *= 0.1
    return np.clip(grey, 0, 255).astype(np.uint8)


SUBJECT = GatedDeltaState()
