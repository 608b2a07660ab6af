"""Malformed messages and files, 10^5 and more: each is refused by name or taken whole.

Cases are drawn from a seed: damaged bytes (flips, cuts, splices, false lengths), well-formed
messages that say the wrong thing, and memory files altered *before* their checksum was computed,
which is how a forger would do it. What is taken in must then work: a message is written again, a
memory is read, written to and saved. Anything but WireError and StateError is a crash.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import resource
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from _fuzz_memories import entries_of_files, memory_files
from _fuzz_messages import control_messages, edge_messages, recordings
from _mutations import Feed, Mutator

from retain.apps.bench import Row, show
from retain.pipeline.errors import StateError, WireError

AREA = "runtime"
SEED = 1
ROOM = 1 << 30
"""Bytes of address space a run may ask for beyond what it started with."""


@dataclass
class Outcome:
    """What became of the cases of one target."""

    name: str
    seed: int
    cases: int = 0
    refused: int = 0
    taken: int = 0
    crashes: Counter[str] = field(default_factory=Counter)
    first: str = ""
    """Traceback of the first crash, and the case it was."""
    seconds: float = 0.0

    def __str__(self) -> str:
        crashed = ", ".join(f"{n} x {kind}" for kind, n in self.crashes.most_common()) or "0"
        return (
            f"{self.name}: {self.cases:,} cases (seed {self.seed}) in {self.seconds:.1f} s: "
            f"{self.refused:,} refused, {self.taken:,} taken whole, crashed: {crashed}"
        )


def fuzz(name: str, feed: Feed, cases: int, seed: int = SEED, first: int = 0) -> Outcome:
    """Run the cases ``first`` .. ``first + cases`` of a target."""
    outcome = Outcome(name, seed, cases)
    began = time.perf_counter()
    for number in range(first, first + cases):
        try:
            feed(Mutator(f"{seed}/{name}/{number}"))
            outcome.taken += 1
        except (WireError, StateError):
            outcome.refused += 1
        except Exception as error:
            outcome.crashes[type(error).__name__] += 1
            outcome.first = outcome.first or f"case {number}:\n{traceback.format_exc()}"
    outcome.seconds = time.perf_counter() - began
    return outcome


@contextmanager
def bounded(room: int = ROOM) -> Iterator[None]:
    """Within this block an allocation of more than ``room`` bytes fails instead of happening."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what libjpeg says of damaged pictures, which it writes past Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def measure(quick: bool = False, seed: int = SEED) -> list[Row]:
    share = 50 if quick else 1
    logging.getLogger("retain").setLevel(logging.ERROR)  # small memories say that they are small
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        targets: list[tuple[str, Feed, int]] = [
            ("messages of edges", edge_messages(), 150_000),
            ("messages of control", control_messages(), 50_000),
            ("memory files", memory_files(where), 60_000),
            ("memory files, entries only", entries_of_files(where), 20_000),
            ("recordings", recordings(where), 10_000),
        ]
        fuzz("warm-up", targets[2][1], 200)
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes = []
        with bounded(), quiet():
            for name, feed, cases in targets:
                outcomes.append(fuzz(name, feed, cases // share, seed))
                print(outcomes[-1], outcomes[-1].first, flush=True)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return _rows(outcomes, grown, 100_000 // share)


def _rows(outcomes: list[Outcome], grown: float, bar: int) -> list[Row]:
    refused = sum(outcome.refused for outcome in outcomes)
    crashes = sum(outcome.crashes.total() for outcome in outcomes)
    rows = [
        Row(name=f"{o.name}: refused of {o.cases:,}", value=o.refused, unit="cases")
        for o in outcomes
    ]
    return [
        *rows,
        Row(
            name="malformed messages and files refused",
            value=refused,
            unit="cases",
            bar=f">= {bar:,}",
            met=refused >= bar,
        ),
        Row(name="crashes", value=crashes, unit="cases", bar="0", met=crashes == 0),
        Row(
            name="growth of resident memory at its peak",
            value=grown,
            unit="MiB",
            bar="< 256 MiB",
            met=grown < 256,
        ),
        Row(name="all of it", value=sum(o.seconds for o in outcomes), unit="s"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the cases")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    rows = measure(given.quick, given.seed)
    show("fuzz", rows)
    raise SystemExit(1 if any(row.met is False for row in rows) else 0)
