"""Start a graph; wait for it the way a command line should."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Literal

from retain.pipeline.errors import GraphError, nearest
from retain.pipeline.graph import Graph, check_caller_sinks
from retain.pipeline.runners.base import Run, RunEvent, RunReport
from retain.pipeline.runners.supervisor import Supervision
from retain.pipeline.stage import Sink

__all__ = ["Run", "RunEvent", "RunReport", "Supervision", "run_until_done", "start"]

Runner = Literal["inline", "local"]


def start(
    graph: Graph,
    *,
    runner: Runner = "local",
    sinks: Mapping[str, Sink] | None = None,
    save: Mapping[str, str] | None = None,
    on_event: Callable[[RunEvent], None] | None = None,
    supervision: Supervision | None = None,
    resume: str | Path | None = None,
) -> Run:
    """Start ``graph`` and return at once.

    ``runner``: ``inline`` does everything in one thread of this process, in a fixed order;
    ``local`` gives each node a process. ``sinks``: objects for the sinks whose target is
    ``caller``; each is used by one thread of this process. ``save``: for stages with a state, the
    path it is written to when the stream has ended. ``on_event`` is called from threads of the
    run and should return quickly. ``supervision``: how the processes of ``local`` are looked after.

    ``resume``: the folder of a snapshot (``Run.snapshot``) of such a graph. A finite one goes on
    exactly where that was, so that both parts together give what one run would have given; a live
    one keeps its memories, and marks the gap.

    Raises GraphError when the graph, ``sinks`` and ``save`` do not fit together, StateError when
    ``resume`` does not fit the graph.
    """
    sinks, save = dict(sinks or {}), dict(save or {})
    graph.validate()
    check_caller_sinks(graph, sinks)
    stages = [node.name for node in graph.nodes.values() if node.role == "stage"]
    for name in save:
        if name not in stages:
            raise GraphError(f"There is no stage {name!r} to save.", hint=nearest(name, stages))
    pasts = holdings = None
    if resume is not None:
        from retain.pipeline.states import read

        pasts, holdings = read(Path(resume), graph)
    if runner == "inline":
        from retain.pipeline.runners.inline import InlineRun

        return InlineRun(graph, sinks, save, on_event, pasts, holdings)
    from retain.pipeline.runners.local import LocalRun

    return LocalRun(graph, sinks, save, on_event, supervision, pasts, holdings)


def run_until_done(run: Run) -> RunReport:
    """Wait for the end, minding signals: the first Ctrl-C (or SIGTERM) lets the run drain, the
    second cuts it short, the third waits no longer for what hangs (KeyboardInterrupt). Only from
    the main thread; earlier handlers are put back."""
    asked = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        run.stop(drain=asked == 1)
        if asked > 2:
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while True:
            try:
                return run.wait(0.2)
            except TimeoutError:
                continue
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
