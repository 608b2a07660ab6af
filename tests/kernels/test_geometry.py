"""Rigid motions and the camera: each function against its inverse or its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera

PART = st.floats(-1.7, 1.7)
TWIST = st.tuples(*[PART] * 6).map(np.array)
"""Angles stay under pi: 1.7 times the root of 3 is 2.95."""


@given(TWIST, st.sampled_from([1.0, 1e-3, 1e-6, 1e-9]))
def test_the_logarithm_undoes_the_exponential(twist: np.ndarray, size: float) -> None:
    twist = twist * np.r_[np.full(3, size), np.ones(3)]
    motion = rigid.exp(twist)
    assert rigid.is_rigid(motion, 1e-9)
    np.testing.assert_allclose(rigid.log(motion), twist, atol=1e-7)


@given(TWIST)
def test_inverse_and_quaternion(twist: np.ndarray) -> None:
    motion = rigid.exp(twist)
    np.testing.assert_allclose(rigid.inverse(motion) @ motion, np.eye(4), atol=1e-12)
    quat = rigid.quaternion(motion[:3, :3])
    np.testing.assert_allclose(rigid.matrix(-3 * quat), motion[:3, :3], atol=1e-12)


def test_a_quarter_turn_about_z() -> None:
    motion = rigid.exp([0, 0, np.pi / 2, 0, 0, 0])
    np.testing.assert_allclose(rigid.transform(motion, [[1.0, 0, 0]]), [[0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(rigid.quaternion(motion[:3, :3]), np.sqrt([0.5, 0, 0, 0.5]))


def test_what_is_no_motion() -> None:
    mirror = np.diag([1.0, 1, -1, 1])
    for wrong in (mirror, 2 * np.eye(4), np.eye(3), np.full((4, 4), np.nan)):
        assert not rigid.is_rigid(wrong)


def test_up_is_against_the_cameras_y() -> None:
    tilted = [rigid.exp([angle, 0, 0, 1, 2, 3]) for angle in (-0.3, 0.3)]
    np.testing.assert_allclose(rigid.upward(tilted), [0, -1, 0], atol=1e-12)
    assert not rigid.upward(
        [rigid.exp([0, 0, 0, 0, 0, 0]), rigid.exp([np.pi, 0, 0, 0, 0, 0])]
    ).any()


def test_points_come_back_to_their_pixels() -> None:
    camera = Camera(50.0, 60.0, 8.25, 5.5, 16, 12)
    depth = np.linspace(1, 4, 16 * 12, dtype=np.float32).reshape(12, 16)
    pixels = camera.project(camera.unproject(depth).reshape(-1, 3)).reshape(12, 16, 2)
    np.testing.assert_allclose(pixels[3, 7], [7.5, 3.5], atol=1e-4)
    half = camera.resized(8, 6)
    np.testing.assert_allclose(half.project([[0.1, 0.2, 1.0]]) * 2, camera.project([[0.1, 0.2, 1]]))
    assert np.isnan(camera.project([[0.0, 0.0, -1.0]])).all()


@pytest.mark.parametrize(
    "numbers", [(0, 1, 0, 0, 4, 4), (1, np.nan, 0, 0, 4, 4), (1, 1, 0, 0, 0, 4)]
)
def test_what_is_no_camera(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Camera(*numbers)  # type: ignore[arg-type]
