"""``transforms.json``, as nerfstudio, instant-ngp and NeRF's synthetic scenes use it.

``frames`` lists ``file_path`` and ``transform_matrix`` (camera to world), perhaps
``depth_file_path`` (millimetres) or ``depth_path`` (steps of ``integer_depth_scale`` metres, as
NeRFCapture writes them). The camera stands beside ``frames`` or in each of them: ``fl_x fl_y cx cy
w h`` with ``k1 k2 p1 p2 k3``, or the angle ``camera_angle_x``. Its traps: axes are OpenGL's (y up,
z backward), files are in no order, and their names may lack the ending.
"""

from __future__ import annotations

import json
import math
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
    natural,
    picture_size,
    pose,
    reading,
)
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault

NAMES = ("transforms.json", "transforms_train.json")
_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".webp")
_PLAIN = frozenset(("", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"))

Given = Mapping[str, Any]


class Nerfstudio(PictureScene):
    """The pictures of a ``transforms.json`` in natural order of their names, ``Shot.seq`` their
    place in it. Lengths are metres only where depth comes with them."""

    KEYS = NAMES

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        path = next(root / name for name in NAMES if (root / name).is_file())
        with reading(path):
            given = json.loads(path.read_text())
            frames = sorted(given["frames"], key=lambda frame: natural(str(frame["file_path"])))
            entries = [_entry(root, given, frame, seq) for seq, frame in enumerate(frames)]
            depth = DepthFile(float(given.get("integer_depth_scale", 0.001)))
        found = [entry for entry in entries if entry is not None]
        lost = len(entries) - len(found)
        super().__init__(
            f"{path.name} of {root.name!r}",
            found,
            notes=[f"{lost} of {len(entries)} pictures of {path.name} are not there."] * bool(lost),
            metric=any(entry.depth is not None for entry in found),
            depth=depth,
            size=size,
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        return any((path / name).is_file() for name in NAMES)


def _entry(root: Path, given: Given, frame: Given, seq: int) -> Entry | None:
    """A picture; None when there is no such file."""
    stem = str(frame["file_path"])
    image = next((p for end in _ENDINGS if (p := root / f"{stem}{end}").is_file()), None)
    if image is None:
        return None
    name = frame.get("depth_file_path") or frame.get("depth_path")
    depth = root / str(name) if name else None
    c2w = pose(frame["transform_matrix"])
    if c2w is not None:
        c2w[:, 1:3] *= -1
    return Entry(
        seq=seq,
        seconds=seq / RATE,
        image=image,
        lens=_lens({**given, **frame}, image),
        depth=depth if depth is not None and depth.is_file() else None,
        c2w=c2w,
    )


def _lens(given: Given, image: Path) -> Lens:
    """The lens that ``given`` describes. Raises SourceError for a model that is not known."""
    if "w" in given and "h" in given:
        width, height = int(given["w"]), int(given["h"])
    else:
        width, height = picture_size(image)
    if "fl_x" in given:
        fx = float(given["fl_x"])
    else:
        fx = width / 2 / math.tan(float(given["camera_angle_x"]) / 2)
    if "fl_y" in given:
        fy = float(given["fl_y"])
    elif "camera_angle_y" in given and "fl_x" not in given:
        fy = height / 2 / math.tan(float(given["camera_angle_y"]) / 2)
    else:
        fy = fx
    cx, cy = float(given.get("cx", width / 2)), float(given.get("cy", height / 2))
    camera = Camera(fx, fy, cx, cy, width, height)
    model = str(given.get("camera_model", ""))
    if model == "OPENCV_FISHEYE" or given.get("is_fisheye"):
        return Lens(camera, _numbers(given, "k1", "k2", "k3", "k4"), fisheye=True)
    if model not in _PLAIN:
        raise SourceError(
            SourceFault.CODEC,
            f"Pictures of the camera model {model!r} cannot be undistorted here.",
            hint=f"Known: {', '.join(sorted(_PLAIN - {''}))}, OPENCV_FISHEYE.",
        )
    return Lens(camera, _numbers(given, "k1", "k2", "p1", "p2", "k3"))


def _numbers(given: Given, *names: str) -> tuple[float, ...]:
    return tuple(float(given.get(name, 0)) for name in names)
