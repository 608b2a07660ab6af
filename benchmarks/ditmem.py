"""What memory rows add to one step of the sampler, beside the same step without them.

With rows at the time of the step (as published), and at a static time, whose keys and values are
made once for all steps. The bar: a tenth of a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from retain.apps.bench import Row, script
from retain.models.ditmem.config import DitConfig
from retain.models.ditmem.guided import GuideConfig, Guided
from retain.models.ditmem.inject import MemoryRows
from retain.models.ditmem.train import recipe

REFERENCES = 3
MOST = 0.10
"""Share of a step that the memory may add."""


def measure(quick: bool = False) -> list[Row]:
    """CPU milliseconds of one thread per step, weights drawn at random, and the encoder's once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = _size("12 px, 4 clips", recipe("tiny").dit, 4, 20 if quick else 200)
        rows += _size("12 px, 32 clips", recipe("tiny").dit, 32, 5 if quick else 50)
        if not quick:
            rows += _size("64 px, 1 clip", recipe("small").dit, 1, 4)
        return rows
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _size(name: str, dit: DitConfig, clips: int, rounds: int) -> list[Row]:
    torch.manual_seed(0)
    net = Guided(GuideConfig(dit=dit, training="frozen")).eval()
    shape = (dit.frames, dit.channels, dit.side, dit.side)
    references = torch.rand(1, REFERENCES, *shape)
    rows = net.rows(references)
    rows = replace(rows, tokens=rows.tokens.expand(clips, -1, -1), valid=None)
    still = net.dit.cached(replace(rows, static_time=0.0))
    noisy = torch.randn(clips, *shape)
    given = (torch.arange(dit.frames) < 2).expand(clips, -1)
    s = torch.full((clips,), 0.5)

    def step(memory: MemoryRows | None) -> Callable[[], object]:
        return lambda: net.dit(noisy, s, noisy, given, memory)

    works = {
        "alone": step(None),
        "rows": step(rows),
        "rows, static time": step(still),
        "encoded": lambda: net.rows(references),
    }
    spent = _in_turns(works, rounds)
    plain = spent["alone"]
    out = [Row(name=f"{name}: a step without memory", value=1000 * plain, unit="ms")]
    for way in ("rows", "rows, static time"):
        added = spent[way] / plain - 1
        out.append(
            Row(
                name=f"{name}: {rows.tokens.shape[1]} {way} add to {dit.tokens} tokens",
                value=100 * added,
                unit="%",
                bar=f"<= {100 * MOST:.0f} %",
                met=added <= MOST,
            )
        )
    once = f"{name}: {REFERENCES} references encoded, once per clip"
    return [*out, Row(name=once, value=1000 * spent["encoded"], unit="ms")]


def _in_turns(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least CPU seconds of each, measured in turns, so that a busy moment hits all alike."""
    best = dict.fromkeys(works, float("inf"))
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            start = time.thread_time()
            work()
            best[name] = min(best[name], time.thread_time() - start)
    return best


if __name__ == "__main__":
    script(measure, "ditmem")
