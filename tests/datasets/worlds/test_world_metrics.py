"""Centres read back from frames, and scores that must be zero, must rise, or have a closed form."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.worlds import metrics
from retain.datasets.worlds.config import KINDS, Kind, WorldConfig
from retain.datasets.worlds.draw import Clips, draw


def some(kind: Kind = "ball", side: int = 12, frames: int = 8) -> Clips:
    return draw(WorldConfig(kind=kind, side=side, frames=frames, split="test"), 60, 2, seed=7)


@pytest.mark.parametrize(
    ("side", "mean", "worst"), [(12, 0.1, 0.4), (24, 0.05, 0.25), (64, 0.03, 0.2)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_centres_are_read_back(kind: Kind, side: int, mean: float, worst: float) -> None:
    clips = some(kind, side)
    off = np.linalg.norm(metrics.read(kind, clips.frames) - clips.centres, axis=-1)
    assert off.mean() < mean
    assert off.max() < worst


def test_an_empty_frame_has_no_centre_and_counts_as_lost() -> None:
    clips = some()
    black = np.zeros_like(clips.frames)
    assert np.isnan(metrics.centres(black)).all()
    assert np.isnan(metrics.pair(black)).all()
    scores = metrics.scores(black, clips)
    assert np.allclose(scores["E"], 6)
    assert np.allclose(scores["ghosts"], 1)


def test_one_object_of_two_is_the_first() -> None:
    clips = some("ball")
    found = metrics.pair(clips.frames)
    assert np.abs(found[..., 0, :] - clips.centres[..., 0, :]).max() < 0.2
    assert np.isnan(found[..., 1, :]).all()


def test_faint_things_do_not_move_a_centre() -> None:
    clips = some()
    hazy = np.maximum(clips.frames, np.float32(0.2))
    assert np.array_equal(metrics.centres(hazy), metrics.centres(clips.frames))


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_scores_nothing(kind: Kind) -> None:
    clips = some(kind)
    at = clips.centres
    assert metrics.trajectory_error(at, at, 6).max() == 0
    assert np.nanmax(metrics.acceleration_error(at, at, clips.hits)) == 0
    assert metrics.energy_drift(at, clips).max() == 0
    assert metrics.penetration(at, clips).max() < 1e-4
    assert not metrics.violations(at, clips).any()
    assert metrics.ghosts(clips.frames, clips.frames).max() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_read_from_frames_breaks_no_rule(kind: Kind) -> None:
    scores = metrics.scores(some(kind).frames, some(kind))
    assert scores["violations"].max() == scores["ghosts"].max() == 0
    assert scores["energy"].mean() < 0.06
    assert np.nanmean(scores["a-err"]) < 0.25


def test_the_error_of_a_shift_is_the_shift_on_judged_frames() -> None:
    clips = some()
    moved = clips.centres + np.float32((0.6, 0.8))
    moved[:, :, :2] += 5
    assert np.allclose(metrics.trajectory_error(moved, clips.centres, 6), 1, atol=1e-5)
    moved[:, :, -1] += np.float32((0.6, 0.8))
    assert np.allclose(metrics.last_error(moved, clips.centres, 6), 2, atol=1e-5)


def test_constant_velocity_misses_free_flight_by_gravity() -> None:
    """g k (k + 1) / 2 after k frames, without drag and bounces."""
    clips = draw(WorldConfig(split="test"), 500, 1, seed=7)
    line = metrics.constant_velocity(clips.centres)
    assert np.array_equal(line[:, :, :2], clips.centres[:, :, :2])
    free = ~clips.hits.any((2, 3)) & (clips.params[:, None, 3] < 0.01)
    size = np.linalg.norm(clips.params[:, None, :2], axis=-1)
    k = np.arange(1, 7)
    error = metrics.trajectory_error(line, clips.centres, 6)
    assert free.sum() > 10
    assert np.abs(error - size * (k * (k + 1) / 2).mean())[free].max() < 0.15


def test_the_acceleration_error_is_the_difference_of_gravities() -> None:
    clips = some()
    other = draw(WorldConfig(split="test"), 60, 2, seed=7, laws_seed=8)
    free = ~(clips.hits | other.hits).any((2, 3))
    slow = (np.maximum(clips.params, other.params)[:, 3] < 0.03)[:, None] & free
    error = metrics.acceleration_error(other.centres, clips.centres, clips.hits)
    between = np.linalg.norm(other.params[:, :2] - clips.params[:, :2], axis=-1)[:, None]
    assert slow.any()
    assert np.abs(error - between)[slow].max() < 0.06


@pytest.mark.parametrize("kind", ["ball", "balls"])
def test_restitution_is_read_from_bounces(kind: Kind) -> None:
    clips = draw(WorldConfig(kind=kind, split="test"), 300, 2, seed=1)
    off = metrics.restitution(clips.centres, clips) - clips.params[:, None, metrics.REST[kind]]
    seen = ~np.isnan(off)
    assert seen.mean() > 0.2
    assert np.abs(off[seen]).mean() < 0.05
    assert abs(np.median(off[seen])) < 0.03


def test_without_a_bounce_there_is_no_restitution() -> None:
    clips = some()
    calm = ~clips.hits.any((2, 3))
    assert calm.any()
    assert np.isnan(metrics.restitution(clips.centres, clips)[calm]).all()
    assert np.isnan(metrics.restitution(some("pendulum").centres, some("pendulum"))).all()


def test_a_ball_in_the_wall_violates() -> None:
    clips = some()
    found = clips.centres.copy()
    found[0, 0, 5, 0, 0] = 12 - clips.radius[0, 0] + 1.2
    found[1, 0, 5, 0, 0] = 12 - clips.radius[1, 0] + 0.8
    deep = metrics.penetration(found, clips)
    assert deep[0, 0] == pytest.approx(1.2, abs=1e-5)
    assert deep[1, 0] == pytest.approx(0.8, abs=1e-5)
    assert metrics.violations(found, clips)[0, 0]


def test_a_kick_in_mid_air_violates_but_a_bounce_does_not() -> None:
    clips = some(side=24)
    still = np.full_like(clips.centres, 12)
    assert not metrics.violations(still, clips).any()
    kicked = still.copy()
    kicked[:, :, 5:] += 2.5
    assert metrics.violations(kicked, clips).all()
    kicked[:, :, 5:] -= 1.9
    assert not metrics.violations(kicked, clips).any()
    assert clips.hits.any()
    assert not metrics.violations(clips.centres, clips).any()


def test_standing_still_drifts_in_energy_by_what_motion_holds() -> None:
    clips = some("balls")
    still = np.repeat(clips.centres[:, :, 1:2], 8, axis=2)
    step = np.square(np.diff(clips.centres, axis=2)).sum(-1)
    share = clips.mass / clips.mass.sum(1, keepdims=True)
    kinetic = (share[:, None, None] * step).sum(-1)[:, :, 1:].mean(-1) / 1.5**2
    assert np.allclose(metrics.energy_drift(still, clips), kinetic, rtol=1e-4)


def test_ghosts_count_frames_with_too_little_or_too_much() -> None:
    clips = some()
    frames = clips.frames.copy()
    frames[0, 0, 0] = 0  # given, not judged
    frames[0, 0, 3] = 0
    frames[0, 0, 4] = 1
    frames[0, 1] *= 0.95
    wrong = metrics.ghosts(frames, clips.frames)
    assert wrong[0, 0] == pytest.approx(2 / 6)
    assert wrong[0, 1] == 0


def test_another_world_scores_worse_than_the_truth_in_every_kind() -> None:
    for kind in KINDS:
        config = WorldConfig(kind=kind, split="test")
        clips, other = draw(config, 192, 1, 0), draw(config, 192, 1, 0, laws_seed=1)
        right, wrong = metrics.scores(clips.frames, clips), metrics.scores(other.frames, clips)
        assert wrong["E"].mean() > 4 * right["E"].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_noise_and_holes_are_scored_without_a_warning(kind: Kind) -> None:
    clips, rng = some(kind), np.random.default_rng(0)
    noise = rng.random(clips.frames.shape, np.float32)
    noise[rng.random(noise.shape[:3]) < 0.5] = 0
    scores = metrics.scores(noise, clips)
    for name in ("E", "E_last", "penetration", "violations", "ghosts"):
        assert np.isfinite(scores[name]).all()
    assert scores["E"].mean() > 2


def test_scores_are_of_each_clip() -> None:
    clips = some()
    scores = metrics.scores(clips.frames, clips)
    assert all(score.shape == (60, 2) for score in scores.values())
    one = metrics.scores(clips.frames[:, 1:], clips.only(slice(1, 2)))
    for name in ("E", "E_last", "energy", "ghosts", "penetration"):
        assert np.array_equal(one[name], scores[name][:, 1:])


def test_gain_is_the_share_of_the_way_to_the_floor() -> None:
    worlds = np.random.default_rng(1).normal(2, 3, 200).astype(np.float32)
    floor = np.zeros_like(worlds)
    assert metrics.gain(worlds, worlds, floor) == 0
    assert metrics.gain(worlds, floor, floor) == 1
    assert metrics.gain(worlds, worlds / 2, floor) == pytest.approx(0.5)


def test_the_heavier_ball_may_be_kicked_less() -> None:
    clips = some("balls", side=64)
    still = np.full_like(clips.centres, 32)
    ratio = clips.params[:, 0]
    kicks = still.copy()
    kicks[:, :, 5:, 1, 0] += 12
    broken = metrics.violations(kicks, clips)[:, 0]
    assert 0 < broken.sum() < len(broken)
    assert ratio[broken].max() < ratio[~broken].min()
