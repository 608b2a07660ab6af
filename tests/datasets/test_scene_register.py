"""Depth seen from beside: planes have a closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shared_data import shared_data

from retain.datasets.scene.open import open_scene
from retain.datasets.scene.pictures import read_depth
from retain.datasets.scene.register import register
from retain.datasets.scene.sevenscenes import COLOUR, DEPTH, DEPTH_TO_COLOUR
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera

SEEN = Camera(58.0, 58.0, 32.0, 24.0, 64, 48)
WANTED = Camera(52.0, 52.0, 32.0, 24.0, 64, 48)
SHIFT = rigid.exp(np.array([0.01, -0.02, 0.015, -0.05, 0.01, 0.02]))


def plane(camera: Camera, normal: np.ndarray, offset: float) -> np.ndarray:
    """Depth float64 [H, W] of the plane n . x = d."""
    return offset / (camera.rays().astype(np.float64) @ normal)


def test_a_slanted_plane_lands_where_the_other_camera_sees_it() -> None:
    normal, offset = np.array([0.3, -0.2, 0.93]), 2.0
    moved_normal = SHIFT[:3, :3] @ normal
    moved_offset = offset + moved_normal @ SHIFT[:3, 3]
    found = register(plane(SEEN, normal, offset).astype(np.float32), SEEN, WANTED, SHIFT)
    wanted = plane(WANTED, moved_normal, moved_offset)
    inner = found[12:-12, 12:-12]
    assert (inner > 0).all(), "a denser grid leaves no holes"
    # A value may have moved by most of a pixel, over which this plane rises by less than this.
    assert np.abs(inner / wanted[12:-12, 12:-12] - 1).max() < 0.02


def test_standing_still_changes_nothing() -> None:
    depth = np.random.default_rng(0).uniform(0.5, 5, (48, 64)).astype(np.float32)
    depth[4, 5:9] = 0
    assert np.array_equal(register(depth, SEEN, SEEN, np.eye(4)), depth)


def test_of_two_surfaces_the_near_one_hides_the_far_one() -> None:
    depth = np.full((48, 64), 4.0, np.float32)
    depth[:, :32] = 1.0
    motion = np.eye(4)
    motion[0, 3] = 0.2  # near points move 11.6 pixels to the right, far ones 2.9
    found = register(depth, SEEN, SEEN, motion)
    assert (found[:, 33:43] == 1).all()
    assert (found[:, 44:] == 4).all()
    assert (found[:, :11] == 0).all(), "what nobody saw stays unknown"


def test_only_single_holes_between_agreeing_neighbours_are_filled() -> None:
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, 40:] = 3.0
    depth[10, 10] = 0  # single: filled
    depth[20:23, 20:23] = 0  # three wide: its middle stays
    depth[:, 40] = 0  # between 2 m and 3 m
    found = register(depth, SEEN, SEEN, np.eye(4))
    assert found[10, 10] == 2
    assert found[21, 21] == 0
    assert (found[:, 40] == 0).all()


def test_points_behind_the_other_camera_are_dropped() -> None:
    motion = np.eye(4)
    motion[2, 3] = -3.0
    assert not register(np.full((48, 64), 2.0, np.float32), SEEN, WANTED, motion).any()


@pytest.fixture(scope="module")
def kitchen() -> Path:
    return shared_data("kitchen_rgbd/camera-intrinsics.txt").parent


def test_registered_depth_and_poses_predict_the_real_kitchen_better(kitchen: Path) -> None:
    """Pixels of one frame, moved by depth and pose to another one, must look alike there: more so
    than when depth and poses are taken for the colour camera's, at either focal length."""
    scene = open_scene(str(kitchen))
    assert len(scene) == 200
    totals = np.zeros(3)
    for i in range(0, 190, 60):
        a, b = scene[i], scene[i + 10]
        assert a.depth is not None
        assert a.c2w is not None
        assert b.c2w is not None
        raw = read_depth(kitchen / f"frame-{2 * i:06d}.depth.png", 0.001, 65535)
        ours = rigid.inverse(b.c2w) @ a.c2w
        stored = rigid.inverse(b.c2w @ DEPTH_TO_COLOUR) @ a.c2w @ DEPTH_TO_COLOUR
        totals[0] += error(a.image, a.depth, COLOUR, ours, b.image)
        totals[1] += error(a.image, raw, COLOUR, stored, b.image)
        totals[2] += error(a.image, raw, DEPTH, stored, b.image)
    assert totals[0] < 0.97 * totals[1]
    assert totals[0] < 0.8 * totals[2]


def error(
    image: np.ndarray, depth: np.ndarray, camera: Camera, motion: np.ndarray, other: np.ndarray
) -> float:
    """Mean absolute difference in grey levels of inner pixels that both frames see."""
    known = np.zeros(depth.shape, bool)
    inner = np.s_[40:-40:3, 60:-60:3]
    known[inner] = depth[inner] > 0
    points = rigid.transform(motion, camera.unproject(depth)[known])
    x, y = np.floor(camera.project(points)).T
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    there = other[y[inside].astype(int), x[inside].astype(int)].astype(float).mean(axis=1)
    here = image[known][inside].astype(float).mean(axis=1)
    return float(np.abs(there - here).mean())
