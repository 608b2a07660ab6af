"""Alignment and path errors against motions made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.scene import trajectory
from retain.kernels.geometry import rigid


def path(seed: int, count: int = 40) -> np.ndarray:
    """A smooth path of poses [count, 4, 4]."""
    rng = np.random.default_rng(seed)
    pose, poses = rigid.exp(rng.normal(size=6)), []
    for _ in range(count):
        pose = pose @ rigid.exp(rng.normal(0, 0.05, 6))
        poses.append(pose)
    return np.stack(poses)


def moved(motion: np.ndarray, poses: np.ndarray, scale: float = 1.0) -> np.ndarray:
    out = motion @ poses
    out[:, :3, 3] = scale * poses[:, :3, 3] @ motion[:3, :3].T + motion[:3, 3]
    return out


@given(st.integers(0, 2**31), st.floats(0.05, 20))
@settings(max_examples=40, deadline=None)
def test_alignment_finds_a_similarity_made_by_hand(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    motion = rigid.exp(rng.normal(0, 2, 6))
    truth = path(seed)
    estimate = moved(motion, truth, scale)
    found = trajectory.align(estimate[:, :3, 3], truth[:, :3, 3], scale=True)
    assert found.scale == pytest.approx(1 / scale)
    assert np.allclose(found.rotation, motion[:3, :3].T, atol=1e-9)
    assert np.allclose(found.pose(estimate), truth, atol=1e-9)
    assert trajectory.absolute_errors(estimate, truth, scale=True).rmse < 1e-9


def test_without_scale_lengths_are_kept_and_the_error_says_so() -> None:
    """Two points 2 m apart, estimated 4 m apart: each is 1 m off whatever the turn."""
    truth, estimate = np.tile(np.eye(4), (2, 1, 1)), np.tile(np.eye(4), (2, 1, 1))
    truth[:, 0, 3], estimate[:, 1, 3] = (-1, 1), (-2, 2)
    found = trajectory.absolute_errors(estimate, truth)
    assert found.rmse == found.mean == found.largest == pytest.approx(1.0)
    assert found.n == 2
    assert trajectory.absolute_errors(estimate, truth, scale=True).rmse == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_mirrored_path_is_turned_never_mirrored_and_no_turn_is_better(seed: int) -> None:
    """The reflection case of Umeyama: without the sign the "rotation" would be a mirror."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(50, 3)) * (1.0, 2.0, 3.0)
    estimate = truth * (1, 1, -1)
    found = trajectory.align(estimate, truth, scale=bool(seed % 2))
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert np.allclose(found.rotation @ found.rotation.T, np.eye(3))

    def cost(change: trajectory.Similarity) -> float:
        return float(((change(estimate) - truth) ** 2).sum())

    best = cost(found)
    assert best > 1  # a mirror image cannot be turned onto its original
    for _ in range(300):
        turn = rigid.exp(np.r_[rng.normal(0, rng.choice([0.02, 0.3, 2]), 3), 0, 0, 0])[:3, :3]
        rotation = turn @ found.rotation
        shift = truth.mean(axis=0) - found.scale * rotation @ estimate.mean(axis=0)
        assert cost(trajectory.Similarity(rotation, shift, found.scale)) >= best - 1e-9
    if seed % 2:
        for factor in (0.9, 0.99, 1.01, 1.1):
            scale = factor * found.scale
            shift = truth.mean(axis=0) - scale * found.rotation @ estimate.mean(axis=0)
            assert cost(trajectory.Similarity(found.rotation, shift, scale)) > best


def test_points_in_a_plane_or_on_a_line_are_aligned_too() -> None:
    motion = rigid.exp([0.3, -1.2, 0.5, 1, 2, 3])
    for flat in ((1, 1, 0), (1, 0, 0)):
        truth = np.random.default_rng(0).normal(size=(20, 3)) * flat
        found = trajectory.align(rigid.transform(motion, truth), truth)
        assert np.allclose(found(rigid.transform(motion, truth)), truth, atol=1e-9)
        assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_relative_error_of_a_constant_drift_is_the_drift_times_the_step() -> None:
    """Each estimated motion is 2 cm and 1 degree too much, along and about one axis."""
    wrong = rigid.exp([0, 0, np.radians(1), 0, 0, 0.02])
    step = rigid.exp([0, 0, 0.04, 0, 0, 0.05])
    truth, estimate = [np.eye(4)], [rigid.exp([1, 2, 3, 4, 5, 6])]
    for _ in range(20):
        truth.append(truth[-1] @ step)
        estimate.append(estimate[-1] @ step @ wrong)
    for count in (1, 5):
        found = trajectory.relative_errors(np.stack(estimate), np.stack(truth), count)
        assert found.translation.rmse == pytest.approx(0.02 * count)
        assert found.rotation_deg.median == pytest.approx(count)
        assert found.translation.n == 21 - count


def test_relative_error_does_not_see_where_the_world_is_nor_small_angles_as_none() -> None:
    truth = path(3)
    turned = moved(rigid.exp([1, 0, 2, 5, 5, 5]), truth)
    assert trajectory.relative_errors(turned, truth).translation.largest < 1e-12
    tiny = truth @ np.stack([rigid.exp([i % 2 * 1e-9, 0, 0, 0, 0, 0]) for i in range(len(truth))])
    assert trajectory.relative_errors(tiny, truth).rotation_deg.rmse == pytest.approx(
        np.degrees(1e-9), rel=1e-3
    )


def test_what_is_no_path_is_refused() -> None:
    good = path(0)
    bad = good.copy()
    bad[3, 0, 3] = np.nan
    for call in (
        lambda: trajectory.absolute_errors(bad, good),
        lambda: trajectory.absolute_errors(good[:5], good),
        lambda: trajectory.relative_errors(good, good, len(good)),
        lambda: trajectory.relative_errors(good, good, 0),
        lambda: trajectory.align(np.empty((0, 3)), np.empty((0, 3))),
        lambda: trajectory.align(np.ones((4, 3)), good[:4, :3, 3], scale=True),
    ):
        with pytest.raises(ValueError):
            call()
    assert np.isnan(trajectory.errors([]).rmse)
