"""Flicker and late starts, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.detect.base import IGNORE, Found, Truth, found_of, truth_of
from retain.datasets.detect.stability import stability

BOX = [10, 10, 60, 60]
FOUND, LOST = found_of([BOX], [0.5], [0]), found_of()


def there(flags: int = 0, track: int = 4) -> Truth:
    return truth_of((100, 100), [BOX], [0], [track], [flags])


def test_flicker_and_delay() -> None:
    """Lost, found, lost, found, found: three changes in four steps, found one frame late."""
    got = stability([there()] * 5, [LOST, FOUND, LOST, FOUND, FOUND])
    assert (got.flicker, got.delay, got.never) == (3 / 4, 1, 0)


def test_a_gap_is_no_step() -> None:
    gone = truth_of((100, 100))
    assert np.isnan(stability([there(), gone, there()], [FOUND, LOST, LOST]).flicker)


@pytest.mark.parametrize(
    "bad",
    [
        found_of([BOX], [0.2], [0]),
        found_of([BOX], [0.9], [1]),
        found_of([[10, 10, 60, 30]], [0.9], [0]),
    ],
)
def test_faint_wrong_and_misplaced_boxes_find_nothing(bad: Found) -> None:
    got = stability([there()] * 2, [bad] * 2)
    assert got.never == 1
    assert np.isnan(got.delay)


def test_one_box_finds_one_object() -> None:
    two = truth_of((100, 100), [BOX, BOX], [0, 0], [0, 1], [0, 0])
    assert stability([two], [FOUND]).never == 0.5
    assert stability([two], [found_of([BOX, BOX], [0.5, 0.6], [0, 0])]).never == 0


def test_what_does_not_count() -> None:
    assert np.isnan(stability([there(IGNORE), there(track=-1)], [LOST, LOST]).never)
    assert np.isnan(stability([], []).never)
