"""Small scenes whose every number is known, written out in the real formats with their traps."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera

WIDTH, HEIGHT = 24, 16
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What a reader must find: pictures uint8 [N, H, W, 3], depths in metres (0 unknown)."""

    camera: Camera
    images: NDArray[np.uint8]
    depths: NDArray[np.float32] | None
    poses: Array
    """[N, 4, 4] camera to world, OpenCV axes."""


def truth(count: int = 3, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Truth:
    rng = np.random.default_rng(seed)
    camera = Camera(21.0, 22.5, width / 2 - 0.75, height / 2 + 0.25, width, height)
    images = rng.integers(0, 256, (count, height, width, 3), np.uint8)
    depths = (rng.integers(500, 6000, (count, height, width)) / 1000).astype(np.float32)
    depths[:, 2, 3] = 0
    poses = np.stack([rigid.exp(rng.normal(0, 0.6, 6)) for _ in range(count)])
    return Truth(camera, images, depths, poses)


def write_png(path: Path, image: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pil.fromarray(image).save(path)
    return path


def write_depth(path: Path, depth: NDArray[np.float32], unit: float, unknown: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.rint(depth / unit).astype(np.uint16)
    steps[depth == 0] = unknown
    Pil.fromarray(steps).save(path)
    return path


def line(matrix: Array) -> str:
    return " ".join(repr(float(value)) for value in matrix.ravel())


def numbers(camera: Camera) -> dict[str, float]:
    return {name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy", "width", "height")}


def rgbd(root: Path, t: Truth) -> Path:
    for i, image in enumerate(t.images):
        write_png(root / f"rgb/{i:06d}.png", image)
        if t.depths is not None:
            write_depth(root / f"depth/{i:06d}.png", t.depths[i], 0.0005)
    (root / "poses.txt").write_text(
        "# number, then camera to world\n"
        + "".join(f"{i} {line(pose)}\n" for i, pose in enumerate(t.poses))
    )
    (root / "intrinsics.json").write_text(json.dumps({**numbers(t.camera), "depth_unit": 0.0005}))
    return root


def tum(root: Path, t: Truth) -> Path:
    """Stamps that do not agree to the last millisecond, comments, quaternions xyzw."""
    lists: dict[str, list[str]] = {"rgb": ["# colour"], "depth": ["# depth"], "groundtruth": ["#"]}
    for i, image in enumerate(t.images):
        at = 1305031102.175304 + i / 30
        write_png(root / f"rgb/{at:.6f}.png", image)
        lists["rgb"].append(f"{at:.6f} rgb/{at:.6f}.png")
        if t.depths is not None:
            write_depth(root / f"depth/{at - 0.012:.6f}.png", t.depths[i], 1 / 5000)
            lists["depth"].append(f"{at - 0.012:.6f} depth/{at - 0.012:.6f}.png")
        w, *xyz = rigid.quaternion(t.poses[i, :3, :3])
        for late, shift in ((0.004, 0.0), (0.0145, 5.0)):  # the farther one is a decoy
            place = t.poses[i, :3, 3] + shift
            lists["groundtruth"].append(f"{at + late:.6f} {line(np.array([*place, *xyz, w]))}")
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    (root / "intrinsics.json").write_text(json.dumps(numbers(t.camera)))
    return root


def replica(root: Path, t: Truth) -> Path:
    """Pixels counted from the centre of the first."""
    assert t.depths is not None
    for i, image in enumerate(t.images):
        path = write_png(root / f"room0/results/frame{i:06d}.png", image)
        write_depth(path.with_name(f"depth{i:06d}.png"), t.depths[i], 1 / 6553.5)
    (root / "room0/traj.txt").write_text("\n".join(map(line, t.poses)))
    c = t.camera
    camera = {"w": c.width, "h": c.height, "fx": c.fx, "fy": c.fy, "cx": c.cx - 0.5}
    (root / "cam_params.json").write_text(
        json.dumps({"camera": {**camera, "cy": c.cy - 0.5, "scale": 6553.5}})
    )
    return root / "room0"


def scannet(root: Path, t: Truth) -> Path:
    """Depth half as large as colour."""
    assert t.depths is not None
    K = np.eye(4)
    K[:3, :3] = t.camera.K
    K[:2, 2] -= 0.5
    half = t.camera.resized(t.camera.width // 2, t.camera.height // 2)
    small = np.eye(4)
    small[:3, :3] = half.K
    small[:2, 2] -= 0.5
    (root / "intrinsic").mkdir(parents=True)
    (root / "pose").mkdir()
    (root / "intrinsic/intrinsic_color.txt").write_text("\n".join(map(line, K)))
    (root / "intrinsic/intrinsic_depth.txt").write_text("\n".join(map(line, small)))
    for i, image in enumerate(t.images):
        write_png(root / f"color/{i}.png", image)
        write_depth(root / f"depth/{i}.png", t.depths[i, ::2, ::2], 0.001)
        (root / f"pose/{i}.txt").write_text("\n".join(map(line, t.poses[i])))
    return root


def realestate(root: Path, t: Truth) -> Path:
    c, lines = t.camera, ["https://example.org/watch?v=x"]
    for i, image in enumerate(t.images):
        at = 1_000_000 + 33_367 * i
        write_png(root / f"abc/{at}.png", image)
        lens = (c.fx / c.width, c.fy / c.height, c.cx / c.width, c.cy / c.height)
        w2c = np.linalg.inv(t.poses[i])[:3]
        lines.append(f"{at} {' '.join(map(repr, lens))} 0 0 {line(w2c)}")
    (root / "abc.txt").write_text("\n".join(lines) + "\n")
    return root / "abc.txt"


def nerfstudio(root: Path, t: Truth) -> Path:
    """OpenGL axes, names without ending, last picture first; 2 and 10 sort as numbers."""
    names = [f"images/{2 * 5**i}" for i in range(len(t.images))]
    frames = []
    for i, name in enumerate(names):
        write_png(root / f"{name}.png", t.images[i])
        opengl = t.poses[i] @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": name, "transform_matrix": opengl.tolist()})
        if t.depths is not None:
            write_depth(root / f"depths/{i}.png", t.depths[i], 0.001)
            frames[-1]["depth_file_path"] = f"depths/{i}.png"
    c = t.camera
    lens = {"fl_x": c.fx, "fl_y": c.fy, "cx": c.cx, "cy": c.cy, "w": c.width, "h": c.height}
    (root / "transforms.json").write_text(json.dumps({**lens, "frames": frames[::-1]}))
    return root


def colmap(root: Path, t: Truth) -> Path:
    """Text; registered last to first, the line of points empty for one picture."""
    c, lines = t.camera, ["# comment"]
    for i, image in reversed(list(enumerate(t.images))):
        write_png(root / f"images/view {i}.png", image)
        w2c = np.linalg.inv(t.poses[i])
        q = rigid.quaternion(w2c[:3, :3])
        place = line(np.array([*q, *w2c[:3, 3]]))
        lines += [f"{i + 1} {place} 7 view {i}.png", "" if i else "1.5 2.5 -1"]
    (root / "sparse/0").mkdir(parents=True)
    lens = f"{c.width} {c.height} {c.fx} {c.fy} {c.cx} {c.cy}"
    (root / "sparse/0/cameras.txt").write_text(f"# comment\n7 PINHOLE {lens}\n")
    (root / "sparse/0/images.txt").write_text("\n".join(lines) + "\n")
    return root


def colmap_binary(root: Path, t: Truth) -> Path:
    """The same, binary."""
    colmap(root, t)
    c, model = t.camera, root / "sparse/0"
    camera = struct.pack("<iiQQ4d", 7, 1, c.width, c.height, c.fx, c.fy, c.cx, c.cy)
    images = b""
    for i in range(len(t.images)):
        w2c = np.linalg.inv(t.poses[i])
        place = (*rigid.quaternion(w2c[:3, :3]), *w2c[:3, 3])
        images += struct.pack("<i7di", i + 1, *place, 7) + f"view {i}.png".encode() + b"\0"
        images += struct.pack("<Q", i) + struct.pack("<ddq", 1.5, 2.5, -1) * i
    (model / "cameras.bin").write_bytes(struct.pack("<Q", 1) + camera)
    (model / "images.bin").write_bytes(struct.pack("<Q", len(t.images)) + images)
    for name in ("cameras.txt", "images.txt"):
        (model / name).unlink()
    return root


def llff(root: Path, t: Truth) -> Path:
    """Axes down, right, backward; one focal length, the centre in the middle."""
    rows = []
    for i, image in enumerate(t.images):
        write_png(root / f"images/{i}.png", image)
        right, down, forward, place = t.poses[i, :3].T
        lens = (t.camera.height, t.camera.width, t.camera.fx)
        block = np.stack([down, right, -forward, place, lens], axis=1)
        rows.append([*block.ravel(), 0.5, 9.0])
    np.save(root / "poses_bounds.npy", np.array(rows))
    return root


def seven_scenes(root: Path, t: Truth) -> Path:
    """Flat walls, seen by both cameras of the Kinect; unknown is 65535."""
    from retain.datasets.scene.sevenscenes import DEPTH_TO_COLOUR

    assert t.depths is not None
    for i, image in enumerate(t.images):
        write_png(root / f"frame-{2 * i:06d}.color.png", image)
        write_depth(root / f"frame-{2 * i:06d}.depth.png", t.depths[i], 0.001, unknown=65535)
        depth_c2w = t.poses[i] @ DEPTH_TO_COLOUR
        (root / f"frame-{2 * i:06d}.pose.txt").write_text("\n".join(map(line, depth_c2w)))
    return root


WRITERS: dict[str, Callable[[Path, Truth], Path]] = {
    "tum": tum,
    "rgbd": rgbd,
    "7-scenes": seven_scenes,
    "replica": replica,
    "scannet": scannet,
    "nerfstudio": nerfstudio,
    "colmap": colmap,
    "llff": llff,
    "realestate10k": realestate,
}
"""Each gives the place to open."""


def edit(path: Path, **changes: object) -> None:
    """Set keys of a JSON file; None removes them."""
    given = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: v for key, v in given.items() if v is not None}))
