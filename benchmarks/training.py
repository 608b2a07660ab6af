"""Training on two processes of one thread beside one process of two threads: the same commands, the
same batch. Seconds are those of the quickest step; both take turns."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from retain.apps.bench import Row, script

AREA = "models"
ROUNDS = 3
COMMANDS = {
    "gdkvm, clips": (6, ("gdkvm", "--clips", "6")),
    "detector, frames": (8, ("detector", "--clips", "0")),
}
"""Rows of a batch, and what trains it."""


def measure(quick: bool = False) -> list[Row]:
    steps = 4 if quick else 8
    chosen = list(COMMANDS.items())[: 1 if quick else None]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (batch, words) in chosen:
            best = {1: float("inf"), 2: float("inf")}
            losses: dict[int, list[float]] = {}
            for turn in range(1 if quick else ROUNDS):
                for processes in best:
                    out = Path(folder) / f"{words[0]}-{processes}-{turn}"
                    more = ("--cache", f"{folder}/cache") if words[0] == "gdkvm" else ()
                    curve = _train([words[0], str(out), *words[1:], *more], processes, steps)
                    best[processes] = min(best[processes], *(seconds for _, seconds in curve[1:]))
                    losses[processes] = [loss for loss, _ in curve]
            rows.append(
                Row(
                    name=f"{name}: 2 processes x 1 thread",
                    value=batch / best[2],
                    unit="/s",
                    peer="1 process x 2 threads",
                    peer_value=batch / best[1],
                    ratio=best[1] / best[2],
                )
            )
            apart = [abs(a - b) for a, b in zip(losses[1], losses[2], strict=True)]
            rows += [
                Row(name=f"{name}: losses differ, first step", value=apart[0], unit=""),
                Row(name=f"{name}: losses differ, step {steps}", value=apart[-1], unit=""),
            ]
    return rows


def _train(words: list[str], processes: int, steps: int) -> list[tuple[float, float]]:
    """Losses and seconds of the steps of `retain train` with ``words``."""
    run = [sys.executable]
    if processes > 1:
        run += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*run, "-m", "retain", "train", *words, "--steps", str(steps), "--device", "cpu"]
    threads = str(2 // processes)
    subprocess.run(
        [*command, "--threads", threads],
        env={**os.environ, "OMP_NUM_THREADS": threads},
        check=True,
        capture_output=True,
    )
    with (Path(words[1]) / "curve.csv").open(newline="") as file:
        return [(float(row["loss"]), float(row["seconds"])) for row in csv.DictReader(file)]


if __name__ == "__main__":
    script(measure, __doc__)
