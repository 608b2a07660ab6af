"""CurveStream's frame memory: share of planted events that are still held at the end.

Four minutes of pictures at 1 frame a second, a scene still and panning in turn, a new one each
minute, with sixteen inserts of 1.5 s, flashes and exposure ramps. It is the router's own memory, so
its rule of writing is not in question here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from _subjects import Outcome, Stream
from retain.datasets.planted import Event, PlantedConfig, PlantedVideo, held_recall
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.memory.gate import WriteRule
from retain.models.curvestream import Encode
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding, Route

LEAST = 24 << 10
"""Bytes for pictures beside the fixed tables, at the smallest budget; then twice as many."""


@dataclass(frozen=True)
class Planted:
    events: list[Event]
    features: list[np.ndarray]


class Frames:
    name = "frame memory"
    unit = "planted events held, %"
    gated = False

    def streams(self, quick: bool) -> Sequence[Stream]:
        return [_stream(seed, 60 if quick else 240) for seed in range(1 if quick else 3)]

    def budgets(self, quick: bool) -> Sequence[int]:
        fixed = FrameMemory(FrameMemoryConfig()).min_bytes
        return [fixed + (LEAST << k) for k in range(0, 7, 3 if quick else 1)]

    def run(self, stream: Stream, rule: WriteRule, budget_bytes: int | None = None) -> Outcome:
        """The stage `remember` as it is by default, but for its byte budget; ``rule`` is the
        router's own."""
        budget = {} if budget_bytes is None else {"byte_budget": budget_bytes}
        memory, planted = FrameMemory(FrameMemoryConfig(**budget)), stream.truth
        routes: list[Route] = []
        began = time.thread_time()
        for frame, feature in zip(stream.frames, planted.features, strict=True):
            route, held = memory.observe(stream.name, frame, feature)
            routes.append(route)
        ms = 1000 * (time.thread_time() - began) / len(routes)
        recall = held_recall(planted.events, [entry.seconds for entry in held.entries])
        written = float(np.mean([route.state != "discard" for route in routes]))
        more = {"pictures held": float(len(held.entries))}
        return Outcome(100 * recall, written, ms, memory.nbytes(stream.name), more)


def _stream(seed: int, seconds: int) -> Stream:
    config = PlantedConfig(
        duration_s=seconds,
        fps=1.0,
        events=seconds // 15,
        strength=(0.4, 0.9),
        cut_s=60.0,
        flashes=seconds // 30,
        exposure=0.2,
        seed=3_000 + seed,
    )
    video = PlantedVideo(config)
    name = f"planted {seed}"
    frames = [
        Frame(name, n, n, Fraction(1, 1), np.ascontiguousarray(image))
        for n, (_, image) in enumerate(video)
    ]
    encode = Encode(device="cpu")
    features = [encode.process(Packet(f)).get("embedding", Embedding).vector for f in frames]
    return Stream(name, frames, [], Planted(video.events, features))


SUBJECT = Frames()
