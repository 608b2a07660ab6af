"""A room written in each layout comes back through that data set's own reader."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retain.datasets.scene.base import Scene, Shot
from retain.datasets.scene.nerfstudio import Nerfstudio
from retain.datasets.scene.replica import Replica
from retain.datasets.scene.rgbd import RgbdFolder
from retain.datasets.scene.room import Room
from retain.datasets.scene.sevenscenes import COLOUR, SevenScenes
from retain.datasets.scene.tum import TumRgbd
from retain.datasets.scene.write import LAYOUTS, fov_deg, write_scene
from retain.pipeline.errors import UsageError

READERS = {
    "rgbd": (RgbdFolder, 0.0001),
    "tum": (TumRgbd, 0.0001),
    "replica": (Replica, 0.00008),
    "nerfstudio": (Nerfstudio, 0.0005),
}
"""And half a step of its depth, metres."""


@pytest.fixture(scope="module")
def room() -> Room:
    return Room(5, frames=4, width=64, height=48)


def check_alike(read: Scene, room: Room) -> None:
    assert len(read) == len(room)
    for i in range(len(room)):
        ours, theirs = room[i], read[i]
        assert theirs.seconds == pytest.approx(ours.seconds, abs=1e-6)
        assert np.allclose(theirs.camera.K, ours.camera.K, atol=1e-9)
        assert theirs.c2w is not None
        assert np.allclose(theirs.c2w, ours.c2w, atol=2e-6)


@pytest.mark.parametrize("layout", READERS)
def test_rooms_come_back(layout: str, room: Room, tmp_path: Path) -> None:
    write_scene(room, tmp_path, layout)
    reader, half_step = READERS[layout]
    read = reader(tmp_path)
    assert read.metric
    check_alike(read, room)
    for i in range(len(room)):
        ours, theirs = room[i], read[i]
        if layout == "replica":
            assert np.abs(theirs.image.astype(int) - ours.image).mean() < 3
        else:
            assert np.array_equal(theirs.image, ours.image)
        assert theirs.depth is not None
        assert ours.depth is not None
        assert np.abs(theirs.depth - ours.depth).max() <= half_step + 1e-6


def test_seven_scenes_has_depth_and_poses_of_another_camera(tmp_path: Path) -> None:
    room = Room(5, frames=1, width=640, height=480, fov_deg=fov_deg(COLOUR))
    write_scene(room, tmp_path, "7-scenes")
    stored = np.loadtxt(tmp_path / "frame-000000.pose.txt")
    assert 0.02 < np.linalg.norm(stored[:3, 3] - room.poses[0, :3, 3]) < 0.03
    read = SevenScenes(tmp_path)
    check_alike(read, room)
    ours, theirs = room[0], read[0]
    assert np.array_equal(theirs.image, ours.image)
    assert theirs.depth is not None
    assert ours.depth is not None
    known = theirs.depth > 0
    # The depth camera sees less, and pixels were rounded twice: silhouettes are off, surfaces not.
    assert known.mean() > 0.6
    assert np.median(np.abs(theirs.depth - ours.depth)[known]) < 0.01


def test_depth_out_of_reach_or_unknown_is_unknown(tmp_path: Path) -> None:
    room = Room(5, frames=2, width=64, height=48, covered=(1,))
    write_scene(room, tmp_path, "tum")
    assert (TumRgbd(tmp_path)[1].depth == 0).all()


def test_opengl_axes_look_backwards(room: Room, tmp_path: Path) -> None:
    write_scene(room, tmp_path, "nerfstudio")
    given = json.loads((tmp_path / "transforms.json").read_text())
    matrix = np.array(given["frames"][0]["transform_matrix"])
    assert np.allclose(matrix[:, 2], -room.poses[0][:, 2])
    assert np.allclose(matrix[:, 0], room.poses[0][:, 0])
    assert matrix[2, 1] > 0.8  # y is up, and so is the world's z


def test_a_layout_has_one_camera_and_replica_all_poses(room: Room, tmp_path: Path) -> None:
    class Altered:
        description, notes, metric = "altered", (), True

        def __init__(self, **changes: object) -> None:
            self.changes = changes

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Shot:
            return replace(room[index], **(self.changes if index else {}))  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="another camera"):
        write_scene(Altered(camera=room.camera.resized(32, 24)), tmp_path, "rgbd")
    for layout in ("replica", "nerfstudio"):
        with pytest.raises(UsageError, match="frame 1 has none"):
            write_scene(Altered(c2w=None), tmp_path / layout, layout)
    for layout in ("rgbd", "tum"):
        write_scene(Altered(c2w=None), tmp_path / layout, layout)
        reader, _ = READERS[layout]
        assert [shot.c2w is None for shot in (reader(tmp_path / layout)[i] for i in range(2))] == [
            False,
            True,
        ]


def test_what_a_layout_cannot_hold_is_refused(room: Room, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'replica'"):
        write_scene(room, tmp_path, "replika")
    with pytest.raises(UsageError, match="fov_deg=62.7"):
        write_scene(room, tmp_path, "7-scenes")
    assert {*READERS, "7-scenes"} == set(LAYOUTS)
