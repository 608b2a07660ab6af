"""Whether memory, file descriptors and shared memory stay flat: the whole of `retain watch` over
100,000 generated frames (at 30 frames/s nearly an hour)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from retain.apps.bench import Row, script

AREA = "runtime"


def measure(quick: bool = False) -> list[Row]:
    frames = 10_000 if quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        source = f"synthetic://scenes?frames={frames}&size=160x120"
        command = [sys.executable, "-m", "retain.apps.cli", "watch", source, "--encoder", "pixels"]
        command += ["--fps", "0", "--no-page", "--out", str(out)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
            weighed = _weigh(running)
        summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == frames
    # The first fifth goes to start-up, imports and filling the memory to its budget.
    settled = weighed[len(weighed) // 5 : -1]
    third = max(1, len(settled) // 3)
    early, late = (
        [max(column) for column in zip(*part, strict=True)]
        for part in (settled[:third], settled[-third:])
    )
    growth = 100 * (late[0] / early[0] - 1)
    descriptors, rings = (now - before for now, before in zip(late[1:], early[1:], strict=True))
    return [
        Row(
            name=f"watch, {frames:,} frames: growth of resident memory, all processes",
            value=growth,
            unit="%",
            bar="< 5 %",
            met=growth < 5,
        ),
        Row(
            name="watch: file descriptors, all processes: growth",
            value=descriptors,
            unit=f"of {early[1]}",
            bar="0",
            met=descriptors <= 0,
        ),
        Row(
            name="watch: shared-memory rings, all processes: growth",
            value=rings,
            unit=f"of {early[2]}",
            bar="0",
            met=rings <= 0,
        ),
        Row(name="watch: resident memory, all processes", value=late[0] / 2**20, unit="MiB"),
        Row(name="watch: frames routed", value=frames / summary["took_s"], unit="frames/s"),
    ]


def _weigh(running: subprocess.Popen[bytes]) -> list[tuple[int, int, int]]:
    """Of the process and its children, five times a second until it ends: resident bytes, open
    file descriptors, and how many of those are rings of pictures."""
    weighed = []
    root = psutil.Process(running.pid)
    while running.poll() is None:
        try:
            family = [root, *root.children(recursive=True)]
            open_files = [file for process in family for file in _open_files(process.pid)]
            rings = sum("retain-ring" in file for file in open_files)
            resident = sum(process.memory_info().rss for process in family)
            weighed.append((resident, len(open_files), rings))
        except (psutil.NoSuchProcess, FileNotFoundError):
            pass
        time.sleep(0.2)
    return weighed


def _open_files(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    names = []
    for entry in os.listdir(folder):
        with suppress(FileNotFoundError):  # closed meanwhile
            names.append(os.readlink(f"{folder}/{entry}"))
    return names


if __name__ == "__main__":
    script(measure, "soak")
