"""7-Scenes (Shotton et al., CVPR 2013): a Kinect's pictures with KinectFusion's poses.

A sequence is a folder of ``frame-000000.color.png`` (or .jpg), ``.depth.png`` (16-bit millimetres,
0 or 65535 unknown) and ``.pose.txt`` (camera to world). Its traps: depth is not registered to
colour, and the poses are those of the depth camera. Microsoft's terms allow non-commercial
research: measure on it, do not ship it.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from retain.datasets.scene.lens import Lens
from retain.datasets.scene.pictures import (
    DepthFile,
    Entry,
    Notes,
    PictureScene,
    Size,
    numbers_in,
    rigid_or_none,
)
from retain.datasets.scene.register import register
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault

RATE = 30.0
"""Pictures per second of the sensor; the files carry no times."""
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

_NAME = re.compile(r"frame-(\d+)\.color\.(png|jpe?g)")


class SevenScenes(PictureScene):
    """A sequence of 7-Scenes, poses and depth brought to the colour camera.

    ``Shot.seq`` is the number in the file's name, and its time that number at 30 per second. A
    ``camera-intrinsics.txt`` (as in excerpts of the data) holds the depth camera's 3x3 matrix.
    """

    KEYS = ("frame-*.color.*", "frame-*.depth.png", "frame-*.pose.txt")

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        notes = Notes(
            ["Depth and poses, which are the depth camera's, were brought to the colour camera."]
        )
        depth_camera = _depth_camera(root)
        move = partial(
            register, seen_by=depth_camera, wanted=COLOUR, motion=DEPTH_TO_COLOUR
        )  # fmt: skip
        super().__init__(
            f"7-Scenes sequence {root.name!r}",
            _entries(root, notes),
            notes=notes.said,
            depth=DepthFile(0.001, 65535, depth_camera, move),
            size=size,
        )

    @staticmethod
    def recognises(root: Path) -> bool:
        return next(root.glob("frame-*.color.*"), None) is not None


def _entries(root: Path, notes: Notes) -> list[Entry]:
    found = sorted(
        (int(match[1]), path) for path in root.iterdir() if (match := _NAME.fullmatch(path.name))
    )
    entries, unposed, blind = [], 0, 0
    to_depth = rigid.inverse(DEPTH_TO_COLOUR)
    for number, image in found:
        stem = image.name.partition(".")[0]
        depth: Path | None = root / f"{stem}.depth.png"
        if depth is not None and not depth.is_file():
            depth, blind = None, blind + 1
        c2w = _pose(root / f"{stem}.pose.txt")
        unposed += c2w is None
        placed = None if c2w is None else c2w @ to_depth
        entries.append(Entry(number, number / RATE, image, Lens(COLOUR), depth, placed))
    notes.count(unposed, "1 picture has no usable pose.", "{n} pictures have no usable pose.")
    notes.count(blind, "1 picture has no depth.", "{n} pictures have no depth.")
    return entries


def _pose(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    numbers = numbers_in(path)
    return rigid_or_none(numbers.reshape(4, 4)) if numbers.size == 16 else None


def _depth_camera(root: Path) -> Camera:
    path = root / INTRINSICS
    if not path.is_file():
        return DEPTH
    numbers = numbers_in(path)
    try:
        (fx, _, cx), (_, fy, cy), _ = numbers.reshape(3, 3).tolist()
        return Camera(fx, fy, cx, cy, DEPTH.width, DEPTH.height)
    except ValueError as error:
        raise SourceError(
            SourceFault.BROKEN, f"{str(path)!r} is no 3x3 matrix of a camera ({error})."
        ) from None
