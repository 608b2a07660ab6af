"""TUM RGB-D (Sturm et al., IROS 2012): a Kinect's pictures with motion-capture poses.

A sequence is a folder with ``rgb.txt`` and ``depth.txt`` (time, file), ``groundtruth.txt`` (time,
tx ty tz qx qy qz qw) and the files; 5000 steps of depth a metre, registered to colour. Pictures,
depth and poses have times of their own: each picture takes the nearest within 0.02 s, or none. The
freiburg cameras are known by the folder's name; an ``intrinsics.json`` as in ``rgbd.py`` overrides
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.lens import Lens
from retain.datasets.scene.pictures import (
    DepthFile,
    Entry,
    PictureScene,
    Size,
    pose_of,
    reading,
    rows_in,
)
from retain.datasets.scene.rgbd import INTRINSICS, read_intrinsics
from retain.kernels.geometry.camera import Camera

MOST_S = 0.02
"""How far apart what belongs together may be, as in the benchmark's own tools."""
UNIT = 1 / 5000

Numbers = tuple[float, float, float, float]


def _lens(numbers: Numbers, distortion: tuple[float, ...] = ()) -> Lens:
    """From the benchmark's numbers, which count pixels from the centre of the first."""
    fx, fy, cx, cy = numbers
    return Lens(Camera(fx, fy, cx + 0.5, cy + 0.5, 640, 480), distortion)


DEFAULT = _lens((525.0, 525.0, 319.5, 239.5))
"""The sensor's nominal numbers, which the benchmark names for all of its sequences."""
KNOWN = {
    "freiburg1": _lens((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": _lens((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": _lens((535.4, 539.2, 320.1, 247.6)),
}


class TumRgbd(PictureScene):
    """A sequence, undistorted. ``Shot.seq`` is the place of the picture in ``rgb.txt``."""

    KEYS = ("rgb.txt", "depth.txt", "groundtruth.txt")

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        notes = []
        lens = next((KNOWN[name] for name in KNOWN if name in root.resolve().name), DEFAULT)
        if (root / INTRINSICS).is_file():
            lens = read_intrinsics(root / INTRINSICS)[1]
        elif lens is DEFAULT:
            notes.append("The folder's name tells no freiburg camera; 525 pixels are assumed.")
        stamps, images = _listed(root / "rgb.txt")
        depth_at, depths = _listed(root / "depth.txt")
        pose_at, poses = _poses(root / "groundtruth.txt")
        depth_of, pose_of = nearest(stamps, depth_at), nearest(stamps, pose_at)
        entries = [
            Entry(
                seq=seq,
                seconds=float(stamps[seq]),
                image=root / image,
                lens=lens,
                depth=None if depth_of[seq] < 0 else root / depths[depth_of[seq]],
                c2w=None if pose_of[seq] < 0 else poses[pose_of[seq]],
            )
            for seq, image in enumerate(images)
        ]
        what = f"TUM RGB-D sequence {root.name!r}"
        super().__init__(what, entries, notes=notes, depth=DepthFile(UNIT), size=size)

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / "rgb.txt").is_file()


def nearest(wanted: NDArray[np.float64], times: NDArray[np.float64]) -> list[int]:
    """For each time the place of the nearest of ``times``, which rise; -1 where none is within
    ``MOST_S``."""
    if not len(times):
        return [-1] * len(wanted)
    after = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
    before, after = after - 1, np.minimum(after, len(times) - 1)
    closer = np.where(wanted - times[before] <= times[after] - wanted, before, after)
    # A microsecond of grace: times near 1e9 s are not exact in binary.
    near = np.abs(times[closer] - wanted) <= MOST_S + 1e-6
    return [int(place) for place in np.where(near, closer, -1)]


def _listed(path: Path) -> tuple[NDArray[np.float64], Sequence[str]]:
    """Times, rising, and the files of them; nothing where there is no such list."""
    rows = rows_in(path) if path.is_file() else []
    with reading(path):
        found = sorted((float(stamp), name) for stamp, name in rows)
    return np.array([stamp for stamp, _ in found]), [name for _, name in found]


def _poses(path: Path) -> tuple[NDArray[np.float64], Sequence[NDArray[np.float64] | None]]:
    rows = rows_in(path) if path.is_file() else []
    with reading(path):
        table = np.array([[float(word) for word in row] for row in rows]).reshape(-1, 8)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], [pose_of(np.roll(row[4:], 1), row[1:4]) for row in table]
