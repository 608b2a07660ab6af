"""Ranking: exact against plain float64, neighbours fold, ties and empty rows behave."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.memory.moments import Moment, rank
from retain.pipeline.errors import UsageError


def units(seed: int, count: int, dim: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def oracle(
    rows: np.ndarray, seconds: np.ndarray, query: np.ndarray, k: int, fold_s: float
) -> list[tuple[int, tuple[int, ...]]]:
    """The definition, frame by frame."""
    scores = [
        math.fsum(float(a) * float(b) for a, b in zip(row, query, strict=True)) for row in rows
    ]
    left = [i for i in range(len(rows)) if rows[i].any()]
    found = []
    while left and len(found) < k:
        best = min(left, key=lambda i: (-scores[i], seconds[i], i))
        near = [i for i in left if abs(seconds[i] - seconds[best]) <= fold_s]
        found.append((best, tuple(sorted(near, key=lambda i: (seconds[i], i)))))
        left = [i for i in left if i not in near]
    return found


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 9), st.sampled_from((0, 1, 4)))
def test_it_is_the_definition(seed: int, count: int, k: int, fold_s: float) -> None:
    rng = np.random.default_rng(seed)
    rows = units(seed, count)
    rows[rng.random(count) < 0.1] = 0
    seconds = rng.permutation(count).astype(np.float64)
    query = units(seed + 1, 1)[0]
    found = rank(rows, seconds, 7 * query, k=k, fold_s=fold_s)
    assert [(m.row, m.rows) for m in found] == oracle(rows, seconds, query, k, fold_s)


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_moments_do_not_share_frames_and_fall_in_score(seed: int, count: int) -> None:
    rows, seconds = units(seed, count), np.arange(count, dtype=np.float64)
    found = rank(rows, seconds, units(seed + 1, 1)[0], k=count)
    everything = [row for moment in found for row in moment.rows]
    assert sorted(everything) == list(range(count)), "with k large enough nothing is lost"
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
    for m in found:
        assert m.row in m.rows
        assert m.start_s <= m.seconds <= m.end_s
        assert m.end_s - m.start_s <= 6.0


def test_scores_are_cosines_whatever_the_length_of_the_question() -> None:
    rows = units(0, 5)
    (best, *_) = rank(rows, np.arange(5) * 10.0, 12.5 * rows[3], k=5)
    assert best.row == 3
    assert best.score == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5, 17, 64])
def test_of_equal_frames_the_earliest_answers(count: int) -> None:
    """Wherever a row stands: a matrix product adds up the last rows in another order."""
    one = units(3, 1, 1280)
    rows = np.repeat(one, count, axis=0)
    seconds = 10.0 * np.arange(count)[::-1]
    found = rank(rows, seconds, one[0] + units(4, 1, 1280)[0], k=count)
    assert [m.row for m in found] == list(range(count))[::-1]
    assert len({m.score for m in found}) == 1


def test_rows_without_a_feature_never_win() -> None:
    rows = -np.repeat(units(0, 1), 4, axis=0)
    rows[1], rows[2] = 0, np.nan
    found = rank(rows, np.arange(4) * 10.0, -rows[0], k=4)
    assert [m.row for m in found] == [0, 3], "though their cosine is the least there is"
    assert rank(np.zeros((3, 8), np.float32), np.arange(3.0), -rows[0]) == []


def test_frames_out_of_the_range_neither_answer_nor_fold() -> None:
    rows, seconds = units(0, 10), np.arange(10.0)
    (found,) = rank(rows, seconds, rows[4], start_s=4, end_s=6)
    assert (found.row, found.rows, found.start_s, found.end_s) == (4, (4, 5, 6), 4.0, 6.0)


def test_a_range_alone_comes_in_order_of_time_the_worthiest_kept() -> None:
    rows, seconds = units(0, 6), 10.0 * np.arange(6)
    worth = np.array([9.0, 1, 8, 2, 7, 3])
    found = rank(rows, seconds, None, k=3, worth=worth)
    assert [m.row for m in found] == [0, 2, 4]
    assert all(math.isnan(m.score) for m in found)
    assert [m.row for m in rank(rows, seconds, None, k=2)] == [0, 1]
    zero = np.zeros_like(rows)
    assert len(rank(zero, seconds, None, k=6)) == 6, "no feature is needed for a time"


def test_what_cannot_be_asked() -> None:
    rows, seconds = units(0, 3), np.arange(3.0)
    for query, words, options in (
        (rows[0], "At least one", {"k": 0}),
        (rows[0], "ends before", {"start_s": 2.0, "end_s": 1.0}),
        (rows[0], "ends before", {"start_s": math.nan}),
        (0 * rows[0], "no feature", {}),
        (math.inf * rows[0], "no feature", {}),
    ):
        with pytest.raises(UsageError, match=words):
            rank(rows, seconds, query, **options)  # type: ignore[arg-type]
    assert rank(rows[:0], seconds[:0], rows[0]) == []


def test_a_moment_is_plain() -> None:
    (found,) = rank(units(0, 1), np.array([2.5]), units(1, 1)[0])
    assert found == Moment(0, (0,), 2.5, 2.5, 2.5, found.score)
