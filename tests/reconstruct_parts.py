"""What tests of `retain reconstruct` share: a small room, the command, what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
from command_parts import Retain, Said

ROOM = "room://?seed=1&frames=150"


FAST = ("--width", "96", "--limit", "14", "--refine", "1", "--finish", "3")


def reconstruct(retain: Retain, *arguments: object, runner: str = "inline") -> Said:
    return retain("reconstruct", "--no-page", "--runner", runner, *arguments)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def poses(folder: Path) -> list[dict[str, Any]]:
    """Of each frame, without the times."""
    said = [line["results"]["pose"] for line in lines(folder)]
    return [{name: value for name, value in pose.items() if name != "parts_ms"} for pose in said]


def frames(path: Path | str) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
