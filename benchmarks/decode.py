"""Decoding to RGB: our video source against OpenCV and decord, on the same file, in one run.

Also how much sampling saves: frames the watcher skips are decoded but never converted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _clips import decode_with_opencv, make_clip

from retain.apps.bench import Row, script

AREA = "runtime"


def _ours(path: Path, fps: float = 0.0) -> int:
    from retain.pipeline.sources.video import VideoSource

    source = VideoSource(source=str(path), fps=fps)
    source.open()
    count = sum(1 for _ in source.frames())
    source.close()
    return count


def _decord(path: Path) -> int:
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    return sum(1 for index in range(len(reader)) if reader[index].asnumpy() is not None)


def _rates(runs: dict[str, Callable[[], int]], total: int, rounds: int) -> dict[str, float]:
    """Median frames of video per second of wall clock; interleaved, the machine's speed drifts."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: total / statistics.median(values) for name, values in times.items()}


def measure(quick: bool = False) -> list[Row]:
    rows = []
    rounds = 2 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        for label, width, height, frames in (("360p", 640, 360, 500), ("1080p", 1920, 1080, 120)):
            path = Path(folder) / f"{label}.mp4"
            make_clip(path, width=width, height=height, frames=frames)
            rates = _rates(
                {
                    "ours": lambda path=path: _ours(path),
                    "sampled": lambda path=path: _ours(path, 2.0),
                    "opencv": lambda path=path: decode_with_opencv(path),
                    "decord": lambda path=path: _decord(path),
                },
                frames,
                rounds,
            )
            for peer in ("opencv", "decord"):
                rows.append(
                    Row(
                        name=f"decode {label} to RGB",
                        value=rates["ours"],
                        unit="frames/s",
                        peer=peer,
                        peer_value=rates[peer],
                        ratio=rates["ours"] / rates[peer],
                    )
                )
            rows.append(
                Row(
                    name=f"decode {label}, sampled at 2 fps",
                    value=rates["sampled"],
                    unit="frames/s",
                    peer="every frame to RGB",
                    peer_value=rates["ours"],
                    ratio=rates["sampled"] / rates["ours"],
                )
            )
    return rows


if __name__ == "__main__":
    script(measure, "decode")
