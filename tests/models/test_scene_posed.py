"""Poses that come without depth: mapped with, whatever their unit; bad ones are said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scene_folders import Truth, colmap, nerfstudio
from scene_parts import LARGE, look, map_bytes, packets, room, told

from retain.datasets.scene import metrics
from retain.datasets.scene.base import Shot
from retain.datasets.scene.source import SceneSource
from retain.kernels.rasterize.render import render
from retain.models.scene.stage import Reconstruct
from retain.models.scene.tracking.base import Tracked
from retain.models.scene.tracking.dense import Dense
from retain.models.scene.tracking.posed import PosedTracker
from retain.pipeline.errors import StateError
from retain.pipeline.results import Pose

COUNT = 32
Array = np.ndarray


def scaled(c2w: Array | None, scale: float) -> Array:
    assert c2w is not None
    out = c2w.copy()
    out[:3, 3] *= scale
    return out


@cache
def shots(scale: float = 1.0, count: int = COUNT) -> tuple[Shot, ...]:
    """A walk without depth, whose poses are in a unit of their own."""
    seen = room(COUNT, LARGE, 150, seed=3)[:count]
    return tuple(replace(s, depth=None, c2w=scaled(s.c2w, scale)) for s in seen)


def tracked(given: tuple[Shot, ...]) -> tuple[list[Tracked], list[Dense], PosedTracker]:
    tracker, path, made = PosedTracker(), [], []
    for shot in given:
        path.append(tracker.track(shot))
        made += tracker.dense()
    return path, made + tracker.dense(last=True), tracker


@cache
def stage(scale: float = 1.0) -> tuple[Reconstruct, tuple[Pose, ...]]:
    mapping = Reconstruct(threads=1, refine=1)
    said = tuple(look(mapping, shots(scale)))
    assert mapping.mapper is not None
    mapping.mapper.settle()
    return mapping, said


def psnr(mapping: Reconstruct, said: tuple[Pose, ...], given: tuple[Shot, ...]) -> float:
    """Mean over the held-out frames, all pixels."""
    assert mapping.mapper is not None
    gaussians = mapping.mapper.map.read(mapping.mapper.stream).gaussians
    values = [
        metrics.psnr(render(gaussians, shot.camera, pose.c2w).color, shot.image)
        for pose, shot in zip(said, given, strict=True)
        if pose.held_out
    ]
    assert len(values) >= 2
    return float(np.mean(values))


@pytest.mark.parametrize("scale", [1.0, 40.0, 0.02])
def test_depth_is_made_in_the_unit_of_the_poses(scale: float) -> None:
    path, made, tracker = tracked(shots(scale))
    keys = [i for i, one in enumerate(path) if one.keyframe]
    assert len(made) == len(keys) >= 5
    off = []
    for dense in made:
        shot = shots(scale)[keys[dense.keyframe]]
        depth, true = dense.shot.depth, room(COUNT, LARGE, 150, seed=3)[shot.seq].depth
        assert depth is not None
        assert true is not None
        assert dense.shot.seq == shot.seq
        assert np.array_equal(dense.c2w, np.asarray(shot.c2w, np.float64))
        both = (depth > 0) & (true > 0)
        assert both.mean() > 0.5
        off.append(np.median(np.abs(depth[both] / (scale * true[both]) - 1)))
    assert np.mean(off) < 0.03
    assert tracker.unit == pytest.approx(scale * tracked(shots())[2].unit, rel=1e-3)
    assert sum(array.nbytes for array in tracker.state().values()) < tracker.max_bytes


def test_given_poses_are_kept_to_the_bit_and_the_map_shows_unseen_frames() -> None:
    mapping, said = stage()
    begun = [pose.state for pose in said].index("tracked")
    assert begun < 12
    for pose, shot in zip(said[begun:], shots()[begun:], strict=True):
        assert pose.state == "tracked"
        assert np.array_equal(pose.c2w, np.asarray(shot.c2w, np.float64))
        assert pose.truth is None
    assert psnr(mapping, said, shots()) > 20


def test_another_unit_makes_the_same_map() -> None:
    one, said = stage()
    two, also = stage(40.0)
    assert one.mapper is not None
    assert two.mapper is not None
    assert two.mapper.kind.unit == pytest.approx(40 * one.mapper.kind.unit, rel=1e-3)
    counts = [len(s.mapper.map.read("room").gaussians) for s in (one, two) if s.mapper]
    assert counts[1] == pytest.approx(counts[0], rel=0.02)
    assert psnr(two, also, shots(40.0)) == pytest.approx(psnr(one, said, shots()), abs=0.3)


@pytest.mark.parametrize("write", [colmap, nerfstudio])
def test_folders_with_poses_and_no_depth_are_mapped_with_them(
    write: Callable[[Path, Truth], Path], tmp_path: Path
) -> None:
    given = shots(7.0)
    poses = np.stack([np.asarray(s.c2w) for s in given])
    images = np.stack([s.image for s in given])
    folder = write(tmp_path, Truth(given[0].camera, images, None, poses))
    mapping, said = Reconstruct(threads=1, refine=1), []
    for packet in SceneSource(str(folder), width=LARGE[0]).packets():
        out = mapping.process(packet)
        assert out is not None
        said.append(out.get("pose", Pose))
    assert mapping.mapper is not None
    assert mapping.mapper.kind.given
    mapping.mapper.settle()
    assert psnr(mapping, tuple(said), given) > 20


def test_poses_that_cannot_be_are_said_and_not_mapped() -> None:
    def reasons(poses: list[Array | None]) -> set[str]:
        mapping = Reconstruct(poses="given", threads=1, refine=0)
        given = [replace(s, c2w=p) for s, p in zip(shots(), poses, strict=False)]
        said = look(mapping, given)
        assert {pose.state for pose in said} == {"starting"}
        assert mapping.mapper is not None
        assert not mapping.mapper.begun
        return {pose.reason for pose in said}

    good = [np.asarray(s.c2w, np.float64) for s in shots()[:14]]
    assert reasons([None] * 4) == {"no pose given"}
    endless = [np.where(np.eye(4) > 0, p, np.inf) for p in good[:4]]
    assert reasons(endless) == {"the given pose is no rigid motion"}
    assert "the given poses stay in one place" in reasons([good[0]] * 14)
    turned = [p @ np.diag([1.0, -1, -1, 1]) for p in good]  # the axes of another program
    assert any("the given poses explain" in why for why in reasons(turned))


def test_photographs_far_apart_leave_some_to_judge_by() -> None:
    sparse = [replace(shot, seq=k) for k, shot in enumerate(shots()[::5])]
    said = look(Reconstruct(threads=1, refine=0, holdout=3), sparse)
    begun = [pose for pose in said if pose.state == "tracked"]
    assert len(begun) >= 5
    assert all(pose.keyframe != pose.held_out for pose in begun)
    assert sum(pose.held_out for pose in begun) >= 1


def test_a_shot_without_a_pose_is_lost_and_the_next_one_is_not() -> None:
    given = list(shots())
    given[20] = replace(given[20], c2w=None)
    path, _, _ = tracked(tuple(given))
    assert (path[20].state, path[20].reason) == ("lost", "no pose given")
    assert not path[20].keyframe
    assert path[21].state == "recovered"


def test_poses_that_go_wrong_later_are_doubted() -> None:
    given, bad = list(shots()), shots()[0].c2w
    assert bad is not None
    turned = bad @ np.diag([-1.0, 1, -1, 1])
    path, _, _ = tracked((*given[:24], replace(given[24], c2w=turned)))
    assert path[24].keyframe
    assert "points are where the given pose puts them" in path[24].reason


def test_a_saved_stage_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, first = (Reconstruct(threads=1, refine=1) for _ in range(2))
    said = look(whole, shots(40.0))
    look(first, shots(40.0)[:22])
    path = str(tmp_path / "state.safetensors")
    first.save(path)
    second = Reconstruct(threads=1, refine=1, resume=path)
    for packet in packets(shots(40.0)[:22]):
        assert second.process(packet) is None
    assert told(look(second, shots(40.0)[22:])) == told(said[22:])
    assert map_bytes(second) == map_bytes(whole)
    with pytest.raises(StateError):
        PosedTracker().restore({"c2w": np.eye(4)})
