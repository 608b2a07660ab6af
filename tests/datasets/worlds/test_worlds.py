"""Worlds obey the laws they hide: closed forms, conservation, walls; and what splits share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.worlds import ball, balls, pendulum, rolling
from retain.datasets.worlds.config import BOX, KINDS, ODD, PARAMS, Kind, WorldConfig
from retain.datasets.worlds.draw import draw
from retain.datasets.worlds.motion import Array, Motion, Simulator
from retain.pipeline.errors import UsageError

STILL = np.zeros(1, bool)


def play(
    kind: Simulator,
    law: list[float],
    clips: int = 40,
    frames: int = 8,
    seed: int = 0,
    pace: float = 1,
) -> Motion:
    """Clips of one world in float64, without jitter."""
    uniform = np.random.default_rng(seed).random((1, clips, kind.state_draws))
    radius = np.full((1, clips), kind.radius)
    return kind.motion(np.array([law]), uniform, radius, frames, pace, STILL)


def before_first_hit(motion: Motion) -> np.ndarray:
    """bool[W, K, T, N]: nothing struck up to and with this frame."""
    return ~np.logical_or.accumulate(motion.hits, axis=2)


def second_differences(centres: Array) -> Array:
    return np.diff(centres, 2, axis=2)


@pytest.mark.parametrize("frames", [8, 16])
def test_a_ball_flies_a_parabola_until_it_bounces(frames: int) -> None:
    gravity, pace = np.array((0.11, 0.23)), 8 / frames
    moved = play(ball.SIMULATOR, [*gravity, 0.8, 0.0], frames=frames, pace=pace)
    first, second = moved.centres[:, :, :1], moved.centres[:, :, 1:2]
    k = np.arange(-1.0, frames - 1)[:, None, None]
    parabola = second + k * (second - first) + pace**2 * gravity * k * (k + 1) / 2
    free = before_first_hit(moved)
    assert free[:, :, 5].sum() > 5
    assert np.abs(parabola - moved.centres)[free].max() < 1e-12


def test_a_ball_flies_another_parabola_after_its_bounce() -> None:
    gravity = np.array((-0.05, 0.2))
    moved = play(ball.SIMULATOR, [*gravity, 0.7, 0.0], clips=200)
    hits = moved.hits
    free = ~hits[:, :, 1:-1] & ~hits[:, :, 2:]
    after = free & ~before_first_hit(moved)[:, :, 1:-1]
    assert after.sum() > 20
    assert np.abs(second_differences(moved.centres) - gravity)[after].max() < 1e-12


def test_without_gravity_an_elastic_ball_is_mirrored_at_the_walls() -> None:
    moved = play(ball.SIMULATOR, [0, 0, 1, 0], clips=100, frames=40)
    low, width = ball.RADIUS, BOX - 2 * ball.RADIUS
    step = moved.centres[:, :, 1:2] - moved.centres[:, :, :1]
    unfolded = moved.centres[:, :, :1] + np.arange(40.0)[:, None, None] * step - low
    folded = width - np.abs(unfolded % (2 * width) - width)
    assert moved.hits.any((2, 3)).mean() > 0.9
    assert np.abs(folded + low - moved.centres).max() < 1e-9


def test_a_wall_leaves_the_share_of_speed_that_restitution_says() -> None:
    moved = play(ball.SIMULATOR, [0, 0, 0.6, 0], clips=300)
    once = (moved.hits[..., 0].sum(2) == 1) & ~moved.hits[:, :, -1, 0]
    step = np.diff(moved.centres[..., 0, :], axis=2)[once]
    struck = step[:, 0] * step[:, -1] < 0
    assert struck.sum() > 20
    assert np.allclose(step[:, -1][struck], -0.6 * step[:, 0][struck])
    assert np.allclose(step[:, -1][~struck], step[:, 0][~struck])


def test_drag_slows_a_ball_by_its_share_per_frame() -> None:
    moved = play(ball.SIMULATOR, [0, 0, 1, 0.08])
    step = np.diff(moved.centres, axis=2)
    free = before_first_hit(moved)[:, :, 2:]
    assert np.allclose((step[:, :, 1:] / step[:, :, :-1])[free], (1 - 0.08 / 4) ** 4)


@given(seed=st.integers(0, 10_000), power=st.floats(-1, 1), rest=st.floats(0.4, 1))
@settings(max_examples=25, deadline=None)
def test_colliding_balls_keep_momentum_and_the_restitution(
    seed: int, power: float, rest: float
) -> None:
    moved = play(balls.SIMULATOR, [4.0**power, rest], clips=20, seed=seed)
    alone = (moved.hits.sum(2) == 1).all(-1) & ~moved.hits[:, :, -1].any(
        -1
    )  # no wall before, after
    assert alone.any()
    step = np.diff(moved.centres, axis=2)[alone]
    mass = moved.mass[0][:, None]
    assert np.ptp((mass * step).sum(2), axis=1).max() < 1e-9
    change = step[:, -1, 0] - step[:, 0, 0]
    normal = change / np.linalg.norm(change, axis=-1, keepdims=True)
    relative = ((step[:, :, 0] - step[:, :, 1]) * normal[:, None]).sum(-1)
    assert np.abs(relative[:, -1] + rest * relative[:, 0]).max() < 1e-9
    energy = (mass * np.square(step)).sum((2, 3))
    lost = energy[:, 0] - energy[:, -1]
    reduced = mass.prod() / mass.sum()
    assert np.abs(lost - reduced * (1 - rest**2) * relative[:, 0] ** 2).max() < 1e-9


def test_balls_meet_in_every_clip_and_do_not_overlap() -> None:
    moved = play(balls.SIMULATOR, [2.0, 0.7], clips=400)
    assert moved.hits.all(-1).any(-1).all()
    apart = np.linalg.norm(moved.centres[..., 0, :] - moved.centres[..., 1, :], axis=-1)
    assert apart.min() > 2 * balls.RADIUS - 1e-9


@pytest.mark.parametrize("stiff", [0.05, 0.3, 0.6])
def test_an_undamped_pendulum_keeps_its_energy_and_its_length(stiff: float) -> None:
    """Speeds are chords between frames, so they are taken from many frames close together."""
    moved = play(pendulum.SIMULATOR, [stiff, 0.0], frames=160, pace=0.05)
    arm = moved.centres[..., 0, :] - BOX / 2
    theta = np.unwrap(np.arctan2(arm[..., 0], arm[..., 1]), axis=2)
    assert np.ptp(np.linalg.norm(arm, axis=-1), axis=2).max() < 1e-9
    turn = (theta[:, :, 2:] - theta[:, :, :-2]) / 0.1
    energy = turn**2 / 2 - stiff * np.cos(theta[:, :, 1:-1])
    assert np.ptp(energy, axis=2).max() < 2e-3 * stiff


def test_a_pendulum_at_clip_rate_moves_as_the_finely_stepped_one() -> None:
    """Same two first frames: a hundredth of the step, started with the speed that meets them."""
    stiff, damping = np.full((1, 1), 0.4), np.full((1, 1), 0.07)
    moved = play(pendulum.SIMULATOR, [0.4, 0.07], clips=30)
    arm = moved.centres[..., 0, :] - BOX / 2
    theta = np.unwrap(np.arctan2(arm[..., 0], arm[..., 1]), axis=2)
    angle, turn = theta[:, :, 0], theta[:, :, 1] - theta[:, :, 0]
    for _ in range(20):
        turn = turn + theta[:, :, 1] - fine(angle, turn, stiff, damping)[0]
    for frame in range(1, 8):
        angle, turn = fine(angle, turn, stiff, damping)
        assert np.abs(angle - theta[:, :, frame]).max() < 0.02


def fine(angle: Array, turn: Array, stiff: Array, damping: Array) -> tuple[Array, Array]:
    """A frame of plain Euler in 2,000 steps."""
    for _ in range(2000):
        accel = -stiff * np.sin(angle) - damping * turn
        angle, turn = angle + turn / 2000, turn + accel / 2000
    return angle, turn


def test_damping_only_takes_energy() -> None:
    moved = play(pendulum.SIMULATOR, [0.3, 0.1], frames=160, pace=0.05)
    arm = moved.centres[..., 0, :] - BOX / 2
    theta = np.unwrap(np.arctan2(arm[..., 0], arm[..., 1]), axis=2)
    energy = ((theta[:, :, 2:] - theta[:, :, :-2]) / 0.1) ** 2 / 2 - 0.3 * np.cos(theta[:, :, 1:-1])
    assert np.diff(energy, axis=2).max() < 1e-5
    assert (energy[:, :, -1] < energy[:, :, 0]).all()


@pytest.mark.parametrize("friction", [0.0, 0.2, 0.5, 0.7])
def test_a_rolling_disc_accelerates_by_slope_and_friction_then_rests(friction: float) -> None:
    moved = play(rolling.SIMULATOR, [friction], clips=200)
    assert moved.slope is not None
    slope = np.abs(moved.slope)
    way = np.linalg.norm(moved.centres - moved.centres[:, :, :1], axis=-1)[..., 0]
    accel = rolling.GRAVITY * (np.sin(slope) - friction * np.cos(slope))
    ended = np.logical_or.accumulate(moved.hits[..., 0], axis=2)
    rolls = ~ended[:, :, 2:]
    assert np.abs(np.diff(way, 2, axis=2) - accel[..., None])[rolls].max() < 1e-9
    assert (np.diff(way, axis=2) >= -1e-12).all()
    still = ended[:, :, 1:-1]
    assert np.abs(np.diff(way, axis=2)[:, :, 1:][still]).max(initial=0) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("side", "frames"), [(12, 8), (24, 8), (64, 16)])
def test_nothing_leaves_its_box(kind: Kind, side: int, frames: int) -> None:
    clips = draw(WorldConfig(kind=kind, side=side, frames=frames), 50, 2, seed=3)
    assert clips.frames.shape == (50, 2, frames, 1, side, side)
    assert clips.frames.dtype == np.float32
    assert 0 <= clips.frames.min() < clips.frames.max() <= 1
    radius = clips.radius[:, :, None, None, None]
    assert (clips.centres > radius - 1e-4).all()
    assert (clips.centres < side - radius + 1e-4).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_world_does_not_depend_on_how_many_are_drawn(kind: Kind) -> None:
    config = WorldConfig(kind=kind)
    many, few = draw(config, 9, 4, seed=5), draw(config, 3, 2, seed=5)
    for name in ("frames", "centres", "radius", "hits", "gravity"):
        assert np.array_equal(getattr(many, name)[:3, :2], getattr(few, name))
    assert np.array_equal(many.params[:3], few.params)
    assert not np.array_equal(draw(config, 3, 2, seed=6).params, few.params)
    assert not np.array_equal(
        draw(WorldConfig(kind=kind, split="test"), 3, 2, 5).params, few.params
    )


@pytest.mark.parametrize("kind", KINDS)
def test_two_frames_do_not_tell_the_law(kind: Kind) -> None:
    config = WorldConfig(kind=kind, split="test")
    one, other = draw(config, 64, 1, seed=2), draw(config, 64, 1, seed=2, laws_seed=3)
    assert np.array_equal(one.frames[:, :, :2], other.frames[:, :, :2])
    assert (one.params != other.params).all()
    assert (np.abs(one.centres - other.centres)[:, :, 2:].max((1, 2, 3, 4)) > 1e-3).mean() > 0.9
    assert np.array_equal(draw(config, 64, 1, seed=2, laws_seed=2).frames, one.frames)
    odd = WorldConfig(kind=kind, split="odd")
    strange = draw(config, 64, 1, seed=2, laws_of=odd)
    assert np.array_equal(strange.frames[:, :, :2], one.frames[:, :, :2])
    assert np.array_equal(strange.params, draw(odd, 64, 1, seed=2).params)
    assert strange.laws == draw(odd, 64, 1, seed=2).laws


@pytest.mark.parametrize("kind", KINDS)
def test_clips_of_one_world_differ_in_state_and_look(kind: Kind) -> None:
    clips = draw(WorldConfig(kind=kind), 20, 3, seed=1)
    assert clips.params.shape == (20, len(PARAMS[kind]))
    for one, other in ((0, 1), (1, 2)):
        assert (clips.radius[:, one] != clips.radius[:, other]).all()
        assert (clips.centres[:, one] != clips.centres[:, other]).any((1, 2, 3)).all()
        top = clips.frames.max((2, 3, 4, 5))
        assert (top[:, one] != top[:, other]).mean() > 0.5
    assert np.ptp(clips.radius) <= 0.2 * clips.radius.mean() * 1.01
    assert np.ptp(draw(WorldConfig(kind=kind, jitter=0), 5, 2, 1).radius) == 0


def test_parameters_come_in_pixels_and_frames() -> None:
    """Of free flight at any size and rate."""
    for side, frames in ((12, 8), (24, 8), (64, 16)):
        clips = draw(WorldConfig(side=side, frames=frames), 200, 1, seed=4)
        free = ~clips.hits[:, :, 1:-1] & ~clips.hits[:, :, 2:]
        lazy = clips.params[:, 3] < 0.004 * 8 / frames
        off = np.diff(clips.centres, 2, axis=2) - clips.params[:, None, None, None, :2]
        assert np.abs(off[lazy])[free[lazy]].max() < 0.01 * side / 12
        assert np.allclose(clips.gravity[:, 0], clips.params[:, :2])


def up(clips_params: np.ndarray) -> np.ndarray:
    """Angle of gravity from straight up, radians."""
    return np.abs(np.arctan2(clips_params[:, 0], -clips_params[:, 1]))


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_prior_holds_no_odd_law(split: str) -> None:
    ball_worlds = draw(WorldConfig(split=split), 500, 1, seed=0)
    assert set(ball_worlds.laws) == {"usual"}
    assert up(ball_worlds.params).min() > np.pi / 6 - 1e-6
    assert np.hypot(*ball_worlds.params[:, :2].T).max() < 0.3 + 1e-6
    pendulums = draw(WorldConfig(kind="pendulum", split=split), 500, 1, seed=0).params
    assert (pendulums[:, 0] > 0).all()
    assert pendulums[:, 0].max() < 0.5 + 1e-6
    ratio = np.log(draw(WorldConfig(kind="balls", split=split), 500, 1, seed=0).params[:, 0])
    assert np.abs(ratio).max() < np.log(4) + 1e-6
    assert abs(ratio.mean()) < 0.1
    assert draw(WorldConfig(kind="rolling", split=split), 500, 1, seed=0).params.max() < 0.6 + 1e-6


def test_odd_laws_are_outside_the_prior() -> None:
    sector = draw(WorldConfig(split="odd", odd="sector"), 200, 1, seed=0).params
    assert up(sector).max() < np.pi / 6 + 1e-6
    assert np.hypot(*sector[:, :2].T).max() < 0.3 + 1e-6
    size = np.hypot(*draw(WorldConfig(split="odd", odd="strong"), 200, 1, seed=0).params[:, :2].T)
    assert 0.3 - 1e-6 < size.min() < size.max() < 0.39 + 1e-6
    assert up(draw(WorldConfig(split="odd", odd="up"), 50, 1, seed=0).params).max() < 1e-6
    swing = draw(WorldConfig(kind="pendulum", split="odd", odd="up"), 50, 1, seed=0)
    assert (swing.params[:, 0] < 0).all()
    ratio = draw(WorldConfig(kind="balls", split="odd"), 200, 1, seed=0).params[:, 0]
    size = np.exp(np.abs(np.log(ratio)))
    assert 4 - 1e-4 < size.min() < size.max() < 5.2 + 1e-4
    mu = draw(WorldConfig(kind="rolling", split="odd"), 200, 1, seed=0).params
    assert 0.6 - 1e-6 < mu.min() < mu.max() < 0.78 + 1e-6


def test_gravity_that_flips_pulls_the_other_way_in_the_second_half() -> None:
    clips = draw(WorldConfig(split="odd", odd="flip"), 300, 1, seed=0)
    free = ~clips.hits[:, :, 1:-1] & ~clips.hits[:, :, 2:]
    accel = np.diff(clips.centres, 2, axis=2)
    along = (accel * clips.gravity[:, :, None, None]).sum(-1)
    strong = (np.linalg.norm(clips.gravity, axis=-1) > 0.2)[..., None, None] & free
    assert (along[:, :, :3][strong[:, :, :3]] > 0).mean() > 0.99
    assert (along[:, :, 4:][strong[:, :, 4:]] < 0).mean() > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_odd_worlds_take_turns(kind: Kind) -> None:
    clips = draw(WorldConfig(kind=kind, split="odd"), 8, 1, seed=0)
    assert clips.laws == tuple(ODD[kind][w % len(ODD[kind])] for w in range(8))


def test_only_keeps_some_clips_of_every_world() -> None:
    clips = draw(WorldConfig(), 4, 3, seed=0)
    some = clips.only(slice(1, 2))
    assert np.array_equal(some.frames, clips.frames[:, 1:2])
    assert some.centres.shape[:2] == some.hits.shape[:2] == some.gravity.shape[:2] == (4, 1)
    assert np.array_equal(some.params, clips.params)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "bal"}, "ball"),
        ({"split": "val"}, "split"),
        ({"odd": "flip", "kind": "balls"}, "odd law"),
        ({"side": 4}, "12 to 1024"),
        ({"frames": 3}, "8 to 256"),
        ({"jitter": 0.5}, "jitter"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        WorldConfig(**options)


@pytest.mark.parametrize("counts", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_counts_and_seeds_must_be_some(counts: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="from 1 on"):
        draw(WorldConfig(), *counts)


def test_laws_must_be_of_the_same_kind() -> None:
    with pytest.raises(UsageError, match="do not move"):
        draw(WorldConfig(), 1, 1, 0, laws_of=WorldConfig(kind="balls"))
