"""Frames by when they are due, and what lies between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.memory.clips.config import ClipShape
from retain.models.ditmem.slots import Slots, Strip, bridged
from retain.pipeline.errors import StateError

SHAPE = ClipShape(8, 2, 2, 1)


def image(at: int) -> np.ndarray:
    return np.full((2, 2, 1), at % 251, np.uint8)


def strips(times: list[int], counted: bool = True) -> list[Strip]:
    """Of frames at these times; ``counted``: the stream numbers those it lost too."""
    slots, out = Slots(SHAPE), []
    for n, at in enumerate(times):
        out += slots.add(image(at), at if counted else n, at / 8)
    return out + slots.finish()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.booleans())
def test_every_hole_is_handed_out_once_at_its_time(steps: list[int], counted: bool) -> None:
    """As long as most frames come one by one, so that it is known how long one lasts."""
    steps = [1] * (len(steps) + 2) + steps
    times = [0, *np.cumsum(steps).tolist()]
    filled: list[float] = []
    for strip in strips(times, counted):
        assert strip.known[0]
        assert not (strip.known & strip.wanted).any()
        for k in np.flatnonzero(strip.known):
            assert (strip.frames[k] == image(round(8 * strip.seconds[k]))).all()
        if counted:
            told = strip.known | strip.wanted
            assert strip.seqs[told].tolist() == np.rint(8 * strip.seconds[told]).tolist()
        else:
            assert (strip.seqs[strip.wanted] == -1).all()
        filled += (8 * strip.seconds[strip.wanted]).tolist()
    missing = sorted(set(range(times[-1])) - set(times))
    assert np.allclose(filled, missing)


def test_a_hole_that_is_too_long_and_a_cut_begin_anew() -> None:
    assert not any(s.wanted.any() for s in strips([0, 1, 2, 3, 12, 13, 14]))
    slots = Slots(SHAPE)
    for at in (0, 1, 2, 3, 12):
        slots.add(image(at), at, at / 8)
    assert slots.lost == 1
    (rest,) = slots.add(image(0), 13, 13 / 8, fresh=True) or [None]
    assert rest is None or not rest.wanted.any()
    slots.add(image(1), 15, 15 / 8)
    (last,) = slots.finish()
    assert last.seqs[0] == 13


def test_it_goes_on_from_its_arrays() -> None:
    times = [0, 1, 2, 4, 5, 6, 7, 9, 10, 13, 14, 15, 16, 18, 19, 20, 21, 22, 25, 26]
    one = Slots(SHAPE)
    for at in times[:9]:
        one.add(image(at), at, at / 8)
    other = Slots(SHAPE)
    other.restore(one.arrays())
    for at in times[9:]:
        for a, b in zip(
            one.add(image(at), at, at / 8), other.add(image(at), at, at / 8), strict=True
        ):
            assert all(np.array_equal(getattr(a, n), getattr(b, n)) for n in Strip.__slots__)
    with pytest.raises(StateError, match="not of"):
        Slots(ClipShape(8, 3, 2, 1)).restore(one.arrays())
    with pytest.raises(StateError, match="not whole"):
        other.restore({})


@given(st.lists(st.booleans(), min_size=3, max_size=12).filter(any), st.integers(0, 20))
def test_a_straight_line_is_bridged_exactly_between_known_frames(
    known: list[bool], slope: int
) -> None:
    there = np.array(known)
    line = (slope * np.arange(len(known))).astype(np.uint8)[:, None, None, None]
    shown = np.where(there[:, None, None, None], line, 255).astype(np.uint8)
    places = np.flatnonzero(there)
    expected = np.clip(np.arange(len(known)), places[0], places[-1]) * slope
    assert bridged(shown, there).ravel().tolist() == expected.tolist()
