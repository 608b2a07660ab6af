"""How far a run is, for a person: one line on stderr that keeps itself up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from retain.apps import console
from retain.pipeline.metrics import GraphStats
from retain.pipeline.run import Run

EVERY_S = 0.25


@contextmanager
def progress(run: Run, line: Callable[[float, GraphStats], str], began: float) -> Iterator[None]:
    """``line(elapsed_s, stats)`` while this lasts; nothing where nobody would see it. ``began``:
    of the monotonic clock."""
    screen = console.messages()
    if not screen.is_terminal:
        yield
        return
    from rich.live import Live

    stop = threading.Event()

    def now() -> str:
        stats = run.stats()
        return line(time.monotonic() - began, stats) + _away(stats)

    def refresh(update: Callable[[str], None]) -> None:
        while not stop.wait(EVERY_S):
            update(now())

    with Live(now(), console=screen, refresh_per_second=4, transient=True) as shown:
        thread = threading.Thread(target=refresh, args=(shown.update,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _away(stats: GraphStats) -> str:
    """What a source that is not giving anything says of itself."""
    said = [node.extra for node in stats.nodes if node.role == "source"]
    away = [own for own in said if own.get("state", "running") != "running"]
    return "".join(f" · source: {own['state']} {own.get('last_cause', '')}" for own in away)
