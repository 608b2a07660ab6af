"""Search against float64 definitions; what must not be an answer is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.memory.clips import search
from retain.memory.clips.bank import ClipBank
from retain.memory.clips.clip import Clip, ClipQuery, Span
from retain.memory.clips.config import ClipBankConfig, ClipShape
from retain.pipeline.errors import UsageError

CONFIG = ClipBankConfig("e", "w", dim=8, shape=ClipShape(1, 1, 1), capacity=64)


def units(count: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 70), st.integers(0, 999), st.booleans())
def test_best_is_a_full_sort(rows: int, count: int, seed: int, some: bool) -> None:
    features, query = units(rows, 5, seed), units(1, 5, seed + 1)[0]
    features[rows // 2 :] = features[: rows - rows // 2]  # every row twice: ties
    allowed = np.random.default_rng(seed).random(rows) < 0.6 if some else None
    got, cosine = search.best(features, query, count, allowed)
    exact = (features.astype(np.float64) * query.astype(np.float64)).sum(1)
    order = np.argsort(-exact, kind="stable")
    wanted = [r for r in order if allowed is None or allowed[r]][:count]
    assert got.tolist() == wanted
    assert (cosine == exact[wanted]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 8), st.floats(0, 1), st.integers(0, 999))
def test_diverse_is_its_definition(rows: int, k: int, weight: float, seed: int) -> None:
    features, query = units(rows, 4, seed), units(1, 4, seed + 1)[0]
    wide = features.astype(np.float64)
    relevance = wide @ query
    chosen: list[int] = []
    for got in search.diverse(features, relevance, k, weight).tolist():
        left = [r for r in range(rows) if r not in chosen]
        worth = {
            r: (1 - weight) * relevance[r]
            - (weight * max(wide[r] @ wide[c] for c in chosen) if chosen else 0.0)
            for r in left
        }
        assert worth[got] >= max(worth.values()) - 1e-12
        chosen.append(got)
    assert len(chosen) == min(k, rows)


def filled(places: list[tuple[str, int]], config: ClipBankConfig = CONFIG) -> ClipBank:
    """Clips of 4 frames, all nearly alike; the later the nearer to the first axis."""
    bank = ClipBank(config)
    for i, (stream, first) in enumerate(places):
        direction = np.eye(8)[0] + 0.3 / (1 + i) * np.eye(8)[1 + i % 7]
        coarse = np.eye(2)[i % 2] if config.coarse else None
        clip = Clip(
            np.zeros((1, 1, 1, 1), np.uint8), direction, Span(stream, first, first + 3),
            coarse=coarse, caption=f"kind {i % 3}",
        )  # fmt: skip
        bank.write("s", clip)
    return bank


def found(bank: ClipBank, **changes: object) -> list[tuple[str, int]]:
    query = replace(ClipQuery(np.eye(8)[0], k=20, diversity=0.0), **changes)  # type: ignore[arg-type]
    return [(m.clip.span.stream, m.clip.span.first) for m in bank.read("s", query)]


def test_the_asker_does_not_find_itself() -> None:
    places = [("a", first) for first in range(0, 60, 4)] + [("b", 30)]
    got = found(filled(places), own=Span("a", 28, 31))
    # Within twice its length: frames 20 to 39 of its own stream, touched by clips from 17 to 39.
    assert {first for stream, first in got if stream == "a"} == {
        0,
        4,
        8,
        12,
        16,
        40,
        44,
        48,
        52,
        56,
    }
    assert ("b", 30) in got
    assert ("a", 32) in found(filled(places), own=Span("a", 28, 31), guard=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 90), st.integers(1, 12), st.none() | st.integers(0, 30))
def test_no_answer_lies_within_the_guard(first: int, length: int, guard: int | None) -> None:
    own = Span("a", first, first + length - 1)
    by = 2 * length if guard is None else guard
    places = [("a", place) for place in range(0, 100, 3)]
    got = found(filled(places), own=own, guard=guard, pool=64, k=64)
    free = {p for _, p in places if p > own.last + by or p + 3 < own.first - by}
    assert {place for _, place in got} == free


def test_only_one_stream_or_caption() -> None:
    bank = filled([("a", 0), ("b", 0), ("a", 9), ("b", 9)])
    assert set(found(bank, only="b")) == {("b", 0), ("b", 9)}
    assert set(found(bank, caption="kind 0")) == {("a", 0), ("b", 9)}
    assert found(bank, caption="kind 0", only="a") == [("a", 0)]
    assert found(bank, caption="kind") == []
    long = "x" * 80
    assert found(filled([(long, 0), (long + "y", 0)]), only=long)[0][0] == "x" * 64
    assert len(found(filled([(long, 0), (long + "y", 0)]), only=long)) == 1


def test_diversity_leaves_one_event_for_another() -> None:
    bank = ClipBank(CONFIG)
    for i in range(6):
        same = np.eye(8)[0] + 0.02 * np.eye(8)[1 + i]
        bank.write("s", Clip(np.zeros((1, 1, 1, 1), np.uint8), same, Span("a", i, i)))
    other = np.eye(8)[0] + 0.8 * np.eye(8)[7]
    bank.write("s", Clip(np.zeros((1, 1, 1, 1), np.uint8), other, Span("a", 50, 50)))
    asked = np.eye(8)[0] + 0.5 * np.eye(8)[6]  # unlike any held, as a guarded question is
    assert 50 not in [f for _, f in found(bank, descriptor=asked, k=3)]
    assert 50 in [f for _, f in found(bank, descriptor=asked, k=2, diversity=0.5)]


def test_the_coarse_stage_picks_the_candidates() -> None:
    bank = filled([("a", i) for i in range(8)], replace(CONFIG, coarse=2))
    got = found(bank, coarse=np.array([0.0, 2.0]), k=4, pool=4)
    # The last is nearest by descriptor; candidates are the four of the second kind.
    assert got[0] == ("a", 7)
    assert {first % 2 for _, first in got} == {1}
    with pytest.raises(UsageError, match="no coarse"):
        found(filled([("a", 0)]), coarse=np.ones(2))


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 9, "pool": 8}, {"diversity": 1.5}])
def test_questions_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="search needs"):
        found(filled([("a", 0)]), **wrong)
