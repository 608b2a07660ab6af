"""Laws of all readers: each finds what is known to lie in a folder with its format's traps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scene_folders import HEIGHT, WIDTH, WRITERS, Truth, colmap_binary, truth, write_png

from retain.datasets.catalog import DATASETS
from retain.datasets.scene.base import Scene
from retain.datasets.scene.open import FORMATS, open_scene, recognise
from retain.datasets.scene.room import Room
from retain.datasets.scene.sevenscenes import COLOUR
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault, UsageError

FOLDERS = {**WRITERS, "colmap binary": colmap_binary}
POSED = [name for name in FOLDERS if name != "llff"]
WITH_DEPTH = ("rgbd", "tum", "replica", "nerfstudio")


def known(name: str) -> Truth:
    """What the folder of that format holds; formats with one camera only have that."""
    if name == "7-scenes":
        tiles = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), np.uint8)
        images = tiles.repeat(40, axis=1).repeat(40, axis=2)
        flat = np.full((3, 480, 640), 2.0, np.float32)
        return Truth(COLOUR, images, flat, truth().poses)
    if name == "llff":
        t = truth()
        return replace(t, camera=Camera(21.0, 21.0, WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT))
    return truth()


@pytest.fixture(params=list(FOLDERS))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Truth, Path]:
    name = request.param
    t = known(name)
    return name, t, FOLDERS[name](tmp_path, t)


Folder = tuple[str, Truth, Path]


def test_every_format_has_a_folder_and_is_listed() -> None:
    assert set(WRITERS) == set(FORMATS)
    assert set(FORMATS) <= set(DATASETS)
    assert all(DATASETS[name] == FORMATS[name] for name in FORMATS)


def test_the_format_is_recognised(folder: Folder) -> None:
    name, _, place = folder
    assert recognise(str(place)) == name.partition(" ")[0]


def test_pictures_cameras_and_poses_are_the_true_ones_in_order(folder: Folder) -> None:
    _, t, place = folder
    scene = open_scene(str(place))
    assert len(scene) == len(t.images)
    shots = [scene[i] for i in range(len(scene))]
    for shot, image, pose in zip(shots, t.images, t.poses, strict=True):
        assert np.array_equal(shot.image, image)
        numbers = [(c.fx, c.fy, c.cx, c.cy) for c in (shot.camera, t.camera)]
        assert np.allclose(*numbers, rtol=0, atol=1e-9)
        assert (shot.camera.width, shot.camera.height) == (t.camera.width, t.camera.height)
        assert shot.c2w is not None
        assert np.allclose(shot.c2w, pose, atol=1e-5)
    assert np.all(np.diff([shot.seconds for shot in shots]) > 0)
    assert np.all(np.diff([shot.seq for shot in shots]) > 0)


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_depth_is_in_metres_and_zero_where_unknown(name: str, tmp_path: Path) -> None:
    t = truth()
    scene = open_scene(str(WRITERS[name](tmp_path, t)))
    assert scene.metric
    assert t.depths is not None
    for i, depth in enumerate(t.depths):
        found = scene[i].depth
        assert found is not None
        assert found.dtype == np.float32
        assert np.array_equal(found == 0, depth == 0)
        assert np.allclose(found, depth, atol=5e-4)


def test_a_scene_in_another_size_is_the_same_scene(folder: Folder) -> None:
    _, _, place = folder
    stored, small = open_scene(str(place)), open_scene(str(place), width=12)
    a, b = stored[1], small[1]
    assert b.camera == a.camera.resized(12, round(12 * a.camera.height / a.camera.width))
    assert b.image.shape == (b.camera.height, b.camera.width, 3)
    assert abs(float(b.image.mean()) - float(a.image.mean())) < 2
    if a.depth is not None:
        assert b.depth is not None
        assert b.depth.shape == b.image.shape[:2]
        assert set(np.unique(b.depth)) <= set(np.unique(a.depth)), "depth is never averaged"


def pictures(place: Path) -> list[Path]:
    under = place.parent if place.is_file() else place
    named = ("depth", "depths")
    found = under.rglob("*.png")
    return sorted(p for p in found if p.parent.name not in named and "depth" not in p.name)


def test_a_truncated_picture_is_an_error_that_names_it_and_no_other_is_touched(
    folder: Folder,
) -> None:
    _, t, place = folder
    scene = open_scene(str(place))
    whole = [scene[i].image for i in range(3)]
    victim = pictures(place)[1]
    victim.write_bytes(victim.read_bytes()[:-300])
    bad = []
    for i in range(len(t.images)):
        try:
            assert np.array_equal(scene[i].image, whole[i])
        except SourceError as error:
            bad.append(error)
    assert [error.fault for error in bad] == [SourceFault.BROKEN]
    assert victim.name in str(bad[0])


def test_a_picture_that_went_missing_is_an_error(folder: Folder) -> None:
    _, _, place = folder
    scene = open_scene(str(place))
    for path in pictures(place):
        path.unlink()
    with pytest.raises(SourceError) as caught:
        scene[0]
    assert caught.value.fault is SourceFault.NOT_FOUND


def test_a_picture_of_another_size_than_its_camera_is_an_error(folder: Folder) -> None:
    _, _, place = folder
    scene = open_scene(str(place))
    for path in pictures(place):
        write_png(path, np.zeros((5, 7, 3), np.uint8))
    with pytest.raises(SourceError, match="7x5; its camera was calibrated for"):
        scene[0]


def test_past_the_end_is_an_index_error(folder: Folder) -> None:
    scene = open_scene(str(folder[2]))
    with pytest.raises(IndexError):
        scene[len(scene)]


@pytest.mark.parametrize("bad", [np.full((4, 4), -np.inf), np.diag([2.0, 2, 2, 1]), np.eye(4)[:3]])
@pytest.mark.parametrize("name", ["rgbd", "replica", "scannet", "7-scenes"])
def test_a_pose_that_is_none_is_left_out_with_a_note(
    name: str, bad: np.ndarray, tmp_path: Path
) -> None:
    t = known(name)
    place = WRITERS[name](tmp_path, t)
    words = " ".join(map(str, bad.ravel()))
    path = next(p for p in place.rglob("*.txt") if p.name in NAMED[name])
    lines = path.read_text().splitlines()
    if name in ("rgbd", "replica"):
        row = 2 if name == "rgbd" else 1
        lines[row] = ("1 " if name == "rgbd" else "") + words
        path.write_text("\n".join(lines))
    else:
        path.write_text(words)
    scene: Scene = open_scene(str(place))
    if bad.size == 12:  # three rows of four are a pose
        assert scene[1].c2w is not None
        return
    assert [scene[i].c2w is None for i in range(3)] == [False, True, False]
    assert "1 of 3 pictures have no pose that is finite and rigid." in scene.notes


NAMED = {
    "rgbd": ("poses.txt",),
    "replica": ("traj.txt",),
    "scannet": ("1.txt",),
    "7-scenes": ("frame-000002.pose.txt",),
}


def test_a_folder_of_no_format_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(SourceError, match="no scene of a known format. Looked for tum: rgb.txt"):
        open_scene(str(tmp_path))


def test_the_scene_inside_or_around_a_folder_is_named(tmp_path: Path) -> None:
    place = WRITERS["rgbd"](tmp_path / "office", truth())
    with pytest.raises(SourceError, match="inside it that is one .rgbd.: .*office"):
        open_scene(str(tmp_path))
    with pytest.raises(SourceError, match="There is no file .*Did you mean .*office"):
        open_scene(str(tmp_path / "ofice"))
    (place / "empty").mkdir()
    with pytest.raises(SourceError, match="The folder above it, .*office.*is one"):
        open_scene(str(place / "empty"))


def test_the_nearest_fit_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(SourceError, match="most like replica .results. but lacks traj.txt"):
        open_scene(str(tmp_path))


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("room://?sed=3", "Did you mean 'seed'"),
        ("room://?seed=x", "is a number"),
        ("rtsp://host/1", "can be played, but not opened"),
    ],
)
def test_addresses_that_make_no_sense(where: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_scene(where)


def test_a_room_is_opened_by_its_address() -> None:
    scene = open_scene("room://?seed=3&frames=4&kind=walk", width=40)
    assert len(scene) == 4
    shot = scene[3]
    assert shot.image.shape == (30, 40, 3)
    assert shot.depth is not None
    assert shot.c2w is not None


def test_an_address_of_a_room_says_what_its_camera_does() -> None:
    room = open_scene("room://?seed=1&frames=9&jitter=0&moving=true&covered=4-6")
    assert isinstance(room, Room)
    assert (room.jitter, room.moving, list(room.covered)) == (False, True, [4, 5, 6])
    for wrong in ("jitter=x", "covered=a", "frames=many"):
        with pytest.raises(UsageError, match=wrong.split("=")[0]):
            open_scene(f"room://?{wrong}")
