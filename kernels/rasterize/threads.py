"""Work shared out over threads, for compiled functions that let the interpreter go.

As many threads as torch may use. Not numba's own: its portable layer ends the process when two
threads call it at once, the other dies in a fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="rasterize")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def share_out(work: Callable[..., None], count: int, share: int, *given: object) -> None:
    """``work(begin, end, *given)`` for all of ``range(count)``, ``share`` at a time, in any order;
    the calls write to different places, so that the number of threads changes no result."""
    begins = iter(range(0, count, share))

    def run(begins: Iterator[int]) -> None:
        for begin in begins:
            work(begin, min(begin + share, count), *given)

    helpers = min(torch.get_num_threads(), -(-count // share)) - 1
    waits = [_pool().submit(run, begins) for _ in range(helpers)]
    run(begins)
    for wait in waits:
        wait.result()
