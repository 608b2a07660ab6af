"""What the camera's options do to a room's pictures and depth; the room stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.scene import room_sensor
from retain.datasets.scene.metrics import psnr
from retain.datasets.scene.room import Room
from retain.datasets.scene.room_classes import BALL

SIZE = {"frames": 60, "width": 96, "height": 72}


@pytest.fixture(scope="module")
def plain() -> Room:
    return Room(8, **SIZE)


def test_jitter_is_on_the_input_only(plain: Room) -> None:
    room = Room(8, **SIZE, jitter=True)
    ours, clean = room[20], plain[20]
    assert np.array_equal(ours.depth, clean.depth)
    assert np.array_equal(ours.labels, clean.labels)
    assert np.array_equal(room.truth(20).image, clean.image)
    assert 12 < psnr(ours.image, clean.image) < 40
    assert np.array_equal(ours.image, room[20].image)
    assert len(room.notes) == 1


def test_exposure_wanders_smoothly() -> None:
    room = Room(8, frames=200, width=32, height=24, jitter=True, kind="turn")
    ratios = []
    for i in range(0, 200, 8):
        given, true = (x.astype(float) for x in (room[i].image, room.truth(i).image))
        usable = (true > 30) & (true < 180)
        ratios.append(np.median((given / np.maximum(true, 1))[usable]))
    assert np.ptp(ratios) > 0.08
    assert np.abs(np.diff(ratios)).max() < 0.12


def test_noise_is_new_in_each_frame_and_more_where_it_is_bright() -> None:
    flat = np.full((60, 80, 3), 40, np.uint8)
    a, b = (room_sensor.noisy(flat, 1, i).astype(float) - 40 for i in (3, 4))
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03
    assert abs(a.mean()) < 0.1
    bright = room_sensor.noisy(flat * 5, 1, 3).astype(float)
    assert 1 < a.std() < bright.std() < 4


def test_depth_sensor_noise_grows_with_distance_and_grazing_surfaces_are_holes() -> None:
    room = Room(8, frames=60, width=320, height=240, sensor=True)
    residuals, depths, cosines, holes = [], [], [], []
    shift = None
    for i in (0, 20, 40):
        shot, truth = room[i], room.truth(i)
        assert shot.depth is not None
        if shift is None:
            shift = best_shift(shot.depth, truth.depth)
        moved = np.roll(truth.depth, shift, (0, 1))[4:-4, 4:-4]
        measured = shot.depth[4:-4, 4:-4]
        rays = room.camera.rays()
        facing = -np.einsum("hwi,hwi->hw", truth.normals @ room.poses[i, :3, :3], rays)
        facing = np.roll(facing / np.linalg.norm(rays, axis=2), shift, (0, 1))[4:-4, 4:-4]
        known = measured > 0
        residuals.append((measured - moved)[known])
        depths.append(moved[known])
        cosines.append(facing.ravel())
        holes.append(~known.ravel())
    residual, z = np.concatenate(residuals), np.concatenate(depths)
    for low, high in ((1.5, 2.0), (3.0, 3.5)):
        inside = (z > low) & (z < high)
        expected = 0.0012 + 0.0019 * ((low + high) / 2 - 0.4) ** 2
        assert residual[inside].std() == pytest.approx(expected, rel=0.15)
    facing, hole = np.concatenate(cosines), np.concatenate(holes)
    assert hole[facing < 0.19].all()
    assert not hole[facing > 0.21].any()


def best_shift(depth: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Rows and columns that the measured depth is moved by."""

    def cost(shift: tuple[int, int]) -> float:
        gap = np.abs(depth - np.roll(truth, shift, (0, 1)))[4:-4, 4:-4]
        return float(gap[depth[4:-4, 4:-4] > 0].mean())

    shifts = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    return min(shifts, key=cost)


def test_the_balloon_drifts_through_an_unchanged_room(plain: Room) -> None:
    room = Room(8, **SIZE, moving=True)
    changed = 0
    for i in (0, 15, 30, 45):
        ours, without = room[i], plain[i]
        assert ours.depth is not None
        assert without.depth is not None
        assert (ours.depth <= without.depth).all()
        balloon = ours.depth < without.depth
        assert ours.labels is not None
        assert (ours.labels[balloon] == BALL).all()
        # Pixels next to its silhouette are mixed with it.
        far = ~np.pad(balloon, 1)[:-2, 1:-1] & ~np.pad(balloon, 1)[2:, 1:-1] & ~balloon
        far &= ~np.pad(balloon, 1)[1:-1, :-2] & ~np.pad(balloon, 1)[1:-1, 2:]
        differ = np.abs(ours.image.astype(int) - without.image).max(axis=2) > 0
        assert (differ & far).sum() <= 4 + 0.02 * differ.sum()
        changed += int(balloon.any())
    assert np.linalg.norm(room.mover(10) - room.mover(20)) > 0.05
    assert changed >= 2


def test_a_covered_lens_sees_nothing(plain: Room) -> None:
    room = Room(8, **SIZE, covered=range(10, 13))
    shot = room[11]
    assert shot.image.max() < 20
    assert shot.image.std() > 0
    assert shot.depth is not None
    assert shot.labels is not None
    assert not shot.depth.any()
    assert not shot.labels.any()
    assert np.array_equal(shot.c2w, plain[11].c2w)
    assert np.array_equal(room[13].image, plain[13].image)
    assert room.notes == ("The lens is covered in 3 frames.",)
    assert room.truth(11).depth.all()
