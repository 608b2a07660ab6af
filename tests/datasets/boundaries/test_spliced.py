"""Spliced streams: the truth is what the pictures show, and nothing else changes abruptly."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.boundaries.base import Boundary, Clip
from retain.datasets.boundaries.footage import Panned, Played, fit, installed_shots
from retain.datasets.boundaries.spliced import KINDS, spliced
from retain.pipeline.errors import UsageError

SIZE = (64, 36)


def small(seed: int, seconds: float = 60.0, kinds: tuple[str, ...] = KINDS) -> Clip:
    return spliced(seed, seconds, 10.0, SIZE, kinds, drawn=True)


def changes(clip: Clip) -> np.ndarray:
    """Mean absolute difference of every frame to the one before; 0 for the first."""
    images = np.stack(list(clip.frames())).astype(np.int16)
    steps = np.abs(np.diff(images, axis=0)).mean((1, 2, 3))
    return np.concatenate([[0.0], steps])


def test_a_function_of_its_seed() -> None:
    first, again, other = small(3, 10), small(3, 10), small(4, 10)
    frames = list(first.frames())
    assert len(frames) == first.length == 100
    assert all((a == b).all() for a, b in zip(frames, again.frames(), strict=True))
    assert all((a == b).all() for a, b in zip(frames, first.frames(), strict=True))
    assert first.boundaries == again.boundaries
    assert first.boundaries != other.boundaries
    assert frames[0].shape == (36, 64, 3)
    assert frames[0].dtype == np.uint8


def test_every_kind_is_there_and_nothing_answers_for_two() -> None:
    clip = small(0)
    assert {mark.kind for mark in clip.marks} == set(KINDS)
    edges = [edge for b in clip.boundaries for edge in b]
    assert edges == sorted(edges)
    assert edges[-1] < clip.length
    assert clip.flashes == [m.start for m in clip.marks if m.kind == "flash"]
    for mark in clip.marks:
        if mark.kind in ("flash", "frozen", "ramp"):
            near = range(mark.start - 3, mark.end + 3)
            assert not any(b.start in near or b.end in near for b in clip.boundaries), mark
    inserts = [m for m in clip.marks if m.kind == "insert"]
    assert all({(m.start, m.start), (m.end, m.end)} <= set(clip.boundaries) for m in inserts)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    seconds=st.floats(4, 60),
    fps=st.sampled_from([5.0, 10.0, 25.0, 30.0]),
    kinds=st.sets(st.sampled_from(KINDS)),
)
def test_any_plan_holds(seed: int, seconds: float, fps: float, kinds: set[str]) -> None:
    clip = spliced(seed, seconds, fps, SIZE, sorted(kinds), drawn=True)
    assert {m.kind for m in clip.marks} <= kinds
    for before, after in pairwise([Boundary(0, 0), *clip.boundaries]):
        assert before.end < after.start <= after.end < clip.length
    within = [m for m in clip.marks if m.kind in ("flash", "frozen", "ramp")]
    for mark in within:
        assert 0 < mark.start < mark.end < clip.length
        assert not any(b.start <= mark.end and mark.start <= b.end for b in clip.boundaries)
    for one, other in pairwise(within):
        assert one.end <= other.start
    if not kinds & {"cut", "dissolve", "insert"}:
        assert clip.boundaries == []


@pytest.mark.parametrize("seed", range(3))
def test_hard_cuts_are_where_pictures_change(seed: int) -> None:
    clip = small(seed, 40, ("cut", "insert", "pan"))
    steps = changes(clip)
    cuts = [b.start for b in clip.boundaries]
    assert all(b.start == b.end for b in clip.boundaries)
    rest = np.delete(steps, [0, *cuts])
    assert steps[cuts].min() > rest.max()


def test_a_dissolve_leaves_the_old_shot_at_start_and_is_the_new_one_at_end() -> None:
    hard, soft = small(5, 40, ("cut",)), small(5, 40, ("dissolve",))
    assert all(b.start < b.end for b in soft.boundaries)
    assert all(b.start == b.end for b in hard.boundaries)
    steps = changes(soft)
    cut = changes(hard)[[b.start for b in hard.boundaries]].min()
    mixed = [t for b in soft.boundaries for t in range(b.start, b.end + 1)]
    assert steps.max() < cut
    assert steps[mixed].mean() > 3 * np.delete(steps, mixed).mean()


def test_an_insert_returns_to_the_shot_it_interrupts() -> None:
    clip = small(1, 20, ("insert",))
    images = [i.astype(np.int16) for i in clip.frames()]
    inserts = [m for m in clip.marks if m.kind == "insert"]
    assert inserts
    for mark in inserts:
        across = np.abs(images[mark.end] - images[mark.start - 1]).mean()
        into = np.abs(images[mark.start] - images[mark.start - 1]).mean()
        assert across < into / 2


def test_frozen_frames_are_equal_and_flashes_come_back() -> None:
    clip = small(2, 60, ("frozen", "flash", "ramp"))
    assert clip.boundaries == []
    steps = changes(clip)
    kinds = {kind: [m for m in clip.marks if m.kind == kind] for kind in ("frozen", "flash")}
    assert all(kinds.values())
    for mark in kinds["frozen"]:
        assert not steps[mark.start + 1 : mark.end].any()
        assert steps[mark.start] > 0
        assert steps[mark.end] > 0
    for mark in kinds["flash"]:
        assert min(steps[mark.start], steps[mark.end]) > 30
    abrupt = {t for m in kinds["flash"] for t in (m.start, m.end)}
    assert max(s for t, s in enumerate(steps) if t not in abrupt) < 30


def test_only_part_of_a_stream_is_made() -> None:
    clip = spliced(0, 3600.0, 25.0, SIZE, drawn=True)
    assert len(list(islice(clip.frames(), 3))) == 3
    assert clip.length == 90_000


def test_footage() -> None:
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    played = Played(frames)
    assert [int(played.at(k)[0, 0, 0]) for k in range(10)] == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1]
    assert int(Played(frames[:1]).at(7)[0, 0, 0]) == 0
    x = np.tile(np.arange(120, dtype=np.uint8), (80, 1))
    panned = Panned(np.stack([x] * 3, 2), (60, 40), 1.0, 0.0)
    left = [int(panned.at(k)[0, 0, 0]) for k in range(200)]
    assert min(left) == 0
    assert max(left) == 60
    assert np.abs(np.diff(left)).max() == 1
    assert fit(np.zeros((90, 160, 3), np.uint8), (64, 64)).shape == (64, 64, 3)


def test_of_installed_clips() -> None:
    if not installed_shots():
        pytest.skip("no clip is installed")
    clip = spliced(0, 12.0)
    frames = list(islice(clip.frames(), 130))
    assert "installed" in clip.name
    assert frames[0].shape == (90, 160, 3)
    assert len({f.tobytes() for f in frames}) > 25


def test_bad_use_is_named() -> None:
    with pytest.raises(UsageError, match=r"'flush'.*'flash'"):
        spliced(0, kinds=("flush",))
    with pytest.raises(UsageError, match="cannot hold"):
        spliced(0, seconds=1.0)
