"""J and F against cases drawn by hand and against the definition, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retain.datasets.detect.jf import (
    Judged,
    boundary,
    boundary_score,
    course,
    judge,
    overall,
    region_score,
)
from retain.pipeline.errors import UsageError

Region = np.ndarray


def square(size: int = 40, left: int = 10, top: int = 10, side: int = 12) -> Region:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def by_definition(found: Region, truth: Region, reach: float) -> float:
    """F from all pairs of boundary pixels."""

    def edge(mask: Region) -> list[tuple[int, int]]:
        h, w = mask.shape
        around = ((0, 1), (1, 0), (1, 1))
        return [
            (y, x)
            for y in range(h)
            for x in range(w)
            if any(
                y + dy < h and x + dx < w and mask[y, x] != mask[y + dy, x + dx]
                for dy, dx in around
            )
        ]

    def share(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> float:
        near = [min(math.dist(a, b) for b in others) <= reach for a in some]
        return sum(near) / len(near)

    ours, theirs = edge(found), edge(truth)
    if not ours or not theirs:
        return float(not ours and not theirs)
    precision, recall = share(ours, theirs), share(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


masks = arrays.arrays(bool, (9, 11))


@settings(max_examples=60, deadline=None)
@given(found=masks, truth=masks, reach=st.integers(1, 4))
def test_boundaries_are_judged_as_defined(found: Region, truth: Region, reach: int) -> None:
    expected = by_definition(found, truth, reach)
    assert boundary_score(found, truth, tolerance=reach) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(found=masks, truth=masks)
def test_regions_are_judged_as_defined(found: Region, truth: Region) -> None:
    pairs = list(zip(found.ravel(), truth.ravel(), strict=True))
    both, any_of = sum(a and b for a, b in pairs), sum(a or b for a, b in pairs)
    assert region_score(found, truth) == (both / any_of if any_of else 1.0)
    assert region_score(found, truth) == region_score(truth, found)


def test_the_same_mask_is_perfect_and_none_at_all_is_worth_nothing() -> None:
    mask, empty = square(), np.zeros((40, 40), bool)
    assert region_score(mask, mask) == boundary_score(mask, mask) == 1.0
    assert region_score(empty, mask) == boundary_score(empty, mask) == 0.0
    assert region_score(mask, empty) == boundary_score(mask, empty) == 0.0
    assert region_score(empty, empty) == boundary_score(empty, empty) == 1.0


def test_a_shifted_square_loses_region_but_no_boundary_within_the_tolerance() -> None:
    truth, found = square(400, 100, 100, 100), square(400, 104, 100, 100)
    assert region_score(found, truth) == pytest.approx(96 / 104)
    assert boundary_score(found, truth) == 1.0  # 0.8 % of the diagonal are 5 pixels
    far = square(400, 106, 100, 100)
    # The two upright sides are 6 pixels off, but for their ends near the level ones.
    assert 0.5 < boundary_score(far, truth) < 0.6


def test_tolerance_grows_with_the_picture() -> None:
    small, shifted = square(40), square(40, left=12)
    large = [np.kron(m, np.ones((10, 10), bool)) for m in (small, shifted)]
    assert boundary_score(shifted, small) < 1.0  # 2 pixels off, 1 is allowed
    assert boundary_score(*large) == pytest.approx(boundary_score(shifted, small), abs=0.1)


def test_the_frames_border_is_no_boundary() -> None:
    mask = np.ones((8, 8), bool)
    assert not boundary(mask).any()
    assert boundary_score(mask, np.zeros((8, 8), bool)) == 1.0


def test_void_pixels_are_not_judged() -> None:
    truth, found = square(), square()
    found[0:3] = True
    void = np.zeros((40, 40), bool)
    void[0:3] = True
    assert region_score(found, truth) < 1
    assert region_score(found, truth, void) == boundary_score(found, truth, void) == 1.0


def test_the_first_frame_is_given_and_the_last_not_judged() -> None:
    mask, empty = square(), np.zeros((40, 40), bool)
    found = [empty, mask, mask, empty]
    judged = judge(found, [mask] * 4)
    assert judged.js == judged.fs == (1.0, 1.0)
    assert judged.mean == 1.0


def test_decay_compares_the_first_quarter_with_the_last() -> None:
    told = course([1.0] * 4 + [0.8] * 8 + [0.5] * 4)
    assert told.mean == pytest.approx((4 + 6.4 + 2) / 16)
    assert told.recall == 12 / 16
    # Parts meet in frames: 0-4, ..., 11-15.
    assert told.decay == pytest.approx((4 + 0.8) / 5 - (0.8 + 2) / 5)
    assert math.isnan(course([1.0, 0.5]).decay)


def test_objects_count_alike_however_long_their_videos_are() -> None:
    good, bad = square(), np.zeros((40, 40), bool)
    short = judge([good] * 3, [good] * 3)
    long = judge([bad] * 12, [good] * 12)
    both = overall([short, long])
    assert both.j.mean == both.f.mean == 0.5
    assert len(both.js) == 11
    assert isinstance(both, Judged)


@pytest.mark.parametrize(
    ("found", "truth", "word"),
    [
        ([square()] * 3, [square()] * 4, "as many"),
        ([square()] * 2, [square()] * 2, "three frames"),
        ([square(40)] * 3, [square(30)] * 3, r"\[40, 40\]"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    found: list[Region], truth: list[Region], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        judge(found, truth)
