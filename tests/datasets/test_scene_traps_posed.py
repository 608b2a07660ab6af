"""What is particular to nerfstudio, COLMAP and LLFF, as it is met in the wild."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from scene_folders import (
    HEIGHT,
    WIDTH,
    colmap,
    colmap_binary,
    edit,
    llff,
    nerfstudio,
    truth,
    write_png,
)

from retain.datasets.scene.colmap import lens_of
from retain.datasets.scene.open import open_scene
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError


def test_nerfstudio_camera_from_an_angle(tmp_path: Path) -> None:
    nerfstudio(tmp_path, truth())
    gone = dict.fromkeys(("fl_x", "fl_y", "cx", "cy", "w", "h"))
    edit(tmp_path / "transforms.json", **gone, camera_angle_x=1.0)
    focal = WIDTH / 2 / np.tan(0.5)
    wanted = Camera(focal, focal, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    assert open_scene(str(tmp_path))[0].camera == wanted


def test_nerfstudio_a_frames_own_camera_wins(tmp_path: Path) -> None:
    nerfstudio(tmp_path, truth())
    given = json.loads((tmp_path / "transforms.json").read_text())
    given["frames"][0]["fl_x"] = 99.0  # the file's first frame is the last one shown
    (tmp_path / "transforms.json").write_text(json.dumps(given))
    scene = open_scene(str(tmp_path))
    assert [scene[i].camera.fx for i in range(3)] == [21.0, 21.0, 99.0]


def test_nerfstudio_models(tmp_path: Path) -> None:
    nerfstudio(tmp_path, truth())
    path = tmp_path / "transforms.json"
    edit(path, camera_model="OPENCV_FISHEYE", k1=0.01, k2=0.0, k3=0.0, k4=0.0)
    bent = open_scene(str(tmp_path))[0]
    edit(path, camera_model="OPENCV")
    assert not np.array_equal(bent.image, open_scene(str(tmp_path))[0].image)
    edit(path, camera_model="EQUIRECTANGULAR")
    with pytest.raises(SourceError, match="'EQUIRECTANGULAR' cannot be undistorted"):
        open_scene(str(tmp_path))


def test_nerfstudio_missing_pictures_are_left_out_and_depth_makes_it_metric(tmp_path: Path) -> None:
    nerfstudio(tmp_path, truth())
    (tmp_path / "images/2.png").unlink()
    scene = open_scene(str(tmp_path))
    assert [scene[i].seq for i in range(len(scene))] == [1, 2]
    assert scene.notes == ("1 of 3 pictures of transforms.json are not there.",)
    assert scene.metric
    for path in (tmp_path / "depths").iterdir():
        path.unlink()
    assert not open_scene(str(tmp_path)).metric


def test_nerfstudio_depth_as_nerfcapture_writes_it(tmp_path: Path) -> None:
    nerfstudio(tmp_path, truth())
    given = json.loads((tmp_path / "transforms.json").read_text())
    for frame in given["frames"]:
        frame["depth_path"] = frame.pop("depth_file_path")
    edit(tmp_path / "transforms.json", frames=given["frames"], integer_depth_scale=0.0005)
    depth = open_scene(str(tmp_path))[1].depth
    assert depth is not None
    assert np.allclose(depth, truth().depths[1] / 2, atol=1e-5)  # type: ignore[index]


def test_nerfstudio_depth_in_arrays_of_metres(tmp_path: Path) -> None:
    nerfstudio(tmp_path, truth())
    given = json.loads((tmp_path / "transforms.json").read_text())
    metres = np.full((HEIGHT, WIDTH), 2.5)
    metres[0, :3] = np.nan, -np.inf, -1
    np.save(tmp_path / "deep.npy", metres)
    for frame in given["frames"]:
        frame["depth_file_path"] = "deep.npy"
    edit(tmp_path / "transforms.json", frames=given["frames"])
    depth = open_scene(str(tmp_path))[1].depth
    assert depth is not None
    assert not depth[0, :3].any()
    assert (depth.ravel()[3:] == 2.5).all()
    (tmp_path / "deep.npy").write_bytes((tmp_path / "deep.npy").read_bytes()[:-9])
    with pytest.raises(SourceError, match="deep.npy"):
        open_scene(str(tmp_path))[1]


@pytest.mark.parametrize(
    ("name", "given", "straight"),
    [
        ("SIMPLE_PINHOLE", [20, 12, 8], True),
        ("PINHOLE", [20, 21, 12, 8], True),
        ("SIMPLE_RADIAL", [20, 12, 8, 0.1], False),
        ("RADIAL", [20, 12, 8, 0.1, 0.01], False),
        ("OPENCV", [20, 21, 12, 8, 0.1, 0.01, 0.001, 0.002], False),
        ("OPENCV_FISHEYE", [20, 21, 12, 8, 0.1, 0.01, 0.001, 0.002], False),
        ("FULL_OPENCV", [20, 21, 12, 8, 0.1, 0.01, 0.001, 0.002, 0.1, 0, 0, 0], False),
        ("SIMPLE_RADIAL_FISHEYE", [20, 12, 8, 0.1], False),
        ("RADIAL_FISHEYE", [20, 12, 8, 0.1, 0.01], False),
    ],
)
def test_colmap_models(name: str, given: list[float], straight: bool) -> None:
    lens = lens_of(name, WIDTH, HEIGHT, given)
    assert (lens.camera.fx, lens.camera.cx, lens.camera.cy) == (20, 12, 8)
    assert lens.straight == straight
    assert lens.fisheye == name.endswith("FISHEYE")
    assert lens.distortion[:1] == (() if straight else (0.1,))
    with pytest.raises(ValueError, match="parameters, not"):
        lens_of(name, WIDTH, HEIGHT, [*given, 1.0])


@pytest.mark.parametrize("name", ["FOV", "THIN_PRISM_FISHEYE", "WHATEVER"])
def test_colmap_models_that_are_refused(name: str) -> None:
    with pytest.raises(SourceError, match="image_undistorter"):
        lens_of(name, WIDTH, HEIGHT, [1.0] * 5)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_colmap_binary_files_cut_short(tmp_path: Path, name: str) -> None:
    colmap_binary(tmp_path, truth())
    path = tmp_path / "sparse/0" / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SourceError, match=name):
        open_scene(str(tmp_path))


def test_colmap_a_count_that_lies_ends_at_once(tmp_path: Path) -> None:
    colmap_binary(tmp_path, truth())
    path = tmp_path / "sparse/0/images.bin"
    path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:])
    with pytest.raises(SourceError, match="images.bin"):
        open_scene(str(tmp_path))


def test_colmap_pictures_that_are_not_there(tmp_path: Path) -> None:
    colmap(tmp_path, truth())
    (tmp_path / "images/view 0.png").unlink()
    scene = open_scene(str(tmp_path))
    assert len(scene) == 2
    assert scene.notes == ("1 of 3 registered pictures are not there.",)


def test_llff_smaller_pictures_get_a_smaller_camera(tmp_path: Path) -> None:
    llff(tmp_path, truth())
    for path in (tmp_path / "images").iterdir():
        write_png(path, np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8))
    assert open_scene(str(tmp_path))[0].camera.fx == truth().camera.fx / 2


def test_llff_counts_that_differ_are_refused(tmp_path: Path) -> None:
    llff(tmp_path, truth())
    (tmp_path / "images/0.png").unlink()
    with pytest.raises(SourceError, match="has 3 rows, .* 2 pictures"):
        open_scene(str(tmp_path))
