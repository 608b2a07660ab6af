"""The parts of tracking, each against what it must give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking.given import LEAPS, GivenPoses
from retain.models.scene.tracking.graph import Edge, PoseGraph
from retain.models.scene.tracking.matching import match
from retain.models.scene.tracking.pnp import Seen, refine, solve
from retain.models.scene.tracking.polish import Front, polish
from retain.pipeline.errors import StateError

CAMERA = Camera(150, 150, 80, 60, 160, 120)


def a_motion(rng: np.random.Generator, turn: float, shift: float) -> np.ndarray:
    return rigid.exp(rng.normal(size=6) * ([turn] * 3 + [shift] * 3))


def test_matches_are_the_nearest_both_ways() -> None:
    rng = np.random.default_rng(0)
    b = rng.integers(0, 256, (60, 32), np.uint8)
    order = rng.permutation(60)[:40]
    a = b[order].copy()
    a[:, 0] ^= 1
    pairs = match(a, b)
    assert np.array_equal(pairs[:, 0], np.arange(40))
    assert np.array_equal(pairs[:, 1], order)
    assert match(a, b[:0]).shape == (0, 2)
    twice = np.concatenate([b, b[:1]])
    assert 0 not in match(b, twice)[:, 0], "two equal answers are none"


def test_matches_are_within_reach() -> None:
    rng = np.random.default_rng(1)
    b = rng.integers(0, 256, (50, 32), np.uint8)
    uv = rng.uniform(0, 160, (50, 2)).astype(np.float32)
    at = uv + rng.uniform(-20, 20, (50, 2)).astype(np.float32)
    at[3] = np.nan
    pairs = match(b, b, at=at, uv=uv, radius=10.0)
    near = (np.abs(at - uv) <= 10).all(axis=1)
    assert np.array_equal(pairs[:, 0], np.flatnonzero(near))
    assert np.array_equal(pairs[:, 0], pairs[:, 1])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), wrong=st.floats(0, 0.5))
def test_pnp_finds_the_pose_among_wrong_points(seed: int, wrong: float) -> None:
    rng = np.random.default_rng(seed)
    c2w = a_motion(rng, 0.3, 0.5)
    uv = rng.uniform((0, 0), (160, 120), (120, 2))
    z = rng.uniform(1, 4, 120)
    inside = np.stack([(uv[:, 0] - 80) / 150 * z, (uv[:, 1] - 60) / 150 * z, z], axis=1)
    depth = np.where(rng.random(120) < 0.3, np.nan, z)
    bad = rng.random(120) < wrong
    uv[bad] = rng.uniform((0, 0), (160, 120), (int(bad.sum()), 2))
    seen = Seen(rigid.transform(c2w, inside), uv, depth, np.ones(120))
    fit = solve(seen, CAMERA)
    assert fit is not None
    assert np.abs(rigid.log(rigid.inverse(c2w) @ fit.c2w)).max() < 1e-2
    assert fit.inliers[~bad].mean() > 0.95


def test_too_few_points_give_no_pose() -> None:
    nothing = Seen(np.zeros((3, 3)), np.zeros((3, 2)), np.zeros(3), np.ones(3))
    assert solve(nothing, CAMERA) is None
    many = Seen(np.ones((30, 3)), np.full((30, 2), 900.0), np.full(30, np.nan), np.ones(30))
    assert refine(many, CAMERA, np.eye(4)) is None


def ring(count: int = 30) -> dict[int, np.ndarray]:
    return {
        i: rigid.exp([0, 2 * np.pi * i / count, 0, 0, 0, 0]) @ rigid.exp([0, 0, 0, 0, 0, -2.0])
        for i in range(count)
    }


def drifted(truth: dict[int, np.ndarray]) -> tuple[PoseGraph, dict[int, np.ndarray]]:
    rng, graph, poses = np.random.default_rng(0), PoseGraph(), {0: truth[0]}
    for i in range(1, len(truth)):
        motion = rigid.inverse(truth[i - 1]) @ truth[i] @ a_motion(rng, 0.01, 0.01)
        graph.add(Edge(i - 1, i, motion, (0.01, 0.01)))
        poses[i] = poses[i - 1] @ motion
    return graph, poses


def off(poses: dict[int, np.ndarray], truth: dict[int, np.ndarray]) -> float:
    return max(float(np.linalg.norm(poses[i][:3, 3] - truth[i][:3, 3])) for i in poses)


def test_a_loop_takes_the_drift_out() -> None:
    truth = ring()
    graph, poses = drifted(truth)
    assert off(graph.optimised(poses)[0], poses) < 1e-6, "without a loop nothing moves"
    last = len(truth) - 1
    graph.add(Edge(last, 0, rigid.inverse(truth[last]) @ truth[0], (0.001, 0.001), loop=True))
    after, _ = graph.optimised(poses)
    assert off(after, truth) < 0.5 * off(poses, truth)
    assert np.array_equal(after[0], poses[0])
    graph.add(Edge(4, 15, np.eye(4), (0.01, 0.01), loop=True))
    assert off(graph.optimised(poses)[0], after) < 0.05, "a wrong loop is ignored"


def test_scales_drift_and_come_back() -> None:
    truth, graph = ring(), PoseGraph()
    poses, scales = {0: truth[0]}, {0: 1.0}
    for i in range(1, len(truth)):
        motion = rigid.inverse(truth[i - 1]) @ truth[i]
        graph.add(Edge(i - 1, i, motion, (0.01, 0.01), scale=0.98))
        moved = motion.copy()
        moved[:3, 3] *= scales[i - 1]
        poses[i], scales[i] = poses[i - 1] @ moved, 0.98 * scales[i - 1]
    last = len(truth) - 1
    graph.add(Edge(last, 0, rigid.inverse(truth[last]) @ truth[0], (0.001, 0.001), loop=True))
    after, freed = graph.optimised(poses, scales)
    assert off(after, truth) < 0.1 * off(poses, truth)
    assert freed[last] == pytest.approx(1, abs=0.05)


def test_a_keyframe_that_goes_leaves_the_graph_joined() -> None:
    truth, graph = ring(10), PoseGraph()
    for i in range(1, 10):
        graph.add(Edge(i - 1, i, rigid.inverse(truth[i - 1]) @ truth[i], (0.01, 0.01)))
    for gone in (3, 4, 8, 9):
        graph.drop(gone)
    assert graph.neighbours(2) == {1, 5}
    assert len(graph) == 5
    rng = np.random.default_rng(0)
    start = {i: truth[i] @ a_motion(rng, 0.05, 0.1) if i else truth[i] for i in (0, 1, 2, 5, 6, 7)}
    assert off(graph.optimised(start)[0], truth) < 1e-3


def test_a_graph_is_saved_whole() -> None:
    graph, poses = drifted(ring(6))
    saved = graph.arrays()
    again = PoseGraph.of(saved)
    assert {k: v.tobytes() for k, v in again.arrays().items()} == {
        k: v.tobytes() for k, v in saved.items()
    }
    for name in saved:
        with pytest.raises(StateError):
            PoseGraph.of(saved | {name: np.zeros((2, 7))})
    assert off(again.optimised(poses)[0], poses) < 1e-6


def a_shot(c2w: np.ndarray | None, seq: int = 0) -> Shot:
    return Shot(seq, seq / 30, np.zeros((120, 160, 3), np.uint8), CAMERA, None, c2w)


def test_given_poses_are_checked() -> None:
    tracker = GivenPoses()
    broken = np.eye(4)
    broken[0, 3] = -np.inf
    assert tracker.track(a_shot(broken)).state == "starting"
    first = tracker.track(a_shot(np.eye(4)))
    assert (first.state, first.keyframe) == ("tracked", True)
    assert not tracker.track(a_shot(rigid.exp([0, 0, 0, 0.05, 0, 0]))).keyframe
    lost = tracker.track(a_shot(broken))
    assert lost.state == "lost"
    assert not lost.keyframe
    assert lost.c2w[0, 3] == pytest.approx(0.05)
    assert tracker.track(a_shot(None)).reason == "no pose given"
    far = tracker.track(a_shot(rigid.exp([0, 0, 0, 5, 0, 0])))
    assert (far.state, far.reason, far.keyframe) == ("recovered", LEAPS, True)
    again = GivenPoses()
    again.restore(tracker.state())
    assert not again.track(a_shot(rigid.exp([0, 0, 0, 5.1, 0, 0]))).keyframe
    with pytest.raises(StateError):
        again.restore({})


def wavy(c2w: np.ndarray) -> Shot:
    """A curved, patterned wall, met by each ray by a few steps of a fixed point."""
    rays = CAMERA.rays().astype(np.float64) @ c2w[:3, :3].T
    at, z = c2w[:3, 3], np.full((120, 160), 2.0)
    for _ in range(40):
        p = at + rays * z[..., None]
        wall = 2 + 0.3 * np.sin(3 * p[..., 0]) + 0.2 * np.cos(4 * p[..., 1])
        z = (wall - at[2]) / rays[..., 2]
    p = at + rays * z[..., None]
    grey = 128 + 60 * np.sin(9 * p[..., 0]) * np.cos(11 * p[..., 1])
    image = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    return Shot(0, 0.0, image, CAMERA, z.astype(np.float32), c2w)


def test_polish_makes_a_pose_exact() -> None:
    truth = rigid.exp([0.02, -0.03, 0.01, 0.04, 0.02, -0.03])
    front, shot = Front.of_shot(wavy(np.eye(4)), np.eye(4)), wavy(truth)
    start = truth @ rigid.exp([0.005, -0.006, 0.004, 0.01, -0.008, 0.006])
    better = polish(front, shot, start)
    assert better is not None
    apart = rigid.log(rigid.inverse(truth) @ better)
    assert np.linalg.norm(apart[3:]) < 0.002
    assert np.linalg.norm(apart[:3]) < 0.001


def test_polish_refuses_what_it_cannot_know() -> None:
    front, shot = Front.of_shot(wavy(np.eye(4)), np.eye(4)), wavy(np.eye(4))
    assert polish(front, shot, rigid.exp([0, 0, 0, 0.08, 0, 0])) is None, "too far"
    assert polish(front, shot, rigid.exp([0, 2.0, 0, 0, 0, 0])) is None, "looks elsewhere"
    flat = Shot(0, 0, np.full((120, 160, 3), 99, np.uint8), CAMERA, np.full((120, 160), 2, "f4"))
    level = Front.of_shot(flat, np.eye(4))
    assert polish(level, flat, rigid.exp([0, 0, 0, 0.01, 0, 0])) is None, "an empty wall"
