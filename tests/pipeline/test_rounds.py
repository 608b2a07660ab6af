"""Bytes move between the stages of a running graph: the same way everywhere, never above it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rounds_parts import hoards
from runtime_parts import Recorder

from retain.pipeline.graph import Graph
from retain.pipeline.results import Embedding
from retain.pipeline.run import Runner, Supervision, start

FRAMES = 160
BUDGET = 30_000
STAGES: dict[str, dict[str, object]] = {
    "small": {"each": 100, "most": 1_000},
    "large": {"each": 400},
    "late": {"each": 300, "begin": 60},
}
"""One that is soon content, one that never is, and one that takes back what it lent."""
Row = tuple[int, dict[str, tuple[int, int, int]]]


def rows(out: Recorder) -> list[Row]:
    """By frame and stage: limit, bytes held, items that went."""
    told = []
    for seq, _, results in out.packets:
        found = {}
        for name, result in results.items():
            assert isinstance(result, Embedding)
            limit, held, gone = map(int, result.vector)
            found[name] = limit, held, gone
        told.append((seq, found))
    return told


def run(
    graph: Graph, runner: Runner, resume: Path | None = None
) -> tuple[list[Row], dict[str, int], int]:
    out = Recorder()
    report = start(
        graph, runner=runner, sinks={"out": out}, resume=resume,
        supervision=Supervision(snapshot_s=0.1),
    ).wait(60)  # fmt: skip
    assert report.ok, report.errors
    return rows(out), report.stats.limits, report.stats.moves


@pytest.fixture(scope="module")
def whole() -> tuple[list[Row], dict[str, int], int]:
    return run(hoards(STAGES, BUDGET, FRAMES), "inline")


def test_bytes_move_to_who_is_full_and_back(whole: tuple[list[Row], dict[str, int], int]) -> None:
    told, limits, moves = whole
    shares = hoards(STAGES, BUDGET, 1).budget.shares  # type: ignore[union-attr]
    assert {name: row[0] for name, row in told[0][1].items()} == shares
    most = {name: max(row[name][0] for _, row in told) for name in STAGES}
    assert most["large"] > 1.5 * shares["large"], "lent by the two others"
    assert limits["small"] < shares["small"]
    lowest = min(row["late"][0] for _, row in told)
    assert lowest < shares["late"] <= limits["late"], "lent, and taken back"
    assert told[-1][1]["small"][2] == 0, "who lends forgets nothing"
    assert moves >= 4
    for seq, row in told:
        assert sum(limit for limit, _, _ in row.values()) <= BUDGET, seq
        assert all(held <= limit for limit, held, _ in row.values())


def test_processes_see_the_same_limits(whole: tuple[list[Row], dict[str, int], int]) -> None:
    assert run(hoards(STAGES, BUDGET, FRAMES), "local") == whole
