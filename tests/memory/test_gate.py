"""Which frames a rule lets into a memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retain.memory.gate import WriteRule
from retain.pipeline.errors import UsageError
from retain.pipeline.results import Route, State


def route(state: State, score: float = 0.0, low: float = 0.2, high: float = 0.6) -> Route:
    return Route(state, "score", 0.0, 0.0, score, 0.2, 0.4, 0.0, low, high)


@pytest.mark.parametrize(
    "text", ["every", "every:4", "routed", "clear", "scaled", "random:0.25", "random:0", "random:1"]
)
def test_a_rule_is_told_as_it_was_written(text: str) -> None:
    assert str(WriteRule.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "often", "every:0", "every:-2", "every:1.5", "every:x", "every:inf", "every:nan",
     "random", "random:1.1", "random:-0.1", "random:nan", "routed:2", "clear:x", "scaled:0.5"],
)  # fmt: skip
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write rule"):
        WriteRule.parse(text)


def test_every_k() -> None:
    rule = WriteRule.parse("every:3")
    assert [rule.gate(seq) for seq in range(7)] == [1, 0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("text", "gates"),
    [("every", (1, 1, 1)), ("routed", (1, 1, 0)), ("clear", (1, 0, 0))],
)
def test_the_routers_decision(text: str, gates: tuple[float, ...]) -> None:
    rule = WriteRule.parse(text)
    states: tuple[State, ...] = ("clear", "blurred", "discard")
    assert tuple(rule.gate(5, route(state)) for state in states) == gates


@pytest.mark.parametrize(
    ("score", "gate"), [(0.1, 0.0), (0.2, 0.0), (0.4, 0.5), (0.6, 1.0), (2.0, 1.0), (math.nan, 0.0)]
)
def test_scaled_by_the_score(score: float, gate: float) -> None:
    assert WriteRule.parse("scaled").gate(5, route("blurred", score)) == pytest.approx(gate)


@example(0.0, -math.inf, math.inf)
@example(0.5, 0.0, math.nan)
@given(st.floats(allow_nan=True), st.floats(allow_nan=True), st.floats(allow_nan=True))
def test_a_gate_is_in_bounds_whatever_the_router_says(s: float, low: float, high: float) -> None:
    assert 0 <= WriteRule.parse("scaled").gate(1, route("blurred", s, low, high)) <= 1


def test_random_takes_its_share_and_the_same_frames_each_time() -> None:
    rule = WriteRule.parse("random:0.3")
    taken = [rule.gate(seq) for seq in range(20_000)]
    assert sum(taken) / len(taken) == pytest.approx(0.3, abs=0.015)
    assert taken == [WriteRule.parse("random:0.3").gate(seq) for seq in range(20_000)]
    assert sum(taken[0::2]) / 10_000 == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("text", ["every:7", "routed", "clear", "scaled", "random:0"])
def test_an_empty_memory_takes_what_comes(text: str) -> None:
    assert WriteRule.parse(text).gate(5, route("discard"), empty=True) == 1


@pytest.mark.parametrize("text", ["routed", "clear", "scaled"])
def test_a_rule_by_the_router_needs_one(text: str) -> None:
    rule = WriteRule.parse(text)
    assert rule.by_router
    for empty in (True, False):
        with pytest.raises(UsageError, match="did not see frame 5"):
            rule.gate(5, empty=empty)
