"""What is particular to single formats, each as it is met in the wild."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pil
from scene_folders import (
    HEIGHT,
    WIDTH,
    edit,
    numbers,
    realestate,
    replica,
    rgbd,
    scannet,
    seven_scenes,
    truth,
    tum,
    write_depth,
    write_png,
)

from retain.datasets.scene.open import open_scene
from retain.datasets.scene.sevenscenes import COLOUR, DEPTH
from retain.datasets.scene.tum import KNOWN, nearest
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault

BENT = {"k1": 0.2, "k2": -0.1, "p1": 0.01, "p2": -0.01}


# Plain RGB-D folders


def test_rgbd_gaps_in_numbers_stay_and_times_come_from_the_file(tmp_path: Path) -> None:
    rgbd(tmp_path, truth())
    (tmp_path / "rgb/000001.png").unlink()
    (tmp_path / "times.txt").write_text("0 10.5\n2 10.75\n")
    scene = open_scene(str(tmp_path))
    assert [(scene[i].seq, scene[i].seconds) for i in range(2)] == [(0, 10.5), (2, 10.75)]


def test_rgbd_needs_nothing_but_pictures_and_a_camera(tmp_path: Path) -> None:
    write_png(tmp_path / "rgb/000007.png", truth().images[0])
    (tmp_path / "intrinsics.json").write_text(json.dumps({**numbers(truth().camera), "rate": 10}))
    scene = open_scene(str(tmp_path))
    shot = scene[0]
    assert (shot.seq, shot.seconds, shot.depth, shot.c2w) == (7, 0.7, None, None)
    assert scene.notes == ("No picture has a pose.",)


def test_rgbd_distortion_is_undone(tmp_path: Path) -> None:
    rgbd(tmp_path, truth())
    edit(tmp_path / "intrinsics.json", **BENT)
    shot = open_scene(str(tmp_path))[0]
    assert shot.camera.fx > truth().camera.fx
    assert shot.depth is not None
    assert shot.depth.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "changes",
    [{"fx": 0}, {"fx": None}, {"width": "wide"}, {"depth_unit": -1}, {"k1": 1e6}, {"cy": "nan"}],
)
def test_rgbd_numbers_that_are_no_camera(tmp_path: Path, changes: dict[str, object]) -> None:
    rgbd(tmp_path, truth())
    edit(tmp_path / "intrinsics.json", **changes)
    with pytest.raises(SourceError) as caught:
        open_scene(str(tmp_path))
    assert caught.value.fault is SourceFault.BROKEN


def test_rgbd_depth_that_is_no_depth(tmp_path: Path) -> None:
    rgbd(tmp_path, truth())
    write_png(tmp_path / "depth/000001.png", truth().images[0])
    with pytest.raises(SourceError, match=r"is no depth: uint8 .16, 24, 3."):
        open_scene(str(tmp_path))[1]


def test_depth_of_another_shape_than_its_picture_is_refused(tmp_path: Path) -> None:
    """Cropped or not, nobody can tell; stretching it would put every value in a wrong place."""
    rgbd(tmp_path, truth())
    write_depth(tmp_path / "depth/000001.png", np.ones((12, 24), np.float32), 0.0005)
    with pytest.raises(SourceError, match="24x12, of another shape than its picture .24x16."):
        open_scene(str(tmp_path))[1]


@pytest.mark.parametrize("name", ["rgb", "depth"])
def test_a_picture_that_claims_to_be_huge_is_refused_by_its_head(tmp_path: Path, name: str) -> None:
    rgbd(tmp_path, truth())
    path = tmp_path / name / "000001.png"
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 30_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        open_scene(str(tmp_path))[1]
    assert caught.value.fault in (SourceFault.BROKEN, SourceFault.TOO_LARGE)


def test_rgbd_without_a_single_picture(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    (tmp_path / "intrinsics.json").write_text(json.dumps(numbers(truth().camera)))
    with pytest.raises(SourceError, match="not one usable picture"):
        open_scene(str(tmp_path))


# TUM


def test_tum_freiburg_cameras_go_by_the_folder_and_are_undistorted(tmp_path: Path) -> None:
    root = tmp_path / "rgbd_dataset_freiburg1_desk"
    write_png(root / "rgb/1.0.png", np.zeros((480, 640, 3), np.uint8))
    (root / "rgb.txt").write_text("# x\n1.0 rgb/1.0.png\n")
    camera = open_scene(str(root))[0].camera
    calibrated = KNOWN["freiburg1"].camera
    assert (calibrated.cx, calibrated.cy) == (319.1, 255.8), "integer centres, so half is added"
    assert (camera.cx, camera.cy) == (calibrated.cx, calibrated.cy)
    assert camera.fx / calibrated.fx == pytest.approx(camera.fy / calibrated.fy)


def test_tum_of_an_unknown_camera_says_what_it_assumed(tmp_path: Path) -> None:
    write_png(tmp_path / "rgb/1.0.png", np.zeros((480, 640, 3), np.uint8))
    (tmp_path / "rgb.txt").write_text("1.0 rgb/1.0.png\n")
    scene = open_scene(str(tmp_path))
    assert scene[0].camera == Camera(525.0, 525.0, 320.0, 240.0, 640, 480)
    assert any("525 pixels are assumed" in note for note in scene.notes)


def test_tum_what_is_too_far_away_in_time_is_not_taken(tmp_path: Path) -> None:
    tum(tmp_path, truth())
    for name in ("depth.txt", "groundtruth.txt"):
        lines = (tmp_path / name).read_text().splitlines()
        late = [f"{float(w[0]) + 0.05:.6f} {' '.join(w[1:])}" for w in map(str.split, lines[1:])]
        (tmp_path / name).write_text("\n".join(late))
    scene = open_scene(str(tmp_path))
    # The pictures are 33 ms apart: the second's depth is now 5 ms after the third, and so on.
    assert scene[0].depth is None
    assert scene[0].c2w is None
    assert scene[2].depth is not None
    assert "1 of 3 pictures have no depth." in scene.notes


def test_tum_nearest_is_the_nearest() -> None:
    rng = np.random.default_rng(0)
    times, wanted = np.sort(rng.uniform(0, 3, 80)), rng.uniform(-0.1, 3.1, 200)
    for at, found in zip(wanted, nearest(wanted, times), strict=True):
        gaps = np.abs(times - at)
        assert found == (int(gaps.argmin()) if gaps.min() <= 0.02 else -1)
    assert nearest(wanted, np.empty(0)) == [-1] * 200
    assert nearest(np.array([1.0, 2.0]), np.array([1.01])) == [0, -1]


# Replica


def test_replica_without_a_camera_file_is_the_published_one(tmp_path: Path) -> None:
    root = replica(tmp_path, truth())
    (tmp_path / "cam_params.json").unlink()
    write_png(root / "results/frame000000.png", np.zeros((680, 1200, 3), np.uint8))
    write_depth(root / "results/depth000000.png", np.ones((680, 1200), np.float32), 1 / 6553.5)
    shot = open_scene(str(root))[0]
    assert shot.camera == Camera(600.0, 600.0, 600.0, 340.0, 1200, 680)
    assert shot.depth is not None
    assert np.allclose(shot.depth, 1, atol=1e-4)


def test_replica_pictures_beyond_the_path_have_no_pose(tmp_path: Path) -> None:
    root = replica(tmp_path, truth())
    lines = (root / "traj.txt").read_text().splitlines()
    (root / "traj.txt").write_text("\n".join(lines[:2]))
    scene = open_scene(str(root))
    assert [scene[i].c2w is None for i in range(3)] == [False, False, True]


# 7-Scenes


def test_seven_scenes_unknown_depth_never_becomes_65_metres(tmp_path: Path) -> None:
    t = truth(1, 640, 480)
    flat = np.full((1, 480, 640), 2.0, np.float32)
    flat[:, 100:200] = 0
    t = type(t)(COLOUR, np.zeros((1, 480, 640, 3), np.uint8), flat, t.poses)
    shot = open_scene(str(seven_scenes(tmp_path, t)))[0]
    assert shot.depth is not None
    assert shot.depth.max() < 2.1
    # Of the picture a wall of 2 m covers the depth camera's narrower view, less the band.
    assert (shot.depth > 0).mean() == pytest.approx((525 / 585) ** 2 * 380 / 480, abs=0.03)


def test_seven_scenes_takes_the_depth_camera_from_the_file_beside(tmp_path: Path) -> None:
    t = truth(1, 640, 480)
    t = type(t)(COLOUR, t.images, np.full((1, 480, 640), 2.0, np.float32), t.poses)
    seven_scenes(tmp_path, t)
    covered = []
    for focal in (585, 1170):
        K = DEPTH.K.copy()
        K[0, 0] = K[1, 1] = focal
        np.savetxt(tmp_path / "camera-intrinsics.txt", K)
        depth = open_scene(str(tmp_path))[0].depth
        assert depth is not None
        covered.append((depth > 0).mean())
    assert covered[1] == pytest.approx(covered[0] / 4, rel=0.1)
    (tmp_path / "camera-intrinsics.txt").write_text("585 320 240")
    with pytest.raises(SourceError, match="camera-intrinsics.txt"):
        open_scene(str(tmp_path))


# ScanNet


def test_scannet_depth_lies_on_the_pixels_of_colour(tmp_path: Path) -> None:
    t = truth()
    shot = open_scene(str(scannet(tmp_path, t)))[1]
    assert t.depths is not None
    assert shot.depth is not None
    small = t.depths[1, ::2, ::2]
    assert np.allclose(shot.depth, small.repeat(2, axis=0).repeat(2, axis=1), atol=1e-3)


def test_scannet_colour_made_as_small_as_depth(tmp_path: Path) -> None:
    scannet(tmp_path, truth())
    for i, image in enumerate(truth().images):
        write_png(tmp_path / f"color/{i}.png", np.ascontiguousarray(image[::2, ::2]))
    scene = open_scene(str(tmp_path))
    assert scene[0].camera.width == WIDTH // 2
    assert scene[0].camera.fx == pytest.approx(truth().camera.fx / 2)
    assert any("those of depth" in note for note in scene.notes)


def test_scannet_matrices_of_another_size_are_refused(tmp_path: Path) -> None:
    scannet(tmp_path, truth())
    for i, image in enumerate(truth().images):
        write_png(tmp_path / f"color/{i}.png", np.ascontiguousarray(image[::4, ::4]))
    with pytest.raises(SourceError, match="is not of pictures of 6x4"):
        open_scene(str(tmp_path))


# RealEstate10K


def test_realestate_lines_without_pictures_are_left_out(tmp_path: Path) -> None:
    place = realestate(tmp_path, truth())
    (tmp_path / "abc/1033367.png").unlink()
    scene = open_scene(str(place))
    assert [scene[i].seq for i in range(len(scene))] == [0, 2]
    assert scene.notes == ("1 of 3 lines have no picture.",)
    assert not scene.metric


def test_realestate_pictures_from_a_video_beside_it(tmp_path: Path) -> None:
    place = realestate(tmp_path / "x", truth())
    lone = tmp_path / "abc.txt"
    lone.write_text(place.read_text().replace("\n1000000 ", "\n99000000 "))
    with pytest.raises(SourceError, match="neither a folder 'abc' nor a video"):
        open_scene(str(lone))
    with av.open(str(tmp_path / "abc.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
        for k in range(40):
            image = np.full((HEIGHT, WIDTH, 3), 6 * k, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    scene = open_scene(str(lone))
    assert len(scene) == 2, "one line is of a time after the end"
    assert [int(scene[i].image[0, 0, 0]) // 6 for i in range(2)] == [31, 32]
    assert np.allclose(scene[0].camera.fx, truth().camera.fx)


def test_realestate_a_line_too_short_is_named(tmp_path: Path) -> None:
    place = realestate(tmp_path, truth())
    lines = place.read_text().splitlines()
    place.write_text("\n".join([*lines[:2], lines[2][:-30], lines[3]]))
    with pytest.raises(SourceError, match="line 3 has 1. numbers, not 19"):
        open_scene(str(place))


# nerfstudio


# COLMAP


# LLFF


# Videos and plain pictures


def lying() -> Pil.Exif:
    """Says that the picture was stored on its side."""
    exif = Pil.Exif()
    exif[0x0112] = 6
    return exif


def test_a_turn_that_exif_asks_for_is_made_only_where_nothing_was_calibrated(
    tmp_path: Path,
) -> None:
    t = truth()
    rgbd(tmp_path / "a", t)
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a/rgb/000000.png", tmp_path / "b/0.png"):
        Pil.fromarray(t.images[0]).save(path, exif=lying())
    assert np.array_equal(open_scene(str(tmp_path / "a"))[0].image, t.images[0])
    upright = open_scene(str(tmp_path / "b"))[0]
    assert np.array_equal(upright.image, np.rot90(t.images[0], -1))
    assert (upright.camera.width, upright.camera.height) == (HEIGHT, WIDTH)


def test_plain_pictures_have_an_assumed_camera_and_say_so(tmp_path: Path) -> None:
    for i, image in enumerate(truth().images):
        write_png(tmp_path / f"{i}.png", image)
    scene = open_scene(str(tmp_path))
    assert scene[2].camera.fx == pytest.approx(WIDTH / 2 / np.tan(np.pi / 6))
    assert "a field of view of 60 degrees is assumed" in scene.notes[0]
    given = open_scene(str(tmp_path), camera=(20.0, 21.0, 11.0, 7.0), width=WIDTH * 2)
    assert given.notes == ("No picture has a pose.",)
    assert given[0].camera == Camera(40.0, 42.0, 22.0, 14.0, WIDTH * 2, HEIGHT * 2)
