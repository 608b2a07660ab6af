"""Bytes move between the stages of a running graph: the same way everywhere, never above it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rounds_parts import hoards
from runtime_parts import Recorder
from waiting import until

from retain.pipeline.errors import StateError
from retain.pipeline.graph import Graph
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.run import Run, Runner, Supervision, start
from retain.pipeline.runners.rounds import Holdings, checked

FRAMES = 160
BUDGET = 30_000
STAGES: dict[str, dict[str, Any]] = {
    "small": {"each": 100, "most": 1_000},
    "large": {"each": 400},
    "late": {"each": 300, "begin": 60},
}
"""One that is soon content, one that never is, and one that takes back what it lent."""
Row = tuple[int, dict[str, tuple[int, int, int]]]
Told = tuple[list[Row], dict[str, int], int]


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


def run(graph: Graph, runner: Runner, resume: Path | None = None, snapshot_s: float = 0.0) -> Told:
    out, often = Recorder(), Supervision(snapshot_s=snapshot_s)
    report = start(graph, runner=runner, sinks={"out": out}, resume=resume, supervision=often).wait(
        60
    )
    assert report.ok, report.errors
    return rows(out), report.stats.limits, report.stats.moves


@pytest.fixture(scope="module")
def whole() -> Told:
    return run(hoards(STAGES, BUDGET, FRAMES), "inline")


def test_bytes_move_to_who_is_full_and_back(whole: Told) -> None:
    told, limits, moves = whole
    budget = hoards(STAGES, BUDGET, 1).budget
    assert budget is not None
    shares = budget.shares
    assert {name: row[0] for name, row in told[0][1].items()} == shares
    assert max(row["large"][0] for _, row in told) > 1.5 * shares["large"], "lent by both others"
    assert limits["small"] < shares["small"]
    lowest = min(row["late"][0] for _, row in told)
    assert lowest < shares["late"] <= limits["late"], "lent, and taken back"
    assert told[-1][1]["small"][2] == 0, "who lends forgets nothing"
    assert moves >= 4
    for seq, row in told:
        assert sum(limit for limit, _, _ in row.values()) <= BUDGET, seq
        assert all(held <= limit for limit, held, _ in row.values())


def test_processes_see_the_same_limits(whole: Told, tmp_path: Path) -> None:
    """And at no moment, whatever frame each is at, do they have more than the budget."""
    assert run(hoards(STAGES, BUDGET, FRAMES, board=tmp_path), "local") == whole


def test_nothing_moves_where_it_may_not(whole: Told) -> None:
    fixed = run(hoards(STAGES, BUDGET, FRAMES, every=0), "inline")
    assert fixed[1:] == ({}, 0)
    assert len({row["large"][0] for _, row in fixed[0]}) == 1
    assert fixed[0][-1][1]["large"][2] > whole[0][-1][1]["large"][2], "it forgets more"
    content = {name: {**options, "most": 1_000} for name, options in STAGES.items()}
    assert run(hoards(content, BUDGET, FRAMES), "inline")[2] == 0


@pytest.mark.parametrize("at", [30, 61])
@pytest.mark.parametrize(("first", "second"), [("inline", "local"), ("local", "inline")])
def test_a_state_goes_on_with_the_limits_it_had(
    first: Runner, second: Runner, at: int, whole: Told, tmp_path: Path
) -> None:
    sent = interrupted(first, at, tmp_path / "state")
    told, limits, moves = run(hoards(STAGES, BUDGET, FRAMES), second, tmp_path / "state")
    assert told == whole[0][sent:]
    assert (limits, moves) == whole[1:]


def interrupted(runner: Runner, at: int, folder: Path) -> int:
    """Take a state after about ``at`` frames; returns after how many it is."""
    out = Recorder(delay_s=0.004)
    with start(hoards(STAGES, BUDGET, FRAMES), runner=runner, sinks={"out": out}) as running:
        until(lambda: len(out.packets) >= at)
        running.snapshot(folder)
    told = json.loads((folder / "graph.json").read_bytes())
    sent, needs = told["nodes"][0]["sent"], told["holdings"]["needs"]
    assert all(needs[name] for name in STAGES)
    assert isinstance(sent, int)
    assert at <= sent < FRAMES
    return sent


class Pausing(Recorder):
    """Waits at its packet ``at`` until the state was asked for."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at, self.here, self.go = at, threading.Event(), threading.Event()

    def process(self, packet: Packet) -> None:
        super().process(packet)
        if len(self.packets) == self._at:
            self.here.set()
            self.go.wait(0.3)


def test_a_state_goes_on_the_same_where_no_frame_comes_before_the_next_round(
    tmp_path: Path,
) -> None:
    """A stage that opens its state with the next frame cannot say until then what it needs."""

    def graph() -> Graph:
        stages = {"small": {"each": 400, "most": 9_000}, "large": {"each": 1_200}}
        made = hoards(stages, BUDGET, 800, kind="Lazy")
        made.stage("thin", "rounds_parts:Thin", nth=20)
        made.edges = []
        made.connect("cam", "thin", *stages, "out")
        return made

    whole, out = run(graph(), "inline"), Pausing(12)
    with start(graph(), runner="inline", sinks={"out": out}) as running:
        assert out.here.wait(30)
        running.snapshot(tmp_path / "state")
    told = run(graph(), "inline", tmp_path / "state")
    assert told == (whole[0][12:], *whole[1:])


def test_a_state_goes_on_in_another_budget(tmp_path: Path) -> None:
    interrupted("inline", 50, tmp_path / "state")
    for nbytes in (2 * BUDGET, BUDGET // 3):
        told, _, _ = run(hoards(STAGES, nbytes, FRAMES), "inline", tmp_path / "state")
        budget = hoards(STAGES, nbytes, 1).budget
        assert budget is not None
        assert {name: row[0] for name, row in told[0][1].items()} == budget.shares
        assert all(sum(limit for limit, _, _ in row.values()) <= nbytes for _, row in told)


def test_limits_that_no_run_had_are_refused() -> None:
    budget = hoards(STAGES, BUDGET, 1).budget
    assert budget is not None
    good = Holdings(budget, 1, dict(budget.shares))
    assert checked(good) == good
    for wrong in (
        {"limits": {**budget.shares, "small": BUDGET}},
        {"limits": {"small": 1}},
        {"orders": {"nobody": 1}},
        {"orders": {"small": BUDGET}},
        {"peaks": {"nobody": 1}},
        {"needs": {"nobody": 1}},
    ):
        with pytest.raises(StateError, match="limits are not those of a graph with a budget"):
            checked(replace(good, **wrong))


@pytest.mark.parametrize("snapshot_s", [0.0, 0.05])
@pytest.mark.parametrize(("name", "dies"), [("small", "less"), ("large", "more")])
def test_who_dies_in_a_round_leaves_a_finite_graph_as_it_was(
    name: str, dies: str, snapshot_s: float, whole: Told, tmp_path: Path
) -> None:
    (tmp_path / "board").mkdir()
    once = tmp_path / "once"
    stages = {**STAGES, name: {**STAGES[name], "dies": dies, "once": str(once)}}
    graph = hoards(stages, BUDGET, FRAMES, board=tmp_path / "board")
    assert run(graph, "local", snapshot_s=snapshot_s) == whole
    assert once.exists()


def test_who_fails_as_work_is_done_again_ends_the_run(tmp_path: Path) -> None:
    """The source has to give again what it gave, and a round that cannot pass is not waited for."""
    once = str(tmp_path / "once")
    stages = {
        **STAGES,
        "large": {**STAGES["large"], "dies": "more", "once": once},
        "late": {**STAGES["late"], "dies": "after", "once": once},
    }
    out, often = Recorder(), Supervision(snapshot_s=0)
    report = start(
        hoards(stages, BUDGET, FRAMES), sinks={"out": out}, supervision=often
    ).wait(60)  # fmt: skip
    assert [fault.message for fault in report.errors] == ["Somebody has died."]


@pytest.mark.parametrize(("name", "dies"), [("small", "less"), ("large", "more")])
def test_who_dies_in_a_round_leaves_a_live_graph_within_its_budget(
    name: str, dies: str, tmp_path: Path
) -> None:
    (tmp_path / "board").mkdir()
    once = tmp_path / "once"
    stages = {**STAGES, name: {**STAGES[name], "dies": dies, "once": str(once)}}
    graph = hoards(stages, BUDGET, 10**9, "live", board=tmp_path / "board", pause_s=0.003)
    out, often = Recorder(), Supervision(snapshot_s=0.2)
    with start(graph, sinks={"out": out}, supervision=often) as running:
        until(once.exists)
        until(lambda: restarts(running) == 1 and bool(running.stats().limits))
        # Rounds go on: what was left lying when it died finds its way to who is full.
        until(lambda: running.stats().limits["large"] > BUDGET // 3)
        until(lambda: sum(running.stats().limits.values()) > BUDGET * 63 // 64)
        running.stop()
        report = running.wait(60)
    assert report.ok, report.errors


def test_who_dies_in_a_round_holds_up_nobody_where_edges_join(tmp_path: Path) -> None:
    """Two nodes below the dead one the round has come by one edge, and never comes by the other:
    the source, which has to wait for room, would not get to the next."""
    once = tmp_path / "once"
    stages = {**STAGES, "small": {**STAGES["small"], "dies": "less", "once": str(once)}}
    graph = hoards(stages, BUDGET, 10**9, every=32, pause_s=0.003)
    graph.promise = "live"
    graph.connect("cam", "late")
    out = Recorder()
    with start(graph, sinks={"out": out}) as running:
        until(once.exists)
        until(lambda: restarts(running) == 1)
        until(lambda: running.stats().limits["large"] > BUDGET // 3)


def restarts(running: Run) -> int:
    return sum(node.restarts for node in running.stats().nodes)
