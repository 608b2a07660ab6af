"""Rooms: the truth is true, the camera keeps its distance, and options change only the camera."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.scene.base import Shot
from retain.datasets.scene.metrics import psnr
from retain.datasets.scene.room import Room
from retain.datasets.scene.room_classes import BALL, CEILING, CLASSES, FLOOR, codes
from retain.datasets.scene.room_path import CLEARANCE_M, PathKind, camera_path
from retain.datasets.scene.room_plan import draw_size
from retain.datasets.scene.room_shapes import distance
from retain.kernels.geometry import rigid
from retain.pipeline.errors import UsageError


@pytest.fixture(scope="module")
def room() -> Room:
    return Room(3, frames=90, width=96, height=72)


def same(a: Shot, b: Shot) -> bool:
    pairs = ((a.image, b.image), (a.depth, b.depth), (a.c2w, b.c2w), (a.labels, b.labels))
    return all(np.array_equal(x, y) for x, y in pairs)  # type: ignore[arg-type]


def test_shots_are_the_same_in_any_order(room: Room) -> None:
    again = Room(3, frames=90, width=96, height=72)
    ours = [room[i] for i in (0, 40, 7)]
    assert all(same(a, again[i]) for a, i in zip(ours[::-1], (7, 40, 0), strict=True))
    assert same(room[-1], again[89])
    assert not same(room[0], Room(4, frames=90, width=96, height=72)[0])
    with pytest.raises(IndexError):
        room[90]


def test_a_shot_is_what_scenes_promise(room: Room) -> None:
    shot = room[12]
    assert shot.image.shape == (72, 96, 3)
    assert shot.image.dtype == np.uint8
    assert shot.image.flags.c_contiguous
    assert shot.depth is not None
    assert shot.depth.dtype == np.float32
    assert shot.depth.min() > 0
    assert shot.c2w is not None
    assert rigid.is_rigid(shot.c2w, 1e-9)
    assert shot.labels is not None
    assert set(np.unique(shot.labels)) <= set(range(1, len(CLASSES)))
    assert (shot.names, shot.seq, room.metric) == (CLASSES, 12, True)


def test_another_picture_size_is_the_same_view(room: Room) -> None:
    """Twice the size: every second pixel's neighbourhood has the depth and the colour."""
    large = Room(3, frames=90, width=192, height=144)[20]
    small = room[20]
    assert large.depth is not None
    assert small.depth is not None
    coarse = large.depth.reshape(72, 2, 96, 2).transpose(0, 2, 1, 3).reshape(72, 96, 4)
    flat = np.ptp(coarse, axis=2) < 0.05
    assert flat.mean() > 0.9
    assert np.abs(coarse.mean(axis=2) - small.depth)[flat].max() < 0.03
    halved = large.image.reshape(72, 2, 96, 2, 3).mean(axis=(1, 3))
    assert psnr(halved / 255, small.image) > 27


@pytest.mark.parametrize("seed", range(8))
def test_depth_ends_on_a_surface(seed: int) -> None:
    """Unprojected, every pixel lies on a wall or on the object it is said to be of, and no object
    lies before it: distances are a computation of their own."""
    room = Room(seed, frames=60, width=64, height=48)
    for index in (0, 31):
        truth, c2w = room.truth(index), room.poses[index]
        points = rigid.transform(c2w, room.camera.unproject(truth.depth)).reshape(-1, 3)
        half = room.plan.size * (0.5, 0.5, 1)
        to_wall = np.minimum(half - np.abs(points), [9, 9, 9])
        to_wall[:, 2] = np.minimum(points[:, 2], half[2] - points[:, 2])
        to_wall = to_wall.min(axis=1)
        gaps = np.stack([distance(shape, points) for shape in room.plan.shapes], axis=1)
        assert np.minimum(np.abs(gaps).min(axis=1), np.abs(to_wall)).max() < 2e-5
        assert min(gaps.min(), to_wall.min()) > -2e-5
        which = gaps.argmin(axis=1)
        on = (gaps.min(axis=1) < 1e-5) & (to_wall > 1e-3)
        instances = np.array([shape.instance for shape in room.plan.shapes])
        assert np.array_equal(instances[which[on]], truth.instances.ravel()[on])
        # Half way to it there is nothing.
        middle = c2w[:3, 3] + (points - c2w[:3, 3]) * np.linspace(0.1, 0.95, 9)[:, None, None]
        free = [distance(shape, middle.reshape(-1, 3)).min() for shape in room.plan.shapes]
        assert min(free) > 0


def test_normals_are_those_of_the_depth(room: Room) -> None:
    truth = room.truth(30)
    points = room.camera.unproject(truth.depth)
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normals = np.cross(down, across)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    ours = truth.normals[1:-1, 1:-1] @ room.poses[30, :3, :3]
    agree = (normals * ours).sum(axis=2)
    assert np.median(agree) > 0.9999
    assert (agree > 0.99).mean() > 0.8
    facing = np.einsum("hwi,hwi->hw", truth.normals @ room.poses[30, :3, :3], room.camera.rays())
    assert (facing < 0).all()


@pytest.mark.parametrize("kind", ["loop", "walk", "turn"])
def test_the_camera_keeps_its_distance(kind: PathKind) -> None:
    for seed in range(5):
        room = Room(seed, frames=200, kind=kind)
        places = room.poses[:, :3, 3]
        gaps = [distance(shape, places).min() for shape in room.plan.shapes]
        assert min(gaps) >= CLEARANCE_M
        half = room.plan.size[:2] / 2
        assert (half - np.abs(places[:, :2])).min() >= CLEARANCE_M
        assert places[:, 2].min() >= CLEARANCE_M
        assert (room.plan.size[2] - places[:, 2]).min() >= CLEARANCE_M
        balloon = np.stack([room.mover(i) for i in range(200)])
        gap = np.linalg.norm(balloon - places, axis=1).min() - room.plan.mover.size[0]
        assert gap >= CLEARANCE_M


def test_nothing_is_near_in_any_direction() -> None:
    """As the ray caster sees it, all around a place of the path."""
    room = Room(6, frames=100, width=48, height=48, fov_deg=100)
    place = room.poses[50, :3, 3].copy()
    for turn in ((0, 0, 0), (0, 1.57, 0), (0, 3.14, 0), (0, -1.57, 0), (1.57, 0, 0), (-1.57, 0, 0)):
        room.poses[50] = rigid.exp([*turn, 0, 0, 0])
        room.poses[50, :3, 3] = place
        depth = room.truth(50).depth
        assert (depth * np.linalg.norm(room.camera.rays(), axis=2)).min() >= CLEARANCE_M


def steps(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved = rigid.inverse(poses[:-1]) @ poses[1:]
    q = rigid.quaternion(moved[:, :3, :3])
    angles = 2 * np.arctan2(np.linalg.norm(q[:, 1:], axis=1), q[:, 0])
    return np.linalg.norm(moved[:, :3, 3], axis=1), np.degrees(angles)


@pytest.mark.parametrize("frames", [30, 90, 250, 600])
@pytest.mark.parametrize("kind", ["loop", "walk", "turn"])
def test_paths_move_as_a_hand_does(kind: PathKind, frames: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        poses = camera_path(rng, draw_size(rng), frames, kind)
        lengths, angles = steps(poses)
        assert angles.min() >= 1
        assert angles.max() <= 6
        if kind == "turn":
            assert lengths.max() < 1e-12
            continue
        assert lengths.min() >= 0.02
        assert lengths.max() <= 0.08
        # Smooth: what changes from step to step is a part of the step.
        bend = np.linalg.norm(np.diff(poses[:, :3, 3], n=2, axis=0), axis=1)
        assert bend.max() < 0.02
        first, again = poses[0], poses[round((frames - 1) * 0.9)]
        apart = np.linalg.norm(first[:3, 3] - again[:3, 3])
        aside = np.degrees(np.arccos(np.clip(first[:3, 2] @ again[:3, 2], -1, 1)))
        if kind == "loop":
            assert apart < 0.08
            assert aside < 12
        else:
            assert apart > 0.15


def test_kinds_are_drawn_in_their_shares() -> None:
    kinds = [Room(seed, frames=2, kind=None).kind for seed in range(100)]
    assert 38 <= kinds.count("loop") <= 62
    assert 4 <= kinds.count("turn") <= 18


def test_rooms_have_what_makes_them_hard_and_easy() -> None:
    """Sizes, classes, textures: over some rooms, not in each."""
    rooms = [Room(seed, frames=120) for seed in range(10)]
    sizes = np.stack([room.plan.size for room in rooms])
    assert sizes[:, :2].min() >= 3
    assert sizes[:, :2].max() <= 8
    seen = {shape.label for room in rooms for shape in room.plan.shapes}
    assert seen == set(range(4, len(CLASSES)))
    assert {shape.kind for room in rooms for shape in room.plan.shapes} == {0, 1, 2, 3}
    materials = np.concatenate([room.plan.tables.materials for room in rooms])
    surfaces = materials[(materials[:, 4] < 0) & (materials[:, 6] == 0)]
    assert 0.2 < (surfaces[:, 3] < 0).mean() < 0.4
    assert 0.05 < (surfaces[:, 5] > 0).mean() < 0.16
    for room in rooms:
        waves = np.linalg.norm(room.plan.tables.textures[:, :3], axis=1)
        assert waves.min() >= 0.8 - 1e-5
        assert waves.max() <= 14 + 1e-3
        assert {FLOOR, CEILING} <= set(room._labels)


def test_codes_tell_classes_apart() -> None:
    table = codes()
    assert table.shape == (len(CLASSES), 16)
    assert table.dtype == np.float32
    assert np.allclose(table[1:] @ table[1:].T, np.eye(16), atol=1e-6)
    assert not table[0].any()
    assert len(set(CLASSES)) == len(CLASSES)


@pytest.mark.parametrize(
    "options", [{"frames": 0}, {"width": 4}, {"fov_deg": 170.0}, {"kind": "dance"}, {"seed": -1}]
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Room(**{"seed": 0, **options})  # type: ignore[arg-type]


def test_description_names_the_room(room: Room) -> None:
    assert "procedural room 3:" in room.description
    assert "90 frames (loop)" in room.description
    assert room.notes == ()
    assert BALL in {shape.label for shape in [room.plan.mover]}
