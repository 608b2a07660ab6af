"""`retain watch` as a multiple of real time: 360p, 25 fps, sampled at 2 fps, page off."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _clips import decode_with_opencv, make_clip

from retain.apps.bench import Row, script

AREA = "apps"
SECONDS = 60


def measure(quick: bool = False) -> list[Row]:
    walls, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, width=640, height=360, frames=25 * SECONDS)
        retain = str(Path(sys.executable).with_name("retain"))
        for index in range(1 if quick else 3):
            out = str(Path(folder) / f"out{index}")
            start = time.perf_counter()
            command = [retain, "watch", str(clip), "--fps", "2", "--no-page", "--out", out]
            subprocess.run(command, check=True, capture_output=True)
            walls.append(time.perf_counter() - start)
            start = time.perf_counter()
            decode_with_opencv(clip)
            plain.append(time.perf_counter() - start)
    multiple = SECONDS / statistics.median(walls)
    return [
        Row(
            name="watch 360p, start-up and report included",
            value=multiple,
            unit="x real time",
            peer="opencv decode alone",
            peer_value=SECONDS / statistics.median(plain),
            ratio=multiple * statistics.median(plain) / SECONDS,
            bar=">= 5x real time",
            met=multiple >= 5,
        )
    ]


if __name__ == "__main__":
    script(measure, "watch")
