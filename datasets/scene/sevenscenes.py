"""7-Scenes (Shotton et al., CVPR 2013): a Kinect's pictures with KinectFusion's poses.

A sequence is a folder of ``frame-000000.color.png`` (or .jpg), ``.depth.png`` (16-bit millimetres,
0 or 65535 unknown) and ``.pose.txt`` (camera to world). Its traps: depth is not registered to
colour, and the poses are those of the depth camera. Microsoft's terms allow non-commercial
research: measure on it, do not ship it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from retain.datasets.scene.lens import Lens
from retain.datasets.scene.pictures import (
    RATE,
    DepthFile,
    Entry,
    PictureScene,
    Size,
    numbered,
    numbers_in,
    pose,
    reading,
)
from retain.datasets.scene.register import register
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera

COLOUR = Camera(525.0, 525.0, 320.0, 240.0, 640, 480)
DEPTH = Camera(585.0, 585.0, 320.0, 240.0, 640, 480)
DEPTH_TO_COLOUR = np.array(
    (
        (0.999965, 0.002677, -0.007904, -0.025559),
        (-0.002741, 0.999963, -0.008150, 0.000101),
        (0.007882, 0.008172, 0.999936, 0.002032),
        (0.0, 0.0, 0.0, 1.0),
    )
)
"""Coordinates of the depth camera to those of the colour camera: the Kinect calibration in use for
this data, as the data set itself gives none."""
INTRINSICS = "camera-intrinsics.txt"


class SevenScenes(PictureScene):
    """A sequence of 7-Scenes, poses and depth brought to the colour camera.

    ``Shot.seq`` is the number in the file's name, and its time that number at 30 per second. A
    ``camera-intrinsics.txt`` (as in excerpts of the data) holds the depth camera's 3x3 matrix.
    """

    KEYS = ("frame-*.color.*", "frame-*.depth.png", "frame-*.pose.txt")

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        seen_by = _depth_camera(root / INTRINSICS)
        move = partial(register, seen_by=seen_by, wanted=COLOUR, motion=DEPTH_TO_COLOUR)
        images = numbered(root, r"frame-(\d+)\.color\.(?:png|jpe?g)")
        super().__init__(
            f"7-Scenes sequence {root.name!r}",
            [_entry(root, number, image) for number, image in images.items()],
            notes=("Depth and poses, which are the depth camera's, were brought to the colour's.",),
            depth=DepthFile(0.001, 65535, seen_by, move),
            size=size,
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        return next(path.glob("frame-*.color.*"), None) is not None


def _entry(root: Path, number: int, image: Path) -> Entry:
    stem = image.name.partition(".")[0]
    depth, where = root / f"{stem}.depth.png", root / f"{stem}.pose.txt"
    placed = pose(numbers_in(where)) if where.is_file() else None
    return Entry(
        seq=number,
        seconds=number / RATE,
        image=image,
        lens=Lens(COLOUR),
        depth=depth if depth.is_file() else None,
        c2w=None if placed is None else placed @ rigid.inverse(DEPTH_TO_COLOUR),
    )


def _depth_camera(path: Path) -> Camera:
    if not path.is_file():
        return DEPTH
    numbers = numbers_in(path)
    with reading(path):
        (fx, _, cx), (_, fy, cy), _ = numbers.reshape(3, 3).tolist()
        return Camera(fx, fy, cx, cy, DEPTH.width, DEPTH.height)
