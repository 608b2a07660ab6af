"""What `benchmarks/writes.py` compares with: as many writes, at random or every K-th."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from retain.apps import bench
from retain.memory.gate import WriteRule
from retain.pipeline.frame import Frame
from retain.pipeline.results import Route, State

subjects = bench.load("_subjects")
STATES: tuple[State, ...] = ("clear", "discard", "blurred", "discard")


def stream(first: int, count: int = 120):  # type: ignore[no-untyped-def]
    image = np.zeros((8, 8, 3), np.uint8)
    frames = [Frame("s", first + n, n, Fraction(1, 25), image) for n in range(count)]
    routes = [Route(STATES[n % 4], "score", 0, 0, 0, 0, 0, 0, 0, 1) for n in range(count)]
    return subjects.Stream("s", frames, routes)


@pytest.mark.parametrize("first", [0, 1000, 77_000])
def test_random_writes_as_many_frames_as_it_is_told(first: int) -> None:
    one = stream(first)
    for wanted in (1, 2, 17, 60, 119, 120):
        rule = subjects.at_equal_writes(one, wanted / 120)
        assert rule.kind == "random"
        assert sum(one.gates(rule)) == wanted
    routed = one.gates(WriteRule.parse("routed"))
    assert sum(routed) == 60


def test_streams_draw_other_frames() -> None:
    rule = WriteRule.parse("random:0.5")
    assert stream(0).gates(rule) != stream(1000).gates(rule)


@pytest.mark.parametrize(
    ("writes", "rule"), [(1.0, "every"), (0.8, "every"), (0.45, "every:2"), (0.1, "every:10")]
)
def test_every_kth_comes_as_near_as_it_can(writes: float, rule: str) -> None:
    assert str(subjects.each(writes)) == rule
