"""What a picture costs before a memory sees it: describing it, one by one and four together, and
drawing one of the generated videos.

CPU time of one thread, the least of several rounds that take turns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from retain.apps.bench import Row, script
from retain.datasets.detect.objects import ObjectVideo
from retain.models.encoders.base import create

AREA = "models"
ENCODERS = ("pixels", "mobilenetv2")
TOGETHER = 4
SIZE = 360, 640, 3
DRAWN = 20


def measure(quick: bool = False) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds = 3 if quick else 15
        return [*(_described(name, rounds) for name in ENCODERS), *_drawn(2 if quick else 5)]
    finally:
        torch.set_num_threads(threads)


def _described(name: str, rounds: int) -> Row:
    encoder, rng = create(name, device="cpu"), np.random.default_rng(0)
    images = [rng.integers(0, 256, SIZE, np.uint8) for _ in range(TOGETHER)]
    alone, together = _in_turns(
        rounds,
        lambda: [encoder.encode([image]) for image in images],
        lambda: encoder.encode(images),
    )
    return Row(
        name=f"{name}, a frame of 360p, {TOGETHER} together",
        value=together / TOGETHER,
        unit="ms",
        peer="one by one",
        peer_value=alone / TOGETHER,
        ratio=alone / together,
    )


def _drawn(rounds: int) -> list[Row]:
    """A frame of the generated objects, each of another moment, and a new video's world."""
    video = ObjectVideo(seed=3, frames=DRAWN, degraded="strong")
    drawn, world = _in_turns(
        rounds,
        lambda: [video[k] for k in range(DRAWN)],
        lambda: ObjectVideo(seed=4, frames=DRAWN, degraded="strong")[0],
    )
    one = drawn / DRAWN
    return [
        Row(name="objects, 320x240: a frame drawn", value=one, unit="ms"),
        Row(name="… the first of a new video, its world included", value=world, unit="ms"),
    ]


def _in_turns(rounds: int, *jobs: Callable[[], object]) -> list[float]:
    """Milliseconds of thread time of each."""
    best = [math.inf] * len(jobs)
    for _ in range(rounds):
        for k, job in enumerate(jobs):
            began = time.thread_time()
            job()
            best[k] = min(best[k], 1e3 * (time.thread_time() - began))
    return best


if __name__ == "__main__":
    script(measure, "inputs")
