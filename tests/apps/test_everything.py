"""Several models on one stream: joined by frame, moved to another process, within one budget."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import everything_parts as parts
import pytest
from everything_parts import EXAMPLES, FRAMES, Listener, everything

from retain.apps import graphs
from retain.apps.page.state import PageState
from retain.pipeline.errors import GraphError, UsageError
from retain.pipeline.graph import CALLER, Node
from retain.pipeline.run import start


@pytest.fixture(scope="module")
def whole() -> Listener:
    """An uninterrupted run in one process."""
    out = Listener()
    out.page = PageState("everything", "room", view="everything")
    graph, divided = everything()
    report = start(graph, runner="inline", sinks={"log": out}).wait(120)
    assert report.ok, report.errors
    held = {node.name: node.memory_bytes for node in report.stats.nodes}
    limits = report.stats.limits
    assert len(limits) == 5
    assert all(0 < held[name] <= nbytes for name, nbytes in limits.items())
    assert sum(limits.values()) <= 1e6 * parts.BUDGET_MB
    assert report.stats.moves >= 2
    assert limits["map"] > divided["map"], "others have lent it bytes"
    return out


def test_all_results_come_with_their_frame(whole: Listener) -> None:
    assert [seq for seq, _ in whole.rows] == list(range(FRAMES))
    always = {"view", "embedding", "route", "held", "boxes", "recall", "masks", "pose"}
    assert all(always <= found for found in whole.names)
    assert sum("novelty" in found for found in whole.names) >= 2
    assert whole.map.records


def test_the_page_has_something_of_each(whole: Listener) -> None:
    page = whole.page
    assert page is not None
    names = [section.name for section in page.sections]
    assert len(set(names)) == len(names), "a section would hide another"
    shown = page.patch({})
    assert {"state", "score", "boxes", "outlines", "width"} <= set(shown["latest"])
    assert len(shown["points"]["points"]) == len(shown["areas"]["points"]) == FRAMES
    assert len(shown["novelty"]["points"]) == sum("novelty" in found for found in whole.names)
    assert shown["map"]["byte_budget"] == whole.held[-1]["pose"][1]
    assert shown["recall"]["byte_budget"] == whole.held[-1]["recall"][1]
    assert page.picture(0), "the first frame is kept, with its picture"


def test_no_frame_finds_more_remembered_than_the_budget(whole: Listener) -> None:
    """What each stage says with its result, at every frame; the budget is tight."""
    most = 0
    for told in whole.held:
        assert {"held", "recall", "pose"} <= set(told)
        assert all(0 < nbytes <= budget for nbytes, budget in told.values())
        most = max(most, sum(nbytes for nbytes, _ in told.values()))
        assert sum(budget for _, budget in told.values()) <= 1e6 * parts.BUDGET_MB
    assert most > 0.3e6 * parts.BUDGET_MB


def test_processes_say_the_same_bits(whole: Listener) -> None:
    other = parts.heard("local")
    assert other.rows == whole.rows
    assert other.map.digest == whole.map.digest


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Listener]:
    """A state of the middle, and what was said before it."""
    state, before = tmp_path_factory.mktemp("half") / "state", Listener(wait_at=FRAMES // 2)
    with start(everything()[0], runner="inline", sinks={"log": before}) as running:
        assert before.here.wait(60)
        running.snapshot(state)
    return state, before


def test_another_process_goes_on_bit_for_bit(whole: Listener, half: tuple[Path, Listener]) -> None:
    state, before = half
    manifest = json.loads((state / "graph.json").read_bytes())
    sent = manifest["nodes"][0]["sent"]
    assert FRAMES // 2 < sent < FRAMES
    with_state = [node["name"] for node in manifest["nodes"] if node["state"]]
    assert with_state == ["watch", "detect", "follow", "novelty", "map"]
    done = subprocess.run(
        [sys.executable, parts.__file__, str(state)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, digest = json.loads(done.stdout)
    assert [tuple(row) for row in rows] == whole.rows[sent:]
    assert before.rows[:sent] == whole.rows[:sent]
    assert digest == whole.map.digest


@pytest.mark.parametrize("mb", [7.6, 20.0])
def test_another_budget_goes_on_too(mb: float, half: tuple[Path, Listener]) -> None:
    """Memories let go what does not fit, or have more room from there on."""
    graph, divided = everything(mb)
    out = Listener()
    report = start(graph, runner="inline", sinks={"log": out}, resume=half[0]).wait(120)
    assert report.ok, report.errors
    assert out.rows[-1][0] == FRAMES - 1
    for told in out.held:
        assert all(nbytes <= budget for nbytes, budget in told.values())
        assert sum(budget for _, budget in told.values()) <= 1e6 * mb
    assert out.held[0]["pose"][1] == divided["map"] != half[1].held[-1]["pose"][1]


def test_the_command_tells_the_shares(capsys: pytest.CaptureFixture[str]) -> None:
    graphs.show(EXAMPLES / "everything.yaml", {"budget.mb": "50"}, only_check=False)
    shown = capsys.readouterr().out
    assert "50,000,000" in shown
    for name, nbytes in graphs.load(EXAMPLES / "everything.yaml", {"budget.mb": "50"})[1].items():
        assert any(name in line and f"{nbytes:,}" in line for line in shown.splitlines())


def test_a_budget_that_cannot_do_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"need at least \d+ bytes \('watch' 500000, .* 3000000"):
        graphs.load(EXAMPLES / "everything.yaml", {"budget.mb": "3"})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("budget: {weights: {}}", "needs 'mb'"),
        ("budget: {mb: many}", "budget's mb must be a number >= 0"),
        ("budget: {mb: -1}", "number >= 0, got -1"),
        ("budget: {mb: .nan}", "number >= 0"),
        ("budget: {mb: 9, weights: {watsch: 1}}", "no node 'watsch'.*Did you mean 'watch'"),
        ("budget: {mb: 9, weight: {}}", "'weight' is not a key.*Did you mean 'weights'"),
    ],
)
def test_a_wrong_budget_is_named_where_it_stands(wrong: str, told: str, tmp_path: Path) -> None:
    text = (EXAMPLES / "everything.yaml").read_text().partition("budget:")[0]
    line = text.count("\n") + 1
    (tmp_path / "g.yaml").write_text(text + wrong)
    with pytest.raises(GraphError, match=rf"g.yaml, line {line},.*{told}"):
        graphs.load(tmp_path / "g.yaml", {})


def test_the_command_goes_on_from_a_snapshot_and_serves_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a graph of two cheap stages; lines of both parts are those of one run."""
    (tmp_path / "g.yaml").write_text(
        "nodes:\n"
        "  in: {source: synthetic, with: {source: 'synthetic://scenes?frames=12&size=64x48'}}\n"
        "  encode: {stage: encode, with: {encoder: pixels}}\n"
        "  keep: {stage: remember}\n"
        f"  log: {{sink: jsonl, with: {{path: '{tmp_path / 'all.jsonl'}'}}}}\n"
        "edges: [in -> encode -> keep -> log]\n"
        "budget: {mb: 2}\n"
    )
    assert graphs.run(tmp_path / "g.yaml", {}, "inline", page_port=0) == 0
    assert "live page: http://127.0.0.1:" in capsys.readouterr().err
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    out = Listener(wait_at=5)
    graph, _ = graphs.load(tmp_path / "g.yaml", {})
    graph.nodes["log"] = Node("log", "sink", CALLER)
    with start(graph, runner="inline", sinks={"log": out}) as running:
        assert out.here.wait(60)
        running.snapshot(tmp_path / "state")
    sent = json.loads((tmp_path / "state" / "graph.json").read_bytes())["nodes"][0]["sent"]
    rest = {"log.path": str(tmp_path / "rest.jsonl")}
    assert graphs.run(tmp_path / "g.yaml", rest, "inline", tmp_path / "state") == 0
    assert (tmp_path / "rest.jsonl").read_text().splitlines() == lines[sent:]
