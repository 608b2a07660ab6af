"""Whether memory stays flat: the whole of `retain watch` over 100,000 generated frames."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from retain.apps.bench import Row, script


def measure(quick: bool = False) -> list[Row]:
    frames = 10_000 if quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        source = f"synthetic://scenes?frames={frames}&size=160x120"
        command = [sys.executable, "-m", "retain.apps.cli", "watch", source, "--encoder", "pixels"]
        command += ["--fps", "0", "--no-page", "--out", str(out)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
            weights = _weigh(running)
        summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == frames
    # The first fifth goes to start-up, imports and filling the memory to its budget.
    settled = weights[len(weights) // 5 : -1]
    third = max(1, len(settled) // 3)
    early, late = max(settled[:third]), max(settled[-third:])
    growth = 100 * (late / early - 1)
    return [
        Row(
            name=f"watch, {frames:,} frames: growth of resident memory, all processes",
            value=growth,
            unit="%",
            bar="< 5 %",
            met=growth < 5,
        ),
        Row(name="watch: resident memory, all processes", value=late / 2**20, unit="MiB"),
        Row(name="watch: frames routed", value=frames / summary["took_s"], unit="frames/s"),
    ]


def _weigh(running: subprocess.Popen[bytes]) -> list[int]:
    """Resident bytes of the process and its children, five times a second until it ends."""
    weights = []
    root = psutil.Process(running.pid)
    while running.poll() is None:
        try:
            family = [root, *root.children(recursive=True)]
            weights.append(sum(process.memory_info().rss for process in family))
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.2)
    return weights


if __name__ == "__main__":
    script(measure, "soak")
