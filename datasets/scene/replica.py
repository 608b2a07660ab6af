"""Replica as NICE-SLAM renders it (Straub et al. 2019; Zhu et al., CVPR 2022).

A scene is a folder with ``results/frame000000.jpg``, ``results/depth000000.png`` (6553.5 steps a
metre) and ``traj.txt`` (camera to world, 16 numbers a line). ``cam_params.json``, beside it or one
level up, holds the camera; without it the published one is meant. Its trap: the camera counts
pixels from the centre of the first, so half a pixel is added here.
"""

from __future__ import annotations

import json
from pathlib import Path

from retain.datasets.scene.lens import Lens
from retain.datasets.scene.pictures import (
    RATE,
    DepthFile,
    Entry,
    PictureScene,
    Size,
    numbered,
    pose,
    reading,
    rows_in,
)
from retain.kernels.geometry.camera import Camera

PUBLISHED = Camera(600.0, 600.0, 600.0, 340.0, 1200, 680)
"""599.5 and 339.5 in its own counting."""
SCALE = 6553.5
"""Steps of depth per metre."""


class Replica(PictureScene):
    """A rendered sequence; line n of ``traj.txt`` belongs to picture n."""

    KEYS = ("traj.txt", "results")

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        camera, depth = _camera(root)
        lines = rows_in(root / "traj.txt")
        depths = numbered(root / "results", r"depth(\d+)\.png")
        entries = []
        with reading(root / "traj.txt"):
            for number, image in numbered(root / "results", r"frame(\d+)\.(?:png|jpe?g)").items():
                words = lines[number] if number < len(lines) else ()
                c2w = pose([float(word) for word in words])
                where = depths.get(number)
                entries.append(Entry(number, number / RATE, image, Lens(camera), where, c2w))
        super().__init__(f"Replica sequence {root.name!r}", entries, depth=depth, size=size)

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / "traj.txt").is_file() and (path / "results").is_dir()


def _camera(root: Path) -> tuple[Camera, DepthFile]:
    where = [folder / "cam_params.json" for folder in (root, root.parent)]
    path = next((path for path in where if path.is_file()), None)
    if path is None:
        return PUBLISHED, DepthFile(1 / SCALE)
    with reading(path):
        given = json.loads(path.read_text())["camera"]
        fx, fy, cx, cy, scale = (float(given[name]) for name in ("fx", "fy", "cx", "cy", "scale"))
        camera = Camera(fx, fy, cx + 0.5, cy + 0.5, int(given["w"]), int(given["h"]))
        return camera, DepthFile(1 / scale)
