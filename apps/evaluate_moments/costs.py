"""What a memory costs: time of a decision, time of a write, bytes against length."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from retain.apps.evaluate_moments.policies import Budget
from retain.apps.evaluate_moments.results import Bar, Score, Table
from retain.apps.evaluate_moments.tables import Options, Tell
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, Item
from retain.memory.router import Router, RouterConfig

DIM = 1280
"""Of the default encoder's features."""
BATCH = 500
STEPS = (1_000, 10_000, 100_000, 1_000_000)


def cost(options: Options, tell: Tell) -> Table:
    """Times on one core by thread CPU time, the least of many batches; bytes as the stream grows.

    The stream: a slow walk with cuts, at two frames a second. The first seed is enough: what is
    timed depends on sizes, not on content.
    """
    budget = options.budget
    configs = {
        "robust": FrameMemoryConfig(
            dim=DIM, max_entries=budget.entries, token_budget=budget.tokens, payload="none"
        ),
        "paper": FrameMemoryConfig.paper(DIM, payload="none", token_budget=budget.tokens),
    }
    scores = []
    for name, config in configs.items():
        tell(f"cost: {name}")
        decide, write = _times(config, 20 if options.quick else 60)
        scores += [
            Score(name, "decision, us", "1280 numbers a frame", decide, False),
            Score(name, "write, us", "1280 numbers a frame", write, False),
        ]
    tell("cost: length")
    sizes = _lengths(budget, STEPS[:2] if options.quick else STEPS)
    scores += [
        Score("robust", f"held, KiB, after {n:,} frames", "128 numbers a frame", [kib], False)
        for n, (kib, _) in sizes.items()
    ]
    first, last = sizes[STEPS[1]], list(sizes.values())[-1]
    scores.append(
        Score(
            "robust",
            f"peak resident growth since {STEPS[1]:,} frames, MiB",
            "128 numbers a frame",
            [last[1] - first[1]],
            False,
        )
    )
    return Table(
        "cost",
        "What a frame costs, and a stream's length",
        "Thread CPU time of one core. A decision is the score, the statistics, the route; a write"
        " is all of the rest but the picture's JPEG. Without the encoder, 8 to 20 ms.",
        scores,
        [
            Bar("robust, least decision, us", min(scores[0].values), 20.0, False),
            Bar(f"bytes at the end / after {STEPS[1]:,}", last[0] / first[0], 1.01, False),
        ],
    )


def _walk(dim: int, seed: int) -> Iterator[np.ndarray]:
    """Features without end, float32 [dim], not of unit length."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((4096, dim), np.float32)
    here, i = steps[0].copy(), 0
    while True:
        i += 1
        # Its own length stays near that of a step, however long the walk.
        here = steps[i % 4095].copy() if i % 40 == 0 else 0.999 * here + 0.05 * steps[i % 4096]
        yield here


def _times(config: FrameMemoryConfig, batches: int) -> tuple[list[float], list[float]]:
    """Microseconds per decision and per write, five batches' least each, twice and more."""
    router, memory = Router(RouterConfig(mode=config.router.mode), config.dim), FrameMemory(config)
    walk = _walk(config.dim, 0)
    picture = np.broadcast_to(np.zeros(3, np.uint8), (720, 1280, 3))
    decide, write = [], []
    for batch in range(batches + 1):
        rows = [next(walk) for _ in range(BATCH)]
        times = [(batch * BATCH + i) / 2 for i in range(BATCH)]
        start = time.thread_time()
        routes = [router.step(r[None], (t,))[0] for r, t in zip(rows, times, strict=True)]
        middle = time.thread_time()
        for i, (row, t, route) in enumerate(zip(rows, times, routes, strict=True)):
            memory.write("s", Item(picture, batch * BATCH + i, 0, Fraction(1), t, row, route))
        if batch:  # the first one compiles, and fills the memory
            decide.append((middle - start) / BATCH * 1e6)
            write.append((time.thread_time() - middle) / BATCH * 1e6)
    return [_least(decide, k) for k in range(5)], [_least(write, k) for k in range(5)]


def _least(values: list[float], k: int) -> float:
    """Of every fifth value, beginning with the k-th, the least."""
    return min(values[k::5])


def _lengths(budget: Budget, steps: tuple[int, ...]) -> dict[int, tuple[float, float]]:
    """Frames seen -> KiB of the stream's state, and MiB of the process at its largest."""
    memory = FrameMemory(
        FrameMemoryConfig(
            dim=128, max_entries=budget.entries, token_budget=budget.tokens, payload="none"
        )
    )
    out = {}
    for i, row in enumerate(_walk(128, 1)):
        t = i / 2
        route = memory.route("s", row, t)
        memory.write("s", Item(None, i, i, Fraction(1, 2), t, row, route))
        if i + 1 in steps:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            out[i + 1] = (memory.nbytes("s") / 1024, peak)
            if i + 1 == steps[-1]:
                break
    return out
