"""The plain RGB-D folder: retain's own layout, for what no other format fits.

    intrinsics.json        {"fx": , "fy": , "cx": , "cy": , "width": , "height": ,
                            "depth_unit": metres of one step (0.001),
                            "rate": pictures per second (30),
                            "k1": , "k2": , "p1": , "p2": , "k3": distortion (0)}
    rgb/000000.png         or .jpg; the number is the picture's, gaps are allowed
    depth/000000.png       16 bits, registered to the picture of that number, 0 unknown; optional
    poses.txt              a line each: number, then 16 numbers, camera to world in rows; optional
    times.txt              a line each: number, seconds; optional

Only the first six numbers must be there; ``write.py`` writes such folders. Axes are OpenCV's,
lengths metres, and the first pixel has its centre at 0.5. ``#`` begins a comment. A distorted
picture's depth lies on its distorted pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from retain.pipeline.sources.common import check_file

INTRINSICS, RGB, DEPTH, POSES, TIMES = "intrinsics.json", "rgb", "depth", "poses.txt", "times.txt"


class RgbdFolder(PictureScene):
    """A folder as described above."""

    KEYS = (INTRINSICS, RGB)

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        given, lens = read_intrinsics(root / INTRINSICS)
        with reading(root / INTRINSICS):
            depth, rate = (
                DepthFile(float(given.get("depth_unit", 0.001))),
                float(given.get("rate", RATE)),
            )
            if not 1e-6 <= rate <= 1e6:
                raise ValueError(f"{rate} pictures a second cannot be")
        depths = numbered(root / DEPTH, r"(\d+)\.png")
        poses = _by_number(root / POSES)
        times = _by_number(root / TIMES)
        entries = [
            Entry(
                seq=number,
                seconds=times[number][0] if number in times else number / rate,
                image=image,
                lens=lens,
                depth=depths.get(number),
                c2w=pose(poses.get(number, ())),
            )
            for number, image in numbered(root / RGB, r"(\d+)\.(?:png|jpe?g)").items()
        ]
        what = f"RGB-D folder {root.name!r}"
        super().__init__(what, entries, depth=depth, size=size)

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / INTRINSICS).is_file() and (path / RGB).is_dir()


def read_intrinsics(path: Path) -> tuple[Mapping[str, Any], Lens]:
    """What an ``intrinsics.json`` holds, and its lens. Raises SourceError."""
    check_file(path)
    with reading(path):
        given = json.loads(path.read_text())
        fx, fy, cx, cy = (float(given[name]) for name in ("fx", "fy", "cx", "cy"))
        bent = [float(given.get(name, 0)) for name in ("k1", "k2", "p1", "p2", "k3")]
        camera = Camera(fx, fy, cx, cy, int(given["width"]), int(given["height"]))
        return given, Lens(camera, tuple(bent))


def _by_number(path: Path) -> dict[int, list[float]]:
    """Lines that begin with a picture's number; none where there is no such file."""
    rows = rows_in(path) if path.is_file() else []
    with reading(path):
        return {int(number): [float(word) for word in words] for number, *words in rows}
