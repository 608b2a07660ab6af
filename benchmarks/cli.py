"""How long `retain --help` takes, against an interpreter that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from retain.apps.bench import Row, script

AREA = "apps"


def _wall(command: list[str], runs: int) -> list[float]:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return times


def measure(quick: bool = False) -> list[Row]:
    runs = 3 if quick else 9
    retain = str(Path(sys.executable).with_name("retain"))
    helps, bare, torches = [], [], []
    for _ in range(runs):  # interleaved: the machine's speed drifts
        helps += _wall([retain, "--help"], 1)
        bare += _wall([sys.executable, "-c", "import typer"], 1)
    torches = _wall([sys.executable, "-c", "import torch"], 1 if quick else 3)
    value, peer = statistics.median(helps), statistics.median(torches)
    return [
        Row(
            name="retain --help",
            value=value,
            unit="s",
            peer="import torch",
            peer_value=peer,
            ratio=peer / value,
            bar="< 0.5 s",
            met=value < 0.5,
        ),
        Row(
            name="retain --help, over bare typer",
            value=value,
            unit="s",
            peer="import typer",
            peer_value=statistics.median(bare),
            ratio=statistics.median(bare) / value,
        ),
    ]


if __name__ == "__main__":
    script(measure, "command line")
