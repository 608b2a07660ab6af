"""What memory rows add to one step of the sampler, beside the same step without them.

With rows at the time of the step (as published), and at a static time, whose keys and values are
made once for all steps. The bar: a tenth of a step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from retain.apps.bench import Row, script
from retain.models.ditmem.config import DitConfig
from retain.models.ditmem.guided import GuideConfig, Guided
from retain.models.ditmem.inject import MemoryRows
from retain.models.ditmem.train import recipe

AREA = "models"
Seconds = NDArray[np.float64]
REFERENCES = 3
MOST = 0.10
"""Share of a step that the memory may add."""
SHIPPED = "rows of their own keys"
"""The way that ships; the others are what was published."""


def measure(quick: bool = False) -> list[Row]:
    """CPU milliseconds of one thread per step (the least), what is added (the median over rounds),
    with weights drawn at random; and the encoder's once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = _size("12 px, 4 clips", recipe("tiny").dit, 4, 40 if quick else 400)
        rows += _size("12 px, 32 clips", recipe("tiny").dit, 32, 10 if quick else 80)
        if not quick:
            rows += _size("64 px, 1 clip", recipe("small").dit, 1, 12)
        return rows
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _size(name: str, dit: DitConfig, clips: int, rounds: int) -> list[Row]:
    torch.manual_seed(0)
    net = Guided(GuideConfig(dit=dit, training="frozen", reader="rows")).eval()
    own = Guided(GuideConfig(dit=dit, training="frozen"), net.dit).eval()
    shape = (dit.frames, dit.channels, dit.side, dit.side)
    references = torch.rand(1, REFERENCES, *shape)
    rows = net.rows(references)
    rows = replace(rows, valid=None).expand(clips)
    still = net.dit.cached(replace(rows, static_time=0.0))
    apart = replace(own.rows(references), valid=None).expand(clips)
    noisy = torch.randn(clips, *shape)
    given = (torch.arange(dit.frames) < 2).expand(clips, -1)
    s = torch.full((clips,), 0.5)

    def step(memory: MemoryRows | None) -> Callable[[], object]:
        return lambda: net.dit(noisy, s, noisy, given, memory)

    works = {
        "alone": step(None),
        "rows": step(rows),
        "rows, static time": step(still),
        SHIPPED: step(apart),
    }
    spent = _in_turns(works, rounds)
    plain = spent["alone"]
    out = [Row(name=f"{name}: a step without memory", value=_milliseconds(plain), unit="ms")]
    for way in (SHIPPED, "rows", "rows, static time"):
        added = float(np.median(spent[way] / plain)) - 1
        out.append(
            Row(
                name=f"{name}: {rows.tokens.shape[1]} {way} add to {dit.tokens} tokens",
                value=100 * added,
                unit="%",
                bar=f"<= {100 * MOST:.0f} %" if way == SHIPPED else "",
                met=added <= MOST if way == SHIPPED else None,
            )
        )
    encoded = _in_turns({"once": lambda: net.rows(references)}, rounds // 2)["once"]
    once = f"{name}: {REFERENCES} references encoded, once per clip"
    return [*out, Row(name=once, value=_milliseconds(encoded), unit="ms")]


def _in_turns(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """CPU seconds of each, [rounds], in turns, in an order that changes: a busy moment hits all
    alike, so that ratios within a round mean more than times."""
    for work in works.values():
        work()
    spent = {name: np.zeros(rounds) for name in works}
    rng = np.random.default_rng(0)
    for at in range(rounds):
        for name in rng.permutation(list(works)).tolist():
            start = time.thread_time()
            works[name]()
            spent[name][at] = time.thread_time() - start
    return spent


def _milliseconds(spent: Seconds) -> float:
    return 1000 * float(spent.min())


if __name__ == "__main__":
    script(measure, "ditmem")
