"""The tracker without depth on procedural rooms: it begins, follows, gets lost, and says so."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.datasets.scene.trajectory import absolute_errors, align
from retain.models.scene.tracking.base import Tracked
from retain.models.scene.tracking.dense import Dense
from retain.models.scene.tracking.mono import MonoTracker
from retain.pipeline.errors import StateError

WIDTH, HEIGHT, FRAMES = 160, 120, 36


@cache
def shots(kind: str = "walk", count: int = FRAMES) -> tuple[Shot, ...]:
    room = Room(3, 150, WIDTH, HEIGHT, kind=kind)  # type: ignore[arg-type]
    return tuple(room[i] for i in range(count))


def bare(shot: Shot) -> Shot:
    """Without what the tracker must not need."""
    return Shot(shot.seq, shot.seconds, shot.image, shot.camera)


@cache
def walked() -> tuple[tuple[Tracked, ...], tuple[Dense, ...], MonoTracker]:
    tracker, path, made = MonoTracker(), [], []
    for shot in shots():
        path.append(tracker.track(bare(shot)))
        made += tracker.dense()
    return tuple(path), tuple(made), tracker


def truth(indices: list[int]) -> np.ndarray:
    poses = [shots()[i].c2w for i in indices]
    return np.array(poses, np.float64)


def known(path: tuple[Tracked, ...]) -> list[int]:
    return [i for i, tracked in enumerate(path) if tracked.state in ("tracked", "recovered")]


def test_begins_when_there_is_parallax_and_follows() -> None:
    path, _, _ = walked()
    begun = known(path)[0]
    assert 0 < begun < 12
    assert all(t.state == "starting" and t.reason and not t.keyframe for t in path[:begun])
    assert path[begun].keyframe
    assert known(path) == list(range(begun, FRAMES))
    estimate = np.array([path[i].c2w for i in known(path)])
    walk = truth(known(path))
    length = np.linalg.norm(np.diff(walk[:, :3, 3], axis=0), axis=1).sum()
    assert absolute_errors(estimate, walk, scale=True).rmse < 0.06 * length


def test_depth_of_keyframes_comes_later_and_fits_the_path() -> None:
    path, made, _ = walked()
    announced = [i for i, tracked in enumerate(path) if tracked.keyframe]
    assert len(made) >= 3
    assert [d.keyframe for d in made] == sorted({d.keyframe for d in made})
    ratios = []
    for dense in made:
        index = announced[dense.keyframe]
        assert dense.shot.seq == shots()[index].seq
        depth, true = dense.shot.depth, shots()[index].depth
        assert depth is not None
        assert true is not None
        assert depth.dtype == np.float32
        both = (depth > 0) & (true > 0)
        assert both.mean() > 0.4
        ratios.append(true[both] / depth[both])
    scale = np.median(np.concatenate(ratios))
    for ratio in ratios:  # one scale for all of them, and the same shapes
        assert np.median(np.abs(ratio / scale - 1)) < 0.08
    walk = truth(known(path))
    estimate = np.array([path[i].c2w for i in known(path)])
    assert align(estimate[:, :3, 3], walk[:, :3, 3], scale=True).scale == pytest.approx(scale, 0.2)


def test_turning_on_the_spot_begins_nothing() -> None:
    tracker = MonoTracker()
    path = [tracker.track(bare(shot)) for shot in shots("turn", 12)]
    assert {tracked.state for tracked in path} == {"starting"}
    assert any("turned" in tracked.reason for tracked in path)


def test_a_covered_lens_is_said_and_the_place_found_again() -> None:
    tracker = MonoTracker()
    dark = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    path = [
        tracker.track(replace(bare(s), image=dark) if 24 <= i < 27 else bare(s))
        for i, s in enumerate(shots()[:30])
    ]
    assert [t.state for t in path[24:27]] == ["lost"] * 3
    assert "corners" in path[24].reason
    assert np.array_equal(path[26].c2w, path[23].c2w)
    assert path[27].state == "recovered"
    assert path[28].state == "tracked"


def test_saved_it_goes_on_bit_for_bit() -> None:
    path, made, _ = walked()
    for at in (2, 20):
        first = MonoTracker()
        for shot in shots()[:at]:
            first.track(bare(shot))
            first.dense()
        second = MonoTracker()
        second.restore(first.state())
        later: list[Dense] = []
        for shot, before in zip(shots()[at:], path[at:], strict=True):
            after = second.track(bare(shot))
            later += second.dense()
            assert (after.state, after.reason, after.inliers) == (
                before.state, before.reason, before.inliers
            )  # fmt: skip
            assert np.array_equal(after.c2w, before.c2w)
        for again, dense in zip(later, made[-len(later) :], strict=True):
            assert again.keyframe == dense.keyframe
            assert np.array_equal(again.shot.depth, dense.shot.depth)  # type: ignore[arg-type]


def test_reset_begins_anew() -> None:
    path, _, _ = walked()
    tracker = MonoTracker()
    for shot in shots()[10:25]:
        tracker.track(bare(shot))
    tracker.reset()
    again = [tracker.track(bare(shot)) for shot in shots()[:15]]
    assert [t.state for t in again] == [t.state for t in path[:15]]
    assert np.array_equal(again[-1].c2w, path[14].c2w)


def test_a_state_of_another_kind_is_refused() -> None:
    _, _, tracker = walked()
    state = tracker.state()
    with pytest.raises(StateError, match="no array"):
        MonoTracker().restore({"c2w": np.eye(4)})
    with pytest.raises(StateError, match="do not fit"):
        MonoTracker().restore({**state, "octave": state["octave"][:-1]})


def test_state_is_bounded() -> None:
    _, _, tracker = walked()
    assert sum(array.nbytes for array in tracker.state().values()) < tracker.max_bytes
