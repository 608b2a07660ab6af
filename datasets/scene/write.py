"""Scenes written in the layouts of known data sets: to test readers, and programs that expect them.

What a layout cannot hold is refused, not bent. Depth beyond 16 bits becomes unknown. Lossless, but
for Replica, whose pictures are JPEG, and 7-Scenes, whose depth is another camera's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene import sevenscenes
from retain.datasets.scene.base import Scene, Shot
from retain.datasets.scene.register import register
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import UsageError, nearest

_FINE = 0.0002
"""Metres of a step of depth: 16 bits reach 13 m."""
_DEPTH_LAG_S = 0.006
"""A Kinect's depth comes with times of its own."""


def write_scene(scene: Scene, root: Path, layout: str) -> None:
    """Writes all shots of ``scene`` below ``root`` in a ``layout``: ``rgbd``, ``tum``, ``replica``,
    ``7-scenes`` or ``nerfstudio``.

    Raises UsageError for another layout, and for a scene that one cannot hold: pictures of several
    cameras (all), frames without a pose (Replica), of another camera than the data set's
    (7-Scenes).
    """
    if layout not in LAYOUTS:
        raise UsageError(f"Scenes are not written as {layout!r}.", hint=nearest(layout, LAYOUTS))
    shots = _shots(scene)
    first = next(shots, None)
    if first is None:
        raise UsageError("A scene without a single shot cannot be written.")
    root.mkdir(parents=True, exist_ok=True)
    LAYOUTS[layout](first.camera, chain([first], shots), root)


def _rgbd(camera: Camera, shots: Iterable[Shot], root: Path) -> None:
    poses, times = [], []
    for shot in shots:
        _save(root / "rgb" / f"{shot.seq:06d}.png", shot.image[..., ::-1])
        if shot.depth is not None:
            _save(root / "depth" / f"{shot.seq:06d}.png", _steps(shot.depth, _FINE))
        if shot.c2w is not None:
            poses.append(f"{shot.seq} {_numbers(shot.c2w)}")
        times.append(f"{shot.seq} {shot.seconds!r}")
    _intrinsics(root, camera, depth_unit=_FINE)
    _lines(root / "times.txt", times)
    if poses:
        _lines(root / "poses.txt", poses)


def _tum(camera: Camera, shots: Iterable[Shot], root: Path) -> None:
    """5000 steps a metre; quaternions xyzw; times to the microsecond."""
    colour, depth, poses = (["# timestamp filename"], ["# timestamp filename"], list[str]())
    for shot in shots:
        name = f"rgb/{shot.seconds:.6f}.png"
        _save(root / name, shot.image[..., ::-1])
        colour.append(f"{shot.seconds:.6f} {name}")
        if shot.depth is not None:
            later = f"{shot.seconds + _DEPTH_LAG_S:.6f}"
            _save(root / "depth" / f"{later}.png", _steps(shot.depth, 1 / 5000))
            depth.append(f"{later} depth/{later}.png")
        if shot.c2w is not None:
            xyzw = np.roll(rigid.quaternion(shot.c2w[:3, :3]), -1)
            poses.append(f"{shot.seconds:.6f} {_numbers([*shot.c2w[:3, 3], *xyzw])}")
    _lines(root / "rgb.txt", colour)
    _lines(root / "depth.txt", depth)
    _lines(root / "groundtruth.txt", ["# timestamp tx ty tz qx qy qz qw", *poses])
    _intrinsics(root, camera)


def _replica(camera: Camera, shots: Iterable[Shot], root: Path) -> None:
    """6553.5 steps a metre; the first pixel's centre is at 0."""
    lines = []
    for number, shot in enumerate(shots):
        if shot.c2w is None:
            raise UsageError(f"Replica has a pose for each frame; frame {shot.seq} has none.")
        _save(root / "results" / f"frame{number:06d}.jpg", shot.image[..., ::-1])
        if shot.depth is not None:
            _save(root / "results" / f"depth{number:06d}.png", _steps(shot.depth, 1 / 6553.5))
        lines.append(_numbers(shot.c2w))
    _lines(root / "traj.txt", lines)
    c = camera
    numbers = {
        "w": c.width, "h": c.height, "fx": c.fx, "fy": c.fy, "cx": c.cx - 0.5, "cy": c.cy - 0.5,
        "scale": 6553.5,
    }  # fmt: skip
    (root / "cam_params.json").write_text(json.dumps({"camera": numbers}, indent=2))


def _seven_scenes(camera: Camera, shots: Iterable[Shot], root: Path) -> None:
    """Millimetres, unknown 65535; depth and poses are those of a camera beside the colour's."""
    wanted, moved = sevenscenes.COLOUR, sevenscenes.DEPTH_TO_COLOUR
    same = np.allclose(camera.K, wanted.K, atol=1e-6)
    if not same or (camera.width, camera.height) != (wanted.width, wanted.height):
        raise UsageError(
            f"7-Scenes has pictures of {wanted.width}x{wanted.height} with a focal length of "
            f"{wanted.fx} pixels, the scene {camera.width}x{camera.height} with {camera.fx:.1f}.",
            hint=f"A room fits with fov_deg={fov_deg(wanted)!r}.",
        )
    for shot in shots:
        stem = f"frame-{shot.seq:06d}"
        _save(root / f"{stem}.color.png", shot.image[..., ::-1])
        if shot.depth is not None:
            depth = register(shot.depth, wanted, sevenscenes.DEPTH, rigid.inverse(moved))
            steps = _steps(depth, 0.001)
            _save(root / f"{stem}.depth.png", np.where(steps == 0, 65535, steps).astype(np.uint16))
        if shot.c2w is not None:
            rows = [_numbers(row) for row in shot.c2w @ moved]
            _lines(root / f"{stem}.pose.txt", rows)


def _nerfstudio(camera: Camera, shots: Iterable[Shot], root: Path) -> None:
    """OpenGL axes: y up, z backward. Depth in millimetres."""
    frames: list[dict[str, Any]] = []
    for shot in shots:
        name = f"images/frame_{shot.seq:05d}.png"
        _save(root / name, shot.image[..., ::-1])
        frame: dict[str, Any] = {"file_path": name}
        if shot.depth is not None:
            frame["depth_file_path"] = f"depths/frame_{shot.seq:05d}.png"
            _save(root / frame["depth_file_path"], _steps(shot.depth, 0.001))
        if shot.c2w is None:
            raise UsageError(f"nerfstudio has a pose for each frame; frame {shot.seq} has none.")
        frame["transform_matrix"] = (shot.c2w * [1, -1, -1, 1]).tolist()
        frames.append(frame)
    c = camera
    given = {
        "camera_model": "OPENCV", "w": c.width, "h": c.height, "fl_x": c.fx, "fl_y": c.fy,
        "cx": c.cx, "cy": c.cy, "frames": frames,
    }  # fmt: skip
    (root / "transforms.json").write_text(json.dumps(given, indent=1))


LAYOUTS: dict[str, Callable[[Camera, Iterable[Shot], Path], None]] = {
    "rgbd": _rgbd,
    "tum": _tum,
    "replica": _replica,
    "7-scenes": _seven_scenes,
    "nerfstudio": _nerfstudio,
}


def fov_deg(camera: Camera) -> float:
    """The horizontal field of view of a camera whose centre is in the middle."""
    return float(np.degrees(2 * np.arctan(camera.width / 2 / camera.fx)))


def _shots(scene: Scene) -> Iterator[Shot]:
    camera = None
    for index in range(len(scene)):
        shot = scene[index]
        camera = camera or shot.camera
        if shot.camera != camera:
            raise UsageError(
                f"Frame {shot.seq} was taken by another camera than the first; a layout has one."
            )
        yield shot


def _steps(depth: NDArray[np.float32], unit: float) -> NDArray[np.uint16]:
    steps = np.rint(depth.astype(np.float64) / unit)
    # The last value is left free: some formats mean "unknown" by it.
    return np.where(steps < 65535, steps, 0).astype(np.uint16)


def _save(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    how = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels), how):
        raise OSError(f"{path} could not be written.")


def _intrinsics(root: Path, camera: Camera, **more: float) -> None:
    numbers = {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy", "width", "height")}
    (root / "intrinsics.json").write_text(json.dumps({**numbers, **more}, indent=2))


def _numbers(values: Any) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def _lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))
