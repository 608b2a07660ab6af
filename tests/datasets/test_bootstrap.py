"""Intervals against what is known of them: the normal one, pairing, groups, repeats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from retain.datasets.bootstrap import NOTHING, interval, of_mean


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(2, 1, 400).astype(np.float32)
    half = 1.96 * values.std() / math.sqrt(400)
    # 2000 resamples place a 2.5 % quantile to about 5 % of the half width.
    for value, low, high in (of_mean(values), interval(np.mean, values)):
        assert value == pytest.approx(values.mean())
        assert (value - low, high - value) == pytest.approx((half, half), rel=0.15)


def test_it_is_that_of_scipy() -> None:
    values = np.random.default_rng(4).exponential(size=60)
    theirs = stats.bootstrap(
        (values,), np.median, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = interval(np.median, values)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_the_same_rows_give_the_same_interval_and_both_functions_agree() -> None:
    values = np.random.default_rng(2).normal(size=37)
    assert of_mean(values) == of_mean(values) == interval(np.mean, values)
    assert of_mean(values, seed=1) == interval(np.mean, values, seed=1) != of_mean(values)


def test_columns_are_resampled_together() -> None:
    worse = np.random.default_rng(1).normal(2, 3, 200)
    paired = interval(lambda a, b: float(a.mean() - b.mean()), worse, worse - 0.5)
    assert paired == pytest.approx((0.5, 0.5, 0.5))


def test_groups_weigh_the_same_and_are_resampled_within() -> None:
    assert of_mean([0.0] * 90, [1.0] * 2, []) == (0.5, 0.5, 0.5)
    value, low, high = of_mean([0.0, 1.0] * 20, [3.0])
    assert value == 1.75
    assert 1.65 < low < 1.72 < 1.78 < high < 1.85


def test_a_resample_without_a_statistic_does_not_count() -> None:
    """As a ratio whose rows all happen to be empty."""

    def ratio(a: np.ndarray, b: np.ndarray) -> float:
        return float(a.sum() / b.sum()) if b.sum() else math.nan

    found = interval(ratio, np.array([2.0, 4.0]), np.array([0.0, 1.0]))
    assert found == (6, 4, 6)


def test_of_no_rows_nothing_is_known() -> None:
    for found in (of_mean(), of_mean([]), interval(np.mean, np.zeros(0)), NOTHING):
        assert all(math.isnan(number) for number in found)
    assert of_mean([0.25]) == (0.25, 0.25, 0.25)
