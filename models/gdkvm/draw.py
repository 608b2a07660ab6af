"""Draws phantoms into the arrays of a training cache, one process per core.

Every process writes its own rows of the files and says so with a byte; nothing else travels between
them. As a program: ``python -m retain.models.gdkvm.draw FOLDER SEED FIRST STEP``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from retain.datasets.echo.phantom import PhantomConfig, make_stream
from retain.pipeline.errors import RetainError

ARRAYS = ("frames", "masks")
PRESETS: tuple[Literal["easy", "default", "poor"], ...] = ("easy", "default", "default", "poor")
"""Of clip i: entry i modulo 4."""
SECONDS, FPS = 1.1, 22.0
"""A little more than a beat, densely enough for windows of many speeds."""
LENGTH = round(SECONDS * FPS)
"""Frames of a clip."""
FEW = 4
"""Clips worth a process of their own."""


def draw(place: Path, clips: int, size: int, seed: int, tell: Callable[[int, int], None]) -> None:
    """frames.npy and masks.npy in ``place``, uint8 [clips, LENGTH, size, size]. Clip i is of
    ``seed`` + i, whoever draws it. Raises RetainError when a process fails."""
    PhantomConfig(size=size)  # refuses sizes that cannot be drawn here, not in every process
    for name in ARRAYS:
        np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            place / f"{name}.npy", "w+", np.uint8, (clips, LENGTH, size, size)
        ).flush()
    processes = min(len(os.sched_getaffinity(0)), clips // FEW)
    if processes > 1:
        _share(place, clips, seed, processes, tell)
    else:
        rows(place, seed, 0, 1, lambda done: tell(done, clips))


def rows(place: Path, seed: int, first: int, step: int, tell: Callable[[int], None]) -> None:
    """Draw clips ``first``, ``first + step``, ... of the arrays in ``place``."""
    frames, masks = (np.load(place / f"{name}.npy", mmap_mode="r+") for name in ARRAYS)
    for done, i in enumerate(range(first, len(frames), step), 1):
        config = PhantomConfig(size=frames.shape[-1], preset=PRESETS[i % len(PRESETS)])
        clip = make_stream(seed + i, SECONDS, FPS, config)
        frames[i], masks[i] = clip.frames, clip.masks
        tell(done)
    frames.flush()
    masks.flush()


def _share(
    place: Path, clips: int, seed: int, processes: int, tell: Callable[[int, int], None]
) -> None:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = os.environ | one_thread | {"PYTHONPATH": path}
    started: list[subprocess.Popen[bytes]] = []
    told, tells = os.pipe()
    news = open(told, "rb", buffering=0)  # noqa: SIM115  closed at the very end
    try:
        with open(tells, "wb"):
            for first in range(processes):
                command = [sys.executable, "-P", "-m", "retain.models.gdkvm.draw"]
                command += [str(place), str(seed), str(first), str(processes)]
                # A session of its own: Ctrl-C in a terminal is for the parent alone.
                worker = subprocess.Popen(
                    command, stdout=tells, env=environment, start_new_session=True
                )
                started.append(worker)
        done = 0
        while news.read(1):
            done += 1
            tell(done, clips)
        if any(worker.wait() for worker in started):
            raise RetainError(
                "A process that draws phantoms failed; its own message is above.",
                hint="Often the disk is full: the cache needs 2 bytes per pixel.",
            )
    finally:
        for worker in started:
            worker.kill()
            worker.wait()
        news.close()


def _main() -> None:
    place, seed, first, step = sys.argv[1:]

    def tell(_: int) -> None:
        os.write(1, b".")

    rows(Path(place), int(seed), int(first), int(step), tell)


if __name__ == "__main__":
    _main()
