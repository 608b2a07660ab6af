"""The rule that judges boundaries, on cases made by hand and against every possible matching."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.datasets.boundaries.base import (
    Boundary,
    Clip,
    Counts,
    Mark,
    by_kind,
    match,
    mean_f1,
    total,
)
from retain.pipeline.errors import SourceError, UsageError


def cuts(*frames: int) -> list[Boundary]:
    return [Boundary(f, f) for f in frames]


@pytest.mark.parametrize(
    ("tolerance", "found", "expected"),
    [
        (0, [10, 20], (2, 0, 0)),
        (0, [11, 20], (1, 1, 1)),
        (1, [11, 20], (2, 0, 0)),
        (1, [12, 20], (1, 1, 1)),
        (2, [12, 18], (2, 0, 0)),
        (2, [13, 17], (0, 2, 2)),
        (2, [], (0, 0, 2)),
        (2, [9, 10, 11], (1, 2, 1)),  # a second report of one cut is a false alarm
        (2, [10, 10], (1, 1, 1)),
    ],
)
def test_cuts_within_the_tolerance(
    tolerance: int, found: list[int], expected: tuple[int, int, int]
) -> None:
    assert match(cuts(10, 20), found, tolerance) == expected


@pytest.mark.parametrize(
    ("frame", "tolerance", "hit"),
    [(10, 0, 1), (15, 0, 1), (20, 0, 1), (9, 0, 0), (21, 0, 0), (9, 1, 1), (21, 1, 1), (23, 2, 0)],
)
def test_a_gradual_one_is_hit_anywhere_within_it(frame: int, tolerance: int, hit: int) -> None:
    assert match([Boundary(10, 20)], [frame], tolerance) == (hit, 1 - hit, 1 - hit)


def test_one_report_serves_one_of_two_close_cuts() -> None:
    assert match(cuts(10, 11), [10], 2) == (1, 0, 1)
    assert match(cuts(10, 12), [11, 14], 2) == (2, 0, 0)


def test_intervals_found_meet_as_the_published_evaluators_say() -> None:
    # Shots [0, 5], [6, 9] against [0, 4], [5, 9]: cuts at 6 and 5, and at 4 in the third case.
    assert match(cuts(5), cuts(6), 0).tp == 0
    assert match(cuts(5), cuts(6), 1).tp == 1
    assert match(cuts(4), cuts(6), 1).tp == 0
    assert match([Boundary(3, 8)], [Boundary(9, 12)], 0).tp == 0
    assert match([Boundary(3, 8)], [Boundary(9, 12)], 1).tp == 1


def test_counts_add_up() -> None:
    clips = [Counts(3, 1, 0), Counts(0, 0, 2)]
    assert total(clips) == Counts(3, 1, 2)
    assert total(clips).precision == 0.75
    assert total(clips).recall == 0.6
    assert total(clips).f1 == pytest.approx(6 / 9)
    assert mean_f1(clips) == pytest.approx((6 / 7 + 0) / 2)
    assert Counts().f1 == Counts().precision == Counts().recall == 1.0
    assert total([]) == Counts()


def best(truth: list[Boundary], found: list[int], tolerance: int) -> int:
    """The most hits that any one-to-one matching has, by trying everything."""
    if not truth:
        return 0
    first, rest = truth[0], truth[1:]
    most = best(rest, found, tolerance)
    for k, f in enumerate(found):
        if first.start - tolerance <= f <= first.end + tolerance:
            most = max(most, 1 + best(rest, found[:k] + found[k + 1 :], tolerance))
    return most


@given(
    edges=st.lists(st.integers(0, 40), max_size=8, unique=True).map(sorted),
    hard=st.lists(st.booleans(), min_size=8, max_size=8),
    found=st.lists(st.integers(0, 40), max_size=5),
    tolerance=st.integers(0, 2),
)
def test_greedy_finds_as_many_as_any_matching(
    edges: list[int], hard: list[bool], found: list[int], tolerance: int
) -> None:
    pairs = list(pairwise(edges))[::2]
    truth = [Boundary(a, a if h else b) for (a, b), h in zip(pairs, hard, strict=False)]
    counts = match(truth, found, tolerance)
    assert counts.tp == best(truth, found, tolerance)
    assert counts.tp + counts.fn == len(truth)
    assert counts.tp + counts.fp == len(found)


def test_by_kind() -> None:
    marks = [
        Mark("cut", 10, 11),
        Mark("flash", 20, 22),
        Mark("insert", 30, 40),
        Mark("dissolve", 50, 60),
        Mark("flash", 70, 71),
        Mark("pan", 10, 30),
    ]
    truth = [Boundary(10, 10), Boundary(30, 30), Boundary(40, 40), Boundary(50, 60)]
    clip = Clip("x", 25.0, 99, truth, lambda: iter(()), marks=marks)
    assert by_kind(clip, [55, 11, 20, 22, 41, 32], 2) == {
        "cut": (1, 1),
        "flash": (2, 1),
        "insert": (2, 2),
        "dissolve": (1, 1),
        "pan": (1, 1),  # the flash within it
    }
    assert by_kind(clip, [], 2)["insert"] == (2, 0)
    assert by_kind(clip, [10, 11, 68], 1) == {
        "cut": (1, 1),
        "flash": (2, 0),
        "insert": (2, 0),
        "dissolve": (1, 0),
        "pan": (1, 1),  # the cut that begins it, told twice
    }


def test_bad_use_is_named() -> None:
    with pytest.raises(UsageError, match="-1 frames"):
        match([], [], -1)
    clip = Clip("x", 25.0, 0, [], lambda: iter(()), missing="videos/x.mp4")
    with pytest.raises(SourceError, match=r"videos/x\.mp4"):
        clip.frames()
