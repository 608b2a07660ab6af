"""Metrics of what is held, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.datasets.held import Kept, coverage, found, query_ranks, recall_at, share
from retain.datasets.planted import Event


def kept(asked: int, frames: list[int], clear: list[int] | None = None) -> Kept:
    sharp = [frame in (clear or []) for frame in frames]
    return Kept(asked, np.array(frames, np.int64), np.array(sharp, bool))


TIMES = np.arange(100.0)


def test_an_event_is_asked_about_once_it_has_ended_and_only_then() -> None:
    events = [Event(10, 12), Event(50, 51)]
    answers = found(events, TIMES, [kept(11, [10]), kept(40, [3, 11]), kept(60, [10, 50], [50])])
    assert [(f.age_s, f.held, f.detail) for f in answers] == [
        (28, True, False),
        (48, True, False),
        (9, True, True),
    ]


def test_a_frame_at_the_end_of_an_event_is_no_part_of_it() -> None:
    (answer,) = found([Event(10, 12)], TIMES, [kept(40, [9, 12], [9, 12])])
    assert not answer.held
    assert not answer.detail


def test_a_clear_frame_beside_an_event_is_no_detail_of_it() -> None:
    (answer,) = found([Event(10, 12)], TIMES, [kept(40, [11, 20], [20])])
    assert answer.held
    assert not answer.detail


def test_share_of_nothing_is_none() -> None:
    assert share([]) is None
    assert share([True, False, False, True]) == 0.5


def test_coverage_by_hand() -> None:
    features = np.array([[1, 0], [1, 0], [0.6, 0.8], [0, 1]], np.float32)
    shots = np.array([0, 0, 1, 2])
    c = coverage(features, np.arange(4.0), kept(3, [0, 3]), shots)
    assert c.mean == pytest.approx((0 + 0 + 0.2 + 0) / 4, abs=1e-6)
    assert c.p95 == pytest.approx(np.quantile([0, 0, 0.2, 0], 0.95), abs=1e-6)
    assert c.gap_s == 3.0
    assert c.shots == pytest.approx(2 / 3)


def test_coverage_counts_only_what_had_come_and_both_ends() -> None:
    features = np.eye(4, dtype=np.float32)
    c = coverage(features, np.arange(4.0), kept(2, [1]))
    assert c.mean == pytest.approx(2 / 3)
    assert c.gap_s == 1.0
    assert c.shots is None


def test_a_memory_that_holds_nothing_covers_nothing() -> None:
    c = coverage(np.eye(4, dtype=np.float32), np.arange(4.0), kept(3, []), np.arange(4))
    assert c == (1.0, 1.0, 3.0, 0.0)


@given(st.integers(0, 1000), st.integers(1, 12))
def test_more_frames_never_cover_worse(seed: int, more: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((30, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    order = rng.permutation(30)
    few, many = sorted(order[:4].tolist()), sorted(order[: 4 + more].tolist())
    a = coverage(features, np.arange(30.0), kept(29, few))
    b = coverage(features, np.arange(30.0), kept(29, many))
    assert b.mean <= a.mean + 1e-6
    assert b.p95 <= a.p95 + 1e-6
    assert b.gap_s <= a.gap_s


def test_ranks_by_hand() -> None:
    held = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    queries = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    right = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]], bool)
    ranks = query_ranks(queries, held, right)
    assert ranks.tolist() == [1, 2, 0, 3]
    assert recall_at(ranks, 1) == 0.25
    assert recall_at(ranks, 2) == 0.5
    assert recall_at(ranks, 3) == 0.75
    assert recall_at(ranks[:0], 3) is None


def test_a_wrong_answer_of_the_same_cosine_counts_as_first() -> None:
    held = np.array([[1, 0], [1, 0]], np.float32)
    assert query_ranks(held[:1], held, np.array([[True, False]])).tolist() == [2]


def test_nothing_held_answers_nothing() -> None:
    queries = np.eye(2, dtype=np.float32)
    nothing = np.zeros((0, 2), np.float32)
    assert query_ranks(queries, nothing, np.zeros((2, 0), bool)).tolist() == [0, 0]
