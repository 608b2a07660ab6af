"""Boxes that live on: fading by time, giving way, bounded, saved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.datasets.detect.base import Found, found_of
from retain.models.mamba.carry import BoxCarry, Carried, CarryConfig, FoundAt
from retain.models.mamba.memory import carried
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.results import Boxes

A, B = (10.0, 10.0, 50.0, 50.0), (100.0, 10.0, 160.0, 60.0)


def put(carry: BoxCarry, found: Found, frame: int, rate: float = 24.0) -> Carried:
    return carry.write("s", FoundAt(found, frame, frame / rate))


def one(box: tuple[float, ...], score: float = 0.9, label: int = 0) -> Found:
    return found_of([box], [score], [label])


def test_a_box_lives_on_and_fades_by_time_not_by_frames() -> None:
    slow, fast = BoxCarry(), BoxCarry()
    put(slow, one(A), 0, 6.0)
    at_six = put(slow, found_of(), 1, 6.0).found.scores
    put(fast, one(A), 0)
    for k in range(1, 5):
        at_24 = put(fast, found_of(), k).found.scores
    np.testing.assert_allclose(at_six, at_24, rtol=1e-6)
    np.testing.assert_allclose(at_24, 0.9 * 0.8**4, rtol=1e-6)


def test_of_an_old_and_a_new_box_of_one_class_the_better_stays() -> None:
    carry = BoxCarry()
    put(carry, one(A, 0.5), 0)
    better = put(carry, one((12, 12, 52, 52), 0.8), 1)
    assert better.source.tolist() == [0]
    assert better.frames.tolist() == [1]
    worse = put(carry, one((12, 12, 52, 52), 0.1), 2)
    assert worse.source.tolist() == [-1]
    assert worse.frames.tolist() == [1]


def test_another_class_and_another_place_do_not_compete() -> None:
    carry = BoxCarry()
    put(carry, one(A), 0)
    assert len(put(carry, one(A, 0.9, 1), 1).found) == 2
    assert len(put(carry, one(B), 2).found) == 3


def test_new_boxes_are_never_suppressed_by_each_other() -> None:
    found = found_of([A, (11, 11, 51, 51)], [0.9, 0.8], [0, 0])
    assert put(BoxCarry(), found, 0).source.tolist() == [0, 1]


def test_what_is_mostly_memory_is_shown_and_never_lives_on() -> None:
    carry = BoxCarry()
    for share, lives in ((0.9, False), (0.3, True)):
        carry.reset("s")
        shown = carry.write("s", FoundAt(one(A), 0, 0.0, np.array([share], np.float32)))
        assert shown.source.tolist() == [0]
        assert (len(put(carry, found_of(), 1).found) == 1) == lives


def test_a_guess_does_not_end_what_was_seen() -> None:
    carry = BoxCarry()
    put(carry, one(A, 0.5), 0)
    guess = FoundAt(one((12, 12, 52, 52), 0.8), 1, 1 / 24, np.array([0.9], np.float32))
    assert carry.write("s", guess).source.tolist() == [0]
    after = put(carry, found_of(), 2)
    np.testing.assert_array_equal(after.found.boxes, [A])
    np.testing.assert_allclose(after.found.scores, 0.5 * 0.8**2, rtol=1e-6)


@pytest.mark.parametrize(("seen", "guessed"), [(0.5, 0.8), (0.9, 0.3)])
def test_two_guesses_of_one_object_are_shown_in_their_mean(seen: float, guessed: float) -> None:
    carry, there = BoxCarry(), (26.0, 10.0, 66.0, 50.0)
    put(carry, one(A, seen), 0)
    faded = seen * 0.8
    shown = carry.write("s", FoundAt(one(there, guessed), 1, 1 / 24, np.array([0.9], np.float32)))
    left = (faded * A[0] + guessed * there[0]) / (faded + guessed)
    np.testing.assert_allclose(shown.found.boxes, [(left, 10, left + 40, 50)], rtol=1e-6)
    np.testing.assert_allclose(shown.found.scores, [max(faded, guessed)], rtol=1e-6)
    np.testing.assert_array_equal(shown.places, [there if guessed > faded else A])
    np.testing.assert_array_equal(carry.read("s").boxes, [A])


def test_what_the_frame_itself_shows_is_never_moved() -> None:
    carry = BoxCarry()
    put(carry, one(A, 0.5), 0)
    np.testing.assert_array_equal(
        put(carry, one((14, 10, 54, 50), 0.8), 1).found.boxes, [(14, 10, 54, 50)]
    )


def test_a_box_that_lives_on_tells_what_the_frame_gives_it() -> None:
    carry = BoxCarry()
    put(carry, one(A, 0.9), 0)
    assert put(carry, one((12, 12, 52, 52), 0.3), 1).seen.tolist() == [pytest.approx(0.3)]
    assert put(carry, one((12, 12, 52, 52), 0.3, 1), 2).seen.tolist() == [0, 0]
    for share, told in ((0.5, 0.15), (0.9, 0.0)):
        guess = FoundAt(one((12, 12, 52, 52), 0.3), 3, 3 / 24, np.array([share], np.float32))
        assert carry.write("s", guess).seen.max() == pytest.approx(told)


def test_a_box_that_fades_away_is_let_go() -> None:
    carry = BoxCarry()
    put(carry, one(A), 0)
    assert not len(put(carry, found_of(), 60).found)
    assert not len(carry.read("s"))


@given(st.lists(st.integers(0, 8), min_size=1, max_size=8), st.integers(0, 2**31))
def test_bounded_sorted_and_restored(counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    carry = BoxCarry(CarryConfig(capacity=5))
    for k, count in enumerate(counts):
        corner = rng.uniform(0, 200, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (count, 2))], 1)
        found = found_of(boxes, rng.uniform(0, 1, count), rng.integers(0, 2, count))
        out = put(carry, found, k).found
        assert (np.diff(out.scores) <= 0).all()
        assert len(carry.read("s")) <= 5
        assert carry.nbytes("s") == carry.min_bytes
    other = BoxCarry(CarryConfig(capacity=5))
    other.restore("s", carry.snapshot("s"))
    a, b = put(carry, one(A), len(counts)), put(other, one(A), len(counts))
    assert np.array_equal(a.found.boxes, b.found.boxes)
    assert np.array_equal(a.found.scores, b.found.scores)


def test_a_snapshot_that_no_carry_wrote_is_refused() -> None:
    carry = BoxCarry()
    put(carry, one(A), 0)
    state = carry.snapshot("s")
    for name, value in (("scores", np.array([np.nan])), ("boxes", np.zeros((2, 4), np.float32))):
        broken = type(state)({**state.tensors, name: value})
        with pytest.raises(StateError):
            BoxCarry().restore("s", broken)


def test_options_that_cannot_work_are_told() -> None:
    for values in ({"decay": 1.0}, {"decay": 0.0}, {"capacity": 0}):
        with pytest.raises(UsageError):
            CarryConfig(**values)  # type: ignore[arg-type]


@given(st.integers(0, 2**31))
def test_the_share_of_memory_is_a_share(seed: int) -> None:
    """Also of a box that lives on beside a surer one of its object, which a third made give way."""
    rng = np.random.default_rng(seed)
    carry = BoxCarry()
    for k in range(4):
        corner = rng.uniform(0, 30, (6, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 40, (6, 2))], 1)
        found = found_of(boxes, rng.uniform(0.05, 1, 6), np.zeros(6, int))
        merged = put(carry, found, k)
        alone = Boxes(
            found.boxes, found.scores, found.labels.astype(np.int32), ("a",),
            np.full(6, -1, np.int32), np.zeros(6, np.float32),
        )  # fmt: skip
        shown = carried(alone, merged)
        assert ((shown.memory >= 0) & (shown.memory <= 1)).all()
