"""The RGB-D tracker on procedural rooms: it follows the camera, and says when it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.kernels.geometry import rigid
from retain.memory.keyframes import KeyframeConfig, KeyframeMemory
from retain.models.scene.tracking.base import Tracked
from retain.models.scene.tracking.rgbd import RgbdTracker
from retain.pipeline.errors import StateError

WIDTH, HEIGHT, FRAMES = 160, 120, 40


@cache
def shots(kind: str = "walk", moving: bool = False) -> tuple[Shot, ...]:
    room = Room(3, 150, WIDTH, HEIGHT, kind=kind, moving=moving, jitter=True, sensor=True)  # type: ignore[arg-type]
    return tuple(room[i] for i in range(FRAMES))


def follow(scene: Iterable[Shot], tracker: RgbdTracker | None = None) -> list[Tracked]:
    tracker = tracker or RgbdTracker()
    return [tracker.track(shot) for shot in scene]


def error(scene: Iterable[Shot], path: list[Tracked], index: int) -> float:
    """Metres between where the camera was and where the tracker says, seen from the first shot."""
    first, shot = next(iter(scene)), list(scene)[index]
    assert first.c2w is not None
    assert shot.c2w is not None
    truth = rigid.inverse(first.c2w) @ shot.c2w
    return float(np.linalg.norm(truth[:3, 3] - path[index].c2w[:3, 3]))


def changed(
    scene: Iterable[Shot], where: Iterable[int], change: Callable[[Shot], Shot]
) -> list[Shot]:
    return [change(shot) if i in set(where) else shot for i, shot in enumerate(scene)]


def covered(shot: Shot) -> Shot:
    return replace(shot, image=np.zeros_like(shot.image), depth=np.zeros((HEIGHT, WIDTH), "f4"))


def states(path: list[Tracked]) -> list[str]:
    return [tracked.state for tracked in path]


def test_follows_a_walk() -> None:
    path = follow(shots())
    assert states(path) == ["tracked"] * FRAMES
    assert max(error(shots(), path, i) for i in range(FRAMES)) < 0.05
    assert path[0].keyframe
    assert 3 < sum(tracked.keyframe for tracked in path) < FRAMES / 2


def test_a_covered_lens_is_lost_and_the_place_is_found_again() -> None:
    scene = changed(shots(), range(15, 25), covered)
    path = follow(scene)
    assert states(path)[:15] == ["tracked"] * 15
    assert states(path)[15:25] == ["lost"] * 10
    assert states(path)[25:] == ["recovered"] + ["tracked"] * (FRAMES - 26)
    assert "covered" in path[15].reason
    assert not any(tracked.keyframe for tracked in path[15:25])
    assert all(np.array_equal(tracked.c2w, path[14].c2w) for tracked in path[15:25])
    assert max(error(scene, path, i) for i in range(25, FRAMES)) < 0.05


def test_a_wall_without_texture_is_lost() -> None:
    wall = np.full((HEIGHT, WIDTH, 3), 180, np.uint8)
    scene = changed(
        shots()[:12], range(5, 12),
        lambda shot: replace(shot, image=wall, depth=np.full((HEIGHT, WIDTH), 2, "f4")),
    )  # fmt: skip
    path = follow(scene)
    assert states(path)[5:] == ["lost"] * 7
    assert "texture" in path[5].reason


def test_nothing_to_see_from_the_start_is_starting() -> None:
    path = follow(changed(shots()[:8], range(3), covered))
    assert states(path) == ["starting"] * 3 + ["tracked"] * 5
    assert not any(tracked.keyframe for tracked in path[:3])
    assert path[3].keyframe
    path = follow(changed(shots()[:4], range(2), lambda shot: replace(shot, depth=None)))
    assert states(path) == ["starting"] * 2 + ["tracked"] * 2
    assert "depth" in path[0].reason


def test_another_place_is_lost() -> None:
    """A cut to another room is not taken for motion."""
    other = Room(8, 150, WIDTH, HEIGHT, kind="walk")
    scene = list(shots()[:10]) + [other[i] for i in range(5)] + list(shots()[10:13])
    path = follow(scene)
    assert states(path)[10:] == ["lost"] * 5 + ["recovered", "tracked", "tracked"]


def test_follows_a_pure_rotation() -> None:
    scene = shots("turn")
    path = follow(scene)
    assert states(path) == ["tracked"] * FRAMES
    assert max(error(scene, path, i) for i in range(FRAMES)) < 0.05
    turned = rigid.inverse(scene[0].c2w) @ scene[-1].c2w
    apart = rigid.rotation_vector(turned[:3, :3].T @ path[-1].c2w[:3, :3])
    assert np.linalg.norm(rigid.rotation_vector(turned[:3, :3])) > 0.2
    assert np.linalg.norm(apart) < np.deg2rad(2)


def test_goes_on_without_depth() -> None:
    none = changed(shots(), range(10, 17), lambda shot: replace(shot, depth=None))
    path = follow(none)
    assert states(path) == ["tracked"] * FRAMES
    assert not any(tracked.keyframe for tracked in path[10:17])
    assert max(error(none, path, i) for i in range(FRAMES)) < 0.06


def test_depth_that_is_no_number_is_unknown() -> None:
    rng = np.random.default_rng(0)

    def spoiled(shot: Shot) -> Shot:
        assert shot.depth is not None
        depth = shot.depth.copy()
        depth[rng.random(depth.shape) < 0.3] = np.nan
        depth[rng.random(depth.shape) < 0.1] = np.inf
        return replace(shot, depth=depth)

    scene = changed(shots()[:20], range(20), spoiled)
    path = follow(scene)
    assert states(path) == ["tracked"] * 20
    assert error(scene, path, 19) < 0.05


def test_a_room_with_a_rolling_ball() -> None:
    scene = shots("walk", True)
    path = follow(scene)
    assert states(path) == ["tracked"] * FRAMES
    assert max(error(scene, path, i) for i in range(FRAMES)) < 0.06


def test_a_loop_is_closed() -> None:
    """Out, blind on the way back, and home: drift put in on purpose is taken out."""
    out = shots()[:30]
    memory = KeyframeMemory()
    tracker = RgbdTracker(memory)
    follow(out, tracker)
    kept = memory.read("")
    last = kept[-1].id
    drift = rigid.exp([0, 0.02, 0, 0.1, 0, 0])
    late = {place.id: drift @ place.c2w for place in kept if place.id >= last - 1}
    memory.move("", late)
    state = tracker.state()
    for name in ("c2w", "front.c2w"):
        state[name] = drift @ state[name]
    tracker.restore(state)
    back = follow(out[::-1], tracker)
    loops = [tracked for tracked in back if tracked.loop is not None]
    corrected = [tracked for tracked in back if tracked.correction]
    assert loops
    assert corrected
    for tracked in corrected:
        assert tracked.correction is not None
        assert list(tracked.correction) == sorted(tracked.correction)
        assert np.array_equal(tracked.correction[max(tracked.correction)], tracked.c2w)
    assert error(out, [back[-1]], 0) < 0.05


@pytest.mark.parametrize("at", [7, 22])
def test_goes_on_from_a_saved_state_bit_for_bit(at: int) -> None:
    scene = changed(shots()[:40], range(20, 24), covered)
    whole = follow(scene)
    first_memory, second_memory = KeyframeMemory(), KeyframeMemory()
    first, second = RgbdTracker(first_memory), RgbdTracker(second_memory, "again")
    path = follow(scene[:at], first)
    second.restore(first.state())
    second_memory.restore("again", first_memory.snapshot(""))
    path += follow(scene[at:], second)
    assert states(path) == states(whole)
    assert all(np.array_equal(a.c2w, b.c2w) for a, b in zip(path, whole, strict=True))


def test_a_state_that_is_none_is_refused() -> None:
    tracker = RgbdTracker()
    follow(shots()[:3], tracker)
    good = tracker.state()
    for name in good:
        with pytest.raises(StateError):
            tracker.restore({key: value for key, value in good.items() if key != name})
        with pytest.raises(StateError):
            tracker.restore(good | {name: np.zeros((3, 5, 2))})
    assert {k: v.tobytes() for k, v in tracker.state().items()} == {
        k: v.tobytes() for k, v in good.items()
    }


def test_reset_begins_anew() -> None:
    tracker = RgbdTracker()
    first = follow(shots()[:10], tracker)
    tracker.reset()
    again = follow(shots()[:10], tracker)
    assert all(np.array_equal(a.c2w, b.c2w) for a, b in zip(first, again, strict=True))


def test_a_small_budget_of_keyframes_still_tracks() -> None:
    memory = KeyframeMemory(KeyframeConfig(byte_budget=300_000, max_corners=900))
    path = follow(shots(), RgbdTracker(memory, corners=900))
    assert states(path) == ["tracked"] * FRAMES
    assert memory.stats("")["dropped"] != 0
    assert memory.nbytes("") <= 300_000
    assert max(error(shots(), path, i) for i in range(FRAMES)) < 0.06
