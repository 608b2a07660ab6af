"""A graph gives the same results whatever runs it, and says plainly what went wrong."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from runtime_parts import Recorder

from retain.apps.demo import find_clip
from retain.apps.watch import WatchOptions, build_graph
from retain.pipeline.errors import GraphError
from retain.pipeline.graph import Graph
from retain.pipeline.results import Embedding
from retain.pipeline.run import RunEvent, Runner, RunReport, start
from retain.pipeline.sinks import JsonLines

PARTS = "runtime_parts:"
RUNNERS: list[Runner] = ["inline", "local"]


def chain(*stages: tuple[str, dict[str, object]], **source: object) -> Graph:
    """cam -> stages -> out."""
    graph = Graph()
    graph.source("cam", PARTS + "Clip", **source)  # type: ignore[arg-type]
    names = [
        graph.stage(f"{target.lower()}{number}", PARTS + target, **options)  # type: ignore[arg-type]
        for number, (target, options) in enumerate(stages)
    ]
    graph.sink("out")
    graph.connect("cam", *names, "out")
    return graph


def run(graph: Graph, runner: Runner, **kw: object) -> tuple[RunReport, Recorder]:
    out = Recorder()
    report = start(graph, runner=runner, sinks={"out": out}, **kw).wait(60)  # type: ignore[arg-type]
    assert out.closed == 1
    return report, out


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest) -> Runner:
    runner: Runner = request.param
    return runner


def as_bytes(out: Recorder) -> list[object]:
    return [
        (
            seq,
            pixels,
            {k: r.vector.tobytes() for k, r in results.items() if isinstance(r, Embedding)},
        )
        for seq, pixels, results in out.packets
    ]


def test_both_runners_give_the_same_bytes_on_a_clip(tmp_path: Path) -> None:
    seen, files = [], []
    for runner in RUNNERS:
        graph = chain(
            ("Mean", {}), ("Invert", {}), ("Halves", {}), ("Mean", {"name": "later"}),
            frames=60, width=64, height=48, grow_at=30,
        )  # fmt: skip
        path = tmp_path / f"{runner}.jsonl"
        graph.sink("file", "retain.pipeline.sinks:JsonLines", path=str(path))
        graph.connect("invert1", "file")
        report, out = run(graph, runner)
        assert report.ok, report.errors
        seen.append(as_bytes(out))
        files.append(path.read_bytes())
    assert len(seen[0]) == 32
    assert seen[0] == seen[1]
    assert files[0] == files[1]


def test_both_runners_give_the_same_bytes_on_a_real_clip(tmp_path: Path) -> None:
    """The graph of `retain watch` on the demo's clip: results, and the memory it leaves."""
    clip = find_clip()
    assert clip, "the packages of assets.txt are not installed"
    options = WatchOptions(source=str(clip), fps=4, limit=80, max_entries=12)
    seen, memories = [], []
    for runner in RUNNERS:
        graph = build_graph(options, live=False, page=False)
        out, memory = tmp_path / f"{runner}.jsonl", tmp_path / f"{runner}.safetensors"
        sinks, save = {"results": JsonLines(str(out))}, {"remember": str(memory)}
        report = start(graph, runner=runner, sinks=sinks, save=save).wait(120)
        assert report.ok, report.errors
        seen.append(out.read_bytes())
        memories.append(memory.read_bytes())
    assert seen[0].count(b"\n") == 80
    assert seen[0] == seen[1]
    assert memories[0] == memories[1]


def test_the_numbers_add_up(runner: Runner) -> None:
    graph = chain(("Mean", {}), frames=40)
    graph.sink("few", "retain.pipeline.sinks:Count")
    graph.connect("cam", "few", policy="rate(3)")
    report, out = run(graph, runner)
    stats = report.stats
    assert out.seqs == list(range(40))
    assert [(n.received, n.sent) for n in stats.nodes if n.name in ("cam", "mean0", "out")] == [
        (0, 40), (40, 40), (40, 0),
    ]  # fmt: skip
    for edge in stats.edges:
        assert edge.captured == edge.delivered + sum(edge.dropped.values())
        assert edge.waiting == 0
    few = stats.node("few")
    assert few.received == few.extra["packets"]
    if runner == "inline":
        assert few.received == 4
    assert few.received + sum(few.dropped.values()) == 40
    assert stats.node("mean0").memory_bytes == 24
    assert stats.node("mean0").service_ms.max > 0
    assert {node.state for node in stats.nodes} == {"done"}
    assert stats.state == "done"
    assert json.loads(msgspec.json.encode(report))["ok"] is True


def test_the_state_is_saved_where_asked(runner: Runner, tmp_path: Path) -> None:
    report, _ = run(chain(("Mean", {}), frames=7), runner, save={"mean0": str(tmp_path / "state")})
    assert report.ok
    assert (tmp_path / "state").read_text() == "7"


@pytest.mark.parametrize("salvages", [True, False])
def test_a_stage_that_failed_saves_only_what_it_says_is_of_use(
    runner: Runner, salvages: bool, tmp_path: Path
) -> None:
    graph = chain(("Brittle", {"salvages": salvages}), frames=9)
    report, out = run(graph, runner, save={"brittle0": str(tmp_path / "state")})
    assert "four is enough" in report.errors[0].message
    assert out.seqs == [0, 1, 2, 3]
    assert (tmp_path / "state").exists() == salvages
    assert not salvages or (tmp_path / "state").read_text() == "4"


def test_results_a_source_brings_are_kept(runner: Runner) -> None:
    graph = Graph()
    graph.source("far", PARTS + "Told", frames=5)
    graph.stage("mean", PARTS + "Mean")
    graph.sink("out")
    graph.connect("far", "mean", "out")
    report, out = run(graph, runner)
    assert report.ok
    assert [sorted(results) for _, _, results in out.packets] == [["mean", "told"]] * 5


def test_sources_of_two_streams_join_in_one_stage(runner: Runner) -> None:
    graph = Graph()
    for stream in "ab":
        graph.source(stream, PARTS + "Clip", frames=12, stream=stream)
    graph.stage("mean", PARTS + "Mean")
    graph.sink("out")
    for stream in "ab":
        graph.connect(stream, "mean")
    graph.connect("mean", "out")
    report, out = run(graph, runner)
    assert report.ok
    assert sorted(out.seqs) == sorted([*range(12), *range(12)])


def test_a_source_that_breaks_is_drained_and_reported(runner: Runner) -> None:
    events: list[RunEvent] = []
    graph = chain(("Mean", {}), frames=9, fault="broken")
    report, out = run(graph, runner, on_event=events.append)
    assert out.seqs == list(range(9))
    assert not report.ok
    assert [(e.node, e.code, e.message) for e in report.errors] == [
        ("cam", "broken", "The clip broke.")
    ]
    assert report.sources["cam"].width == 16
    assert [event.kind for event in events] == ["opened", "fault", "ended"]
    assert report.stats.node("cam").state == "failed"
    assert report.stats.node("mean0").state == "done"


def test_a_source_that_never_opens_is_reported(runner: Runner, tmp_path: Path) -> None:
    """And nothing is saved: stages that have seen no frame have nothing, and some say so."""
    graph = chain(("Mean", {}), frames=0, fault="not_found")
    report, out = run(graph, runner, save={"mean0": str(tmp_path / "state")})
    assert [error.code for error in report.errors] == ["not_found"]
    assert report.stats.node("mean0").state == "done"
    assert out.seqs == []
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_a_stage_that_raises_while_its_queue_is_full_ends_the_run(runner: Runner, how: str) -> None:
    """The source is endless and always ahead: its queue is full when the stage fails."""
    graph = chain(("Trouble", {"how": how, "at": 3, "delay_s": 0.02}), frames=10**9)
    report, out = run(graph, runner)
    assert out.seqs == [0, 1, 2]
    error = report.errors[0]
    assert (error.node, error.code) == ("trouble0", "defect")
    assert (
        "ValueError: seven is not a colour" if how == "raise" else "SystemExit: 3"
    ) in error.message
    assert len(report.errors) == 1
    assert report.stats.node("trouble0").failed >= 1
    assert report.stats.node("cam").state == "done"


def test_a_sink_of_the_caller_that_raises_ends_the_run(runner: Runner) -> None:
    class Full(Recorder):
        def process(self, packet: object) -> None:
            raise OSError("disk full")

    run_ = start(chain(("Mean", {}), frames=10**9), runner=runner, sinks={"out": Full()})
    report = run_.wait(60)
    assert [(e.node, e.message) for e in report.errors] == [
        ("out", "'out' raised OSError: disk full")
    ]


@pytest.mark.parametrize(
    ("target", "options", "sentence"),
    [
        ("no_such_module:X", {}, "'bad': 'no_such_module:X' cannot be loaded"),
        (PARTS + "Nobody", {}, "cannot be loaded"),
        (PARTS + "Mean", {"nmae": "x"}, "does not fit: got an unexpected keyword argument 'nmae'"),
        (PARTS + "frame", {"seq": 1}, "is no stage"),
    ],
)
def test_a_node_that_cannot_be_made(
    runner: Runner, target: str, options: dict[str, object], sentence: str
) -> None:
    graph = Graph()
    graph.source("cam", PARTS + "Clip", frames=10**9)
    graph.stage("bad", target, **options)  # type: ignore[arg-type]
    graph.sink("out")
    graph.connect("cam", "bad", "out")
    report, _ = run(graph, runner)
    assert sentence in report.errors[0].message
    assert report.errors[0].node == "bad"


def test_a_state_asked_of_a_stage_without_one(runner: Runner) -> None:
    report, _ = run(chain(("Invert", {}), frames=3), runner, save={"invert0": "nowhere"})
    assert "has none to save" in report.errors[0].message


def test_what_does_not_fit_together_is_refused_at_once() -> None:
    with pytest.raises(GraphError, match="missing \\['out'\\]"):
        start(chain(frames=1))
    with pytest.raises(GraphError, match="no stage 'men0' to save. Did you mean 'mean0'"):
        start(chain(("Mean", {}), frames=1), sinks={"out": Recorder()}, save={"men0": "x"})


def test_stop_drains(runner: Runner) -> None:
    out = Recorder()
    with start(chain(("Mean", {}), frames=10**9), runner=runner, sinks={"out": out}) as running:
        while not out.packets:
            threading.Event().wait(0.01)
        assert running.stats().state == "running"
        running.stop()
        report = running.wait(60)
    assert report.ok
    assert report.stopped == "drained"
    assert out.seqs == list(range(report.stats.node("cam").sent)), "nothing on its way was lost"


def test_leaving_the_block_cuts_short(runner: Runner) -> None:
    out = Recorder()
    with start(chain(("Mean", {}), frames=10**9), runner=runner, sinks={"out": out}) as running:
        while not out.packets:
            threading.Event().wait(0.01)
    report = running.wait(0)
    assert report.stopped == "aborted"
    assert not report.ok
    assert report.errors == []
    assert out.closed == 1


def test_wait_gives_up_when_told() -> None:
    with (
        start(chain(frames=10**9), runner="inline", sinks={"out": Recorder()}) as running,
        pytest.raises(TimeoutError, match="still runs after 0.01 s"),
    ):
        running.wait(0.01)


def test_latest_never_stops_its_source() -> None:
    graph = Graph()
    graph.source("cam", PARTS + "Clip", frames=80, pause_s=0.005)
    graph.stage("slow", PARTS + "Mean", delay_s=0.05)
    graph.sink("out")
    graph.connect("cam", "slow", policy="latest")
    graph.connect("slow", "out")
    report, out = run(graph, "local")
    slow = report.stats.node("slow")
    assert report.stats.node("cam").sent == 80 == slow.received + slow.dropped["stale"]
    assert out.seqs == sorted(set(out.seqs))
    assert out.seqs[-1] == 79


def test_a_stage_that_keeps_all_pictures_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retain.pipeline.runners.local.STARVED_S", 1.0)
    report, _ = run(chain(("Mean", {}), ("Hoard", {}), frames=10**9), "local")
    error = report.errors[0]
    assert (error.node, error.code) == ("hoard1", "starved")
    assert "Copy what a stage keeps" in error.message


def test_a_forwarded_picture_is_the_same_memory_in_every_process() -> None:
    graph = chain(("Mean", {}), ("Mean", {"name": "again"}), frames=20, width=640, height=480)
    report, out = run(graph, "local")
    assert report.ok
    first, again = (
        np.stack([results[name].vector for _, _, results in out.packets])  # type: ignore[attr-defined]
        for name in ("mean", "again")
    )
    np.testing.assert_array_equal(first, again)
