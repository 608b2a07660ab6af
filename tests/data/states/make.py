"""Store what memories hold, and what they hold some items later.

In the tree whose code is to write (README.md beside this file says which wrote which):
PYTHONPATH=.src:tests:tests/memory python PATH_TO/make.py NAME.zip [MEMORY ...]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from gaussian_parts import CAMERA, CONFIG, keyframe, pose
from test_laws import CASES

from retain.memory.gaussian.keyframe import Keyframe
from retain.memory.gaussian.memory import GaussianMemory
from retain.memory.snapshot import MemoryFile, save

ITEMS, MORE = 12, 6
"""Items until the state, and from there to what it is compared with."""


def walk(count: int, seed: int) -> Iterator[Keyframe]:
    """Keyframes of few Gaussians: small files."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        yield keyframe(i, pose(i + seed), CAMERA.resized(8, 6), rng, noise=0.01)


MAKE = {name: case.make for name, case in CASES.items()}
MAKE["gaussians"] = lambda: GaussianMemory(replace(CONFIG, byte_budget=60_000))
GIVE = {name: case.items for name, case in CASES.items()} | {"gaussians": walk}


def main(out: Path, names: list[str]) -> None:
    with TemporaryDirectory() as spare, ZipFile(out, "w", ZIP_DEFLATED, compresslevel=9) as archive:
        for name in names or sorted(MAKE):
            memory = MAKE[name]()
            for number, item in enumerate(GIVE[name](ITEMS + MORE, 0), 1):
                memory.write("s", item)
                if number in (ITEMS, ITEMS + MORE):
                    held = {name: (memory.config, memory.snapshot("s"))}
                    save(f"{spare}/state", MemoryFile("s", number - 1, held))
                    ending = "before" if number == ITEMS else "after"
                    archive.write(f"{spare}/state", f"{name}.{ending}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
