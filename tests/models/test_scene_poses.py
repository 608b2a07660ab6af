"""Poses that move with the gradient steps: found again, bounded, and only those that may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scene_parts import LARGE, SMALL, look, room

from retain.kernels.geometry import rigid
from retain.models.scene.mapper import Mapper
from retain.models.scene.poses import DEPTH, DEPTH_SPREAD, MOST, KeyframePoses, Target
from retain.models.scene.stage import Reconstruct

Poses = dict[int, np.ndarray]


def mapped(size: tuple[int, int] = SMALL, **options: object) -> Mapper:
    """A room of 16 shots, the stream being over."""
    known: dict[str, object] = {"poses": "estimated", "refine": 0, "holdout": 0, "threads": 1}
    stage = Reconstruct(**(known | options))  # type: ignore[arg-type]
    look(stage, room(16, size, 100))
    assert stage.mapper is not None
    stage.mapper.settle()
    return stage.mapper


def refine(mapper: Mapper, steps: int) -> None:
    with mapper.refining() as refiner:
        order = np.random.default_rng(0).integers(0, len(refiner), steps)
        refiner.take(order)


def errors(poses: Poses, true: Poses) -> tuple[float, float]:
    """Mean metres and degrees, of all but the oldest."""
    off = [rigid.inverse(true[key]) @ poses[key] for key in sorted(true)[1:]]
    turns = [np.linalg.norm(rigid.rotation_vector(motion[:3, :3])) for motion in off]
    shifts = [np.linalg.norm(motion[:3, 3]) for motion in off]
    return float(np.mean(shifts)), float(np.rad2deg(np.mean(turns)))


def shaken(poses: Poses) -> Poses:
    """All but the oldest a centimetre and half a degree off, each its own way."""
    rng, out = np.random.default_rng(1), dict(poses)
    for key in sorted(poses)[1:]:
        turn, shift = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        out[key] = poses[key] @ rigid.exp([*turn * np.deg2rad(0.5), *shift * 0.01])
    return out


def test_poses_that_are_off_are_found_again_and_the_map_stays() -> None:
    mapper = mapped(LARGE, refine_poses=False)
    true = mapper.map.poses("room")
    refine(mapper, 60)
    assert all(np.array_equal(pose, true[key]) for key, pose in mapper.map.poses("room").items())
    mapper._options = replace(mapper._options, refine_poses=True)
    mapper.map.repose("room", shaken(true))
    before, was = mapper.map.read("room"), errors(mapper.map.poses("room"), true)
    means, ids = before.gaussians.means.copy(), before.ids.copy()
    assert was == (pytest.approx(0.01, rel=1e-3), pytest.approx(0.5, rel=1e-3))
    refine(mapper, 100)
    after, now = mapper.map.read("room"), errors(mapper.map.poses("room"), true)
    assert now[0] < 0.5 * was[0]
    assert now[1] < 0.5 * was[1]
    oldest = min(true)
    assert np.array_equal(mapper.map.poses("room")[oldest], true[oldest])
    _, a, b = np.intersect1d(ids, after.ids, return_indices=True)
    assert len(a) > 0.9 * len(ids)
    moved = (after.gaussians.means[b] - means[a]).mean(axis=0)
    assert float(np.linalg.norm(moved)) < 0.004  # single discs shuffle; all together do not


@pytest.mark.parametrize("options", [{"poses": "given"}, {"refine_poses": False}])
def test_poses_that_may_not_move_stay_to_the_bit(options: dict[str, object]) -> None:
    mapper = mapped(**options)
    before = mapper.map.poses("room")
    refine(mapper, 24)
    after = mapper.map.poses("room")
    assert all(np.array_equal(after[key], before[key]) for key in before)


def test_colours_come_first() -> None:
    mapper = mapped()
    mapper.map.repose("room", shaken(mapper.map.poses("room")))
    before = mapper.map.poses("room")
    refine(mapper, 10)
    after = mapper.map.poses("room")
    assert all(np.array_equal(after[key], before[key]) for key in before)


def test_a_saved_map_is_refined_to_the_same_bits(tmp_path: Path) -> None:
    one = mapped()
    refine(one, 16)
    one.save(str(tmp_path / "map.safetensors"))
    two = Mapper.open(str(tmp_path / "map.safetensors"), one._options)
    poses = two.map.poses("room")
    assert all(np.array_equal(pose, poses[key]) for key, pose in one.map.poses("room").items())
    for mapper in (one, two):
        refine(mapper, 16)
    states = [mapper.map.snapshot("room") for mapper in (one, two)]
    for name, array in states[0].tensors.items():
        assert np.array_equal(array, states[1].tensors[name]), name
    assert not np.array_equal(one.map.poses("room")[max(poses)], poses[max(poses)])


def test_a_pose_goes_down_its_gradient_and_not_far() -> None:
    shot = room(16, SMALL, 100)[0]
    assert shot.depth is not None
    start = {3: rigid.exp([0.1, -0.2, 0.3, 1, 2, 3]), 5: np.eye(4)}
    at = {3: start[3] @ rigid.exp([0, 0.1, 0, 0.05, 0, 0]), 5: start[5]}
    targets = [Target(shot.camera, at[key], shot.image, shot.depth, key) for key in at]
    poses = KeyframePoses(targets, start, fixed=[5])
    goal = torch.from_numpy(rigid.inverse(at[3] @ rigid.exp([0.5, 0, 0, 0, 0, 0.5])))
    losses = []
    for _ in range(100):
        for index in range(2):
            w2c, twist = poses.w2c(index)
            loss = ((w2c - goal) ** 2).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            poses.step(index, twist, float(loss.detach()))
            losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    assert losses[-2] < losses[2]
    assert len(set(losses[1::2])) == 1
    assert list(poses.moved()) == [3]
    moved = rigid.log(rigid.inverse(start[3]) @ poses.moved()[3])
    turn, shift = np.linalg.norm(moved[:3]), np.linalg.norm(moved[3:])
    assert turn <= MOST[0] * 1.001
    assert shift <= MOST[1] * 1.001
    assert max(turn / MOST[0], shift / MOST[1]) == pytest.approx(1, abs=0.01)


def test_the_curvature_is_that_of_the_picture() -> None:
    """How a real picture changes with its keyframe's twist, against differences of warped ones."""
    shot = room(16, SMALL, 100)[0]
    assert shot.depth is not None
    keyframe = np.asarray(shot.c2w) @ rigid.exp([0.02, -0.1, 0.05, 0.1, 0, -0.1])
    target = Target(shot.camera, np.asarray(shot.c2w), shot.image, shot.depth, 0)
    poses = KeyframePoses([target], {0: keyframe})
    depth = poses._curvature(target)[1]
    points = shot.camera.unproject(shot.depth)[::2, ::2].reshape(-1, 3)
    local = rigid.inverse(keyframe) @ np.asarray(shot.c2w)
    change = []
    for k in range(6):
        twist = np.zeros(6)
        twist[k] = 1e-5
        moved = rigid.inverse(local) @ rigid.exp(-twist) @ local
        change.append((rigid.transform(moved, points) - points)[:, 2] / 1e-5)
    known = points[:, 2] > 0
    wanted = np.stack(change, axis=1)[known]
    scale = DEPTH / DEPTH_SPREAD / len(points)
    np.testing.assert_allclose(depth, scale * wanted.T @ wanted, rtol=1e-3, atol=1e-3)
