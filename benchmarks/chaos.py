"""Random deaths at random times, one seed after another: what was promised must hold each time.

    python benchmarks/chaos.py --seeds 200

Every run has a source, three stages and a sink. A killer, all of whose choices come from the seed,
kills (SIGKILL) or stops (SIGSTOP) one to three of its processes. Live graphs must lose nothing
uncounted: captured = processed + dropped{cause}. Finite graphs must give what an undisturbed run
gives, byte for byte.
"""

from __future__ import annotations

import argparse
import logging
import random
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from runtime_parts import Recorder

from retain.apps.bench import Row, show
from retain.pipeline.graph import Graph, Promise
from retain.pipeline.run import RunEvent, RunReport, Supervision, start

AREA = "runtime"
PARTS = "runtime_parts:"
FRAMES = 120
STAGES = ("first", "second", "third")
SUPERVISION = Supervision(restarts=20, hang_s=2.0, silent_s=0.7, start_s=10.0, snapshot_s=0.15)


def graph(promise: Promise) -> Graph:
    made = Graph(promise=promise)
    made.source("cam", PARTS + "Clip", frames=FRAMES, pause_s=0.008 if promise == "live" else 0)
    made.stage("first", PARTS + "Mean", delay_s=0.004)
    made.stage("second", PARTS + "Mortal", how="none", seq=-1)
    made.stage("third", PARTS + "Invert")
    made.sink("out")
    policy = "drop_oldest(4)" if promise == "live" else "block"
    made.connect("cam", *STAGES, "out", policy=policy)
    return made


def once(promise: Promise, rng: random.Random) -> tuple[RunReport, Recorder, list[float], int]:
    """One run; seconds from each death to the next packet at the sink, and deaths."""
    out, waits, deaths = Recorder(), [], 0
    restarted = threading.Event()

    def hear(event: RunEvent) -> None:
        if event.kind == "restarted":
            restarted.set()

    with start(graph(promise), sinks={"out": out}, supervision=SUPERVISION, on_event=hear) as run:
        while not out.packets and run.running:
            time.sleep(0.005)
        for _ in range(rng.randint(1, 3)):
            time.sleep(rng.uniform(0, 0.25))
            child = run._crew.children[rng.choice(("cam", *STAGES))]  # type: ignore[attr-defined]
            if not run.running or child.process.poll() is not None or child.done:
                continue
            restarted.clear()
            died, seen = time.monotonic(), len(out.packets)
            child.process.send_signal(rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP)))
            deaths += 1
            while run.running and not (restarted.is_set() and len(out.packets) > seen):
                time.sleep(0.002)
                if restarted.is_set() is False and time.monotonic() > died + 5:
                    break
            if restarted.is_set() and len(out.packets) > seen:
                waits.append(time.monotonic() - died)
        return run.wait(60), out, waits, deaths


def violations(
    promise: Promise, report: RunReport, out: Recorder, whole: list[object]
) -> list[str]:
    found = [error.message for error in report.errors]
    for edge in report.stats.edges:
        if edge.captured != edge.delivered + sum(edge.dropped.values()) or edge.waiting:
            found.append(f"edge {edge}")
    for node in report.stats.nodes:
        into = [edge.delivered for edge in report.stats.edges if edge.dst == node.name]
        if into and sum(into) != node.received + node.quarantined:
            found.append(f"{node.name}: {into} delivered, {node.received} received")
    if out.seqs != sorted(set(out.seqs)):
        found.append(f"order {out.seqs}")
    if promise == "finite" and packets(out) != whole:
        found.append(f"output: {len(out.packets)} packets of {len(whole)}, or others")
    return found


def packets(out: Recorder) -> list[object]:
    return [
        (seq, pixels, [result.vector.tobytes() for result in results.values()])  # type: ignore[attr-defined]
        for seq, pixels, results in out.packets
    ]


def measure(quick: bool = False, seeds: int = 40, first: int = 0) -> list[Row]:
    """Rows of ``seeds`` runs; every violation is printed as it is found."""
    logging.disable(logging.WARNING)
    undisturbed = Recorder()
    start(graph("finite"), sinks={"out": undisturbed}).wait(60)
    whole = packets(undisturbed)
    violated = deaths = 0
    waits: list[float] = []
    for seed in range(first, first + (seeds // 10 if quick else seeds)):
        promise: Promise = "live" if seed % 2 else "finite"
        try:
            report, out, waited, died = once(promise, random.Random(seed))
            found = violations(promise, report, out, whole)
            deaths += died
            waits += waited
        except TimeoutError as error:
            found = [str(error)]
        violated += bool(found)
        if found:
            print(f"seed {seed} ({promise}): {found}", flush=True)
    logging.disable(logging.NOTSET)
    middle, most = float(np.median(waits)), max(waits)
    return [
        Row(name="processes killed or stopped", value=deaths, unit="deaths"),
        Row(
            name="seeds with a broken promise", value=violated, unit=f"of {seed + 1 - first}",
            bar="0", met=violated == 0,
        ),
        Row(
            name="death to the next result, median", value=middle, unit="s",
            bar="< 2 s", met=middle < 2,
        ),
        Row(name=f"longest ({SUPERVISION.silent_s:g} s to notice a stop)", value=most, unit="s"),
    ]  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    rows = measure(seeds=given.seeds, first=given.first)
    show("chaos", rows)
    sys.exit(1 if any(row.met is False for row in rows) else 0)
