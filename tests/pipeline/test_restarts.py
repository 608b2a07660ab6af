"""A process that dies, hangs or stops is started again; what is promised holds all the same."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from runtime_parts import Recorder
from waiting import until

from retain.apps.demo import find_clip
from retain.apps.watch import WatchOptions, build_graph
from retain.pipeline.errors import StateError
from retain.pipeline.graph import Graph, Promise
from retain.pipeline.results import Embedding
from retain.pipeline.run import Run, RunEvent, RunReport, Supervision, start
from retain.pipeline.sinks import JsonLines

PARTS = "runtime_parts:"
QUICK = Supervision(restarts=4, backoff_s=0.05, hang_s=1.0, silent_s=1.0, snapshot_s=0.0)


def chain(
    promise: Promise, how: str, seq: int, once: str = "", delay_s: float = 0.0, **source: object
) -> Graph:
    """cam -> before -> mortal -> after -> out."""
    graph = Graph(promise=promise)
    graph.source("cam", PARTS + "Clip", **source)  # type: ignore[arg-type]
    graph.stage("before", PARTS + "Mean", name="before")
    graph.stage("mortal", PARTS + "Mortal", how=how, seq=seq, once=once, delay_s=delay_s)
    graph.stage("after", PARTS + "Invert")
    graph.sink("out")
    policy = "block" if promise == "finite" else "drop_oldest(4)"
    graph.connect("cam", "before", "mortal", "after", "out", policy=policy)
    return graph


def run(graph: Graph, supervision: Supervision = QUICK) -> tuple[RunReport, Recorder]:
    out = Recorder()
    report = start(graph, sinks={"out": out}, supervision=supervision).wait(60)
    assert out.closed == 1
    check_counts(report)
    return report, out


def check_counts(report: RunReport) -> None:
    """captured = processed + dropped{cause}, and nothing on its way at the end."""
    for edge in report.stats.edges:
        assert edge.captured == edge.delivered + sum(edge.dropped.values()), edge
        assert edge.waiting == 0
    for node in report.stats.nodes:
        into = [edge.delivered for edge in report.stats.edges if edge.dst == node.name]
        assert node.role == "source" or sum(into) == node.received + node.quarantined, node


def values(out: Recorder) -> list[list[float]]:
    found = [results["mortal"] for _, _, results in out.packets]
    return [list(map(float, e.vector)) for e in found if isinstance(e, Embedding)]


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGKILL", "SIGSTOP", "hang"])
def test_a_finite_graph_does_its_work_again(how: str, tmp_path: Path) -> None:
    whole, expected = run(chain("finite", "none", -1, frames=40))
    assert whole.ok
    report, out = run(chain("finite", how, 20, str(tmp_path / "once"), frames=40))
    assert report.ok, report.errors
    assert (tmp_path / "once").exists()
    assert out.seqs == list(range(40))
    assert [p[:2] for p in out.packets] == [p[:2] for p in expected.packets]
    assert values(out) == values(expected)
    assert report.stats.node("mortal").restarts == 1
    assert report.stats.node("out").received == 40


def test_a_finite_graph_goes_on_from_its_last_state(tmp_path: Path) -> None:
    often = Supervision(snapshot_s=0.1)
    graph = chain("finite", "SIGKILL", 150, str(tmp_path / "once"), delay_s=0.01, frames=200)
    report, out = run(graph, often)
    assert report.ok, report.errors
    assert out.seqs == list(range(200))
    assert [seen for seen, _ in values(out)] == list(range(1, 201))
    assert {gap for _, gap in values(out)} == {0.0}
    # Not from the beginning: the file of the state says how far it had come.
    assert report.stats.node("mortal").received == 200


def test_a_file_is_written_again_from_its_beginning(tmp_path: Path) -> None:
    """A sink in a process of its own has what it wrote only there: the work starts anew."""
    files = []
    for once in ("", str(tmp_path / "once")):
        graph = chain("finite", "SIGKILL", 60 if once else -1, once, 0.01, frames=80)
        path = tmp_path / f"{bool(once)}.jsonl"
        graph.sink("file", "retain.pipeline.sinks:JsonLines", path=str(path))
        graph.connect("mortal", "file")
        report, out = run(graph, Supervision(snapshot_s=0.1))
        assert report.ok, report.errors
        assert out.seqs == list(range(80))
        files.append(path.read_bytes())
    assert files[0] == files[1]
    assert [node.restarts for node in report.stats.nodes].count(0) == len(report.stats.nodes) - 1


def test_two_that_die_at_once_are_both_replaced() -> None:
    out = Recorder()
    graph = chain("live", "none", -1, frames=10**9, pause_s=0.005)
    with start(graph, sinks={"out": out}, supervision=QUICK) as running:
        until(lambda: len(out.packets) > 20)
        for delay_s in (0.0, 0.03, 0.15):  # the second dies before the first's successor can hear
            for node in ("mortal", "after"):
                process_of(node, running).send_signal(signal.SIGKILL)
                time.sleep(delay_s)
            seen = len(out.packets)
            until(lambda seen=seen: len(out.packets) > seen + 20)  # type: ignore[misc]
        running.stop()
        report = running.wait(30)
    assert report.ok, report.errors
    check_counts(report)


def test_a_frame_that_kills_twice_is_left_out() -> None:
    report, out = run(chain("finite", "SIGSEGV", 7, frames=30))
    assert report.ok, report.errors
    assert out.seqs == [seq for seq in range(30) if seq != 7]
    mortal = report.stats.node("mortal")
    assert (mortal.restarts, mortal.quarantined) == (2, 1)


def test_who_dies_too_often_ends_the_run() -> None:
    events: list[RunEvent] = []
    graph = Graph(promise="finite")
    graph.source("cam", PARTS + "Clip", frames=30)
    graph.stage("trouble", PARTS + "Trouble", how="kill", at=0)
    graph.sink("out")
    graph.connect("cam", "trouble", "out")
    out = Recorder()
    supervision = Supervision(restarts=1)
    run = start(graph, sinks={"out": out}, supervision=supervision, on_event=events.append)
    report = run.wait(60)
    assert [(e.node, e.code) for e in report.errors] == [("trouble", "crashed")]
    assert "was killed by signal 9 (SIGKILL)" in report.errors[0].message
    assert [event.kind for event in events].count("restarted") == 1


@pytest.mark.parametrize("how", ["SIGSEGV", "SIGSTOP", "hang", "raise"])
def test_a_live_graph_goes_on_after_a_gap(how: str, tmp_path: Path) -> None:
    once = str(tmp_path / "once")
    report, out = run(chain("live", how, 20, once, frames=400, pause_s=0.01))
    assert report.ok, report.errors
    assert out.seqs == sorted(set(out.seqs))
    assert int(Path(once).read_text()) not in out.seqs
    assert out.seqs[-1] >= 395
    assert report.stats.node("mortal").restarts == 1
    assert report.stats.node("before").restarts == report.stats.node("after").restarts == 0
    assert report.stats.node("mortal").failed == 1
    # Of the frames: the packet that the new process marked may be dropped later, its mark is not.
    assert len(out.gaps) == 1, "one frame says that there was a gap"
    assert out.gaps[0] > 20


def process_of(node: str, among: Run) -> psutil.Process:
    return psutil.Process(among._crew.children[node].process.pid)  # type: ignore[attr-defined]


@pytest.mark.parametrize("node", ["cam", "before", "mortal", "after"])
def test_any_process_of_a_live_graph_may_be_killed(node: str) -> None:
    out = Recorder()
    graph = chain("live", "none", -1, frames=10**9, pause_s=0.005)
    with start(graph, sinks={"out": out}, supervision=Supervision(snapshot_s=0.1)) as running:
        until(lambda: len(out.packets) > 60)
        process_of(node, running).send_signal(signal.SIGKILL)
        until(lambda: running.stats().node(node).restarts == 1)
        seen = len(out.packets)
        until(lambda: len(out.packets) > seen + 30)
        running.stop()
        report = running.wait(30)
    assert report.ok, report.errors
    check_counts(report)
    assert out.seqs == sorted(set(out.seqs)), "in order, none twice"
    seens = [seen for seen, _ in values(out)]
    if node == "mortal":
        assert min(seens[60:]) > 10, "it went on from a state, not from nothing"


def test_what_was_collected_dies_counted(tmp_path: Path) -> None:
    graph = Graph(promise="live")
    graph.source("cam", PARTS + "Clip", frames=60, pause_s=0.02)
    graph.stage("batches", PARTS + "Batches", seq=20, once=str(tmp_path / "once"))
    graph.sink("out")
    graph.connect("cam", "batches", "out", policy="drop_oldest(60)")
    report, out = run(graph)
    assert report.ok, report.errors
    batches = report.stats.node("batches")
    assert batches.restarts == 1
    assert batches.failed == 3
    assert batches.received == batches.failed + len(out.packets)


def stopped(running: Run) -> bool:
    return running.stats().state == "stopping"


@pytest.mark.parametrize("node", ["cam", "mortal", "after"])
def test_a_death_while_a_live_graph_is_drained_is_made_good(node: str) -> None:
    out = Recorder()
    graph = chain("live", "none", -1, delay_s=0.02, frames=10**9, pause_s=0.005)
    with start(graph, sinks={"out": out}, supervision=QUICK) as running:
        until(lambda: len(out.packets) > 20)
        victim = process_of(node, running)
        victim.suspend()  # so that it does not hear of the end
        running.stop()
        until(lambda: stopped(running))
        victim.kill()
        report = running.wait(30)
    assert report.ok, report.errors
    assert report.stopped == "drained"
    assert report.stats.node(node).restarts == 1
    check_counts(report)
    assert out.seqs == sorted(set(out.seqs))
    assert out.closed == 1


@pytest.mark.parametrize("node", ["cam", "mortal"])
def test_a_finite_graph_that_is_drained_ends_where_it_was_stopped(node: str) -> None:
    """Nothing that had been given is taken back, and nothing is given twice."""
    out = Recorder()
    graph = chain("finite", "none", -1, delay_s=0.005, frames=10**6)
    with start(graph, sinks={"out": out}, supervision=QUICK) as running:
        until(lambda: len(out.packets) > 40 and reported(running))
        victim = process_of(node, running)
        victim.suspend()
        running.stop()
        until(lambda: stopped(running))
        seen = len(out.packets)
        victim.kill()
        report = running.wait(60)
    assert report.ok, report.errors
    assert report.stats.node(node).restarts == 1
    assert len(out.packets) >= seen
    assert out.seqs == list(range(len(out.packets)))
    assert report.stats.node("cam").sent == len(out.packets)
    assert [seen for seen, _ in values(out)] == [seq + 1 for seq in out.seqs]


def test_neighbours_that_die_while_a_successor_is_awaited_add_up() -> None:
    out = Recorder()
    graph = chain("live", "none", -1, frames=10**9, pause_s=0.005)
    slow = Supervision(restarts=50, backoff_s=1.0, snapshot_s=0.0)
    with start(graph, sinks={"out": out}, supervision=slow) as running:
        until(lambda: len(out.packets) > 20)
        process_of("mortal", running).kill()
        until(lambda: running.stats().node("mortal").restarts == 1 and reported(running))
        process_of("mortal", running).kill()  # its second death: this time it is waited for
        for other in ("before", "after", "cam"):
            process_of(other, running).kill()
            time.sleep(0.1)
        seen = len(out.packets)
        until(lambda: len(out.packets) > seen + 20)
        running.stop()
        report = running.wait(30)
    assert report.ok, report.errors
    check_counts(report)
    assert out.seqs == sorted(set(out.seqs))


def test_a_run_can_be_cut_short_while_a_successor_is_awaited() -> None:
    graph = chain("live", "none", -1, frames=10**9, pause_s=0.005)
    slow = Supervision(restarts=50, backoff_s=1000.0, snapshot_s=0.0)
    with start(graph, sinks={"out": Recorder()}, supervision=slow) as running:
        until(lambda: reported(running))
        process_of("mortal", running).kill()
        until(lambda: running.stats().node("mortal").restarts == 1 and reported(running))
        process_of("mortal", running).kill()
        until(lambda: "mortal" in running._crew.away)  # type: ignore[attr-defined]
        running.stop(drain=False)
        assert running.wait(10).stopped == "aborted"


def descriptors(process: psutil.Process) -> Counter[str]:
    links = [os.readlink(entry) for entry in Path(f"/proc/{process.pid}/fd").iterdir()]
    return Counter(re.sub(r"[0-9]+", "N", link) for link in links)


def reported(running: Run) -> bool:
    children = running._crew.children  # type: ignore[attr-defined]
    return len(children) >= 4 and all(child.report for child in list(children.values()))


def test_a_resumed_run_remembers_that_it_was_resumed(tmp_path: Path) -> None:
    """Dead before its first own state, it goes on from the one it was given."""
    graph = chain("finite", "none", -1, delay_s=0.005, frames=120)
    with start(graph, sinks={"out": Recorder()}, supervision=QUICK) as first:
        until(lambda: first.stats().node("out").received > 30 and reported(first))
        first.snapshot(tmp_path / "state")
    out = Recorder()
    with start(graph, sinks={"out": out}, supervision=QUICK, resume=tmp_path / "state") as second:
        until(lambda: len(out.packets) > 10)
        process_of("mortal", second).kill()
        report = second.wait(60)
    assert report.ok, report.errors
    assert report.stats.node("mortal").restarts == 1
    assert out.seqs == list(range(out.seqs[0], 120))
    assert [seen for seen, _ in values(out)] == [seq + 1 for seq in out.seqs]


def test_a_state_taken_while_work_is_done_again_counts_right(tmp_path: Path) -> None:
    out = Recorder()
    graph = chain("finite", "none", -1, delay_s=0.005, frames=160)
    with start(graph, sinks={"out": out}, supervision=QUICK) as running:
        for death, packets in enumerate((60, 61), start=1):
            until(lambda packets=packets: len(out.packets) >= packets and reported(running))  # type: ignore[misc]
            running.snapshot(tmp_path / str(death))  # the second: behind what the sink has had
            process_of("mortal", running).kill()
            until(lambda death=death: running.stats().node("mortal").restarts == death)  # type: ignore[misc]
        report = running.wait(60)
    assert report.ok, report.errors
    assert out.seqs == list(range(160))


def test_a_snapshot_that_came_too_late_harms_nobody(tmp_path: Path) -> None:
    out = Recorder()
    graph = chain("finite", "none", -1, delay_s=0.05, frames=30)
    with start(graph, sinks={"out": out}, supervision=QUICK) as running:
        until(lambda: len(out.packets) > 2 and reported(running))
        with pytest.raises(StateError, match="within 0.01 s"):
            running.snapshot(tmp_path / "state", timeout=0.01)
        report = running.wait(60)
    assert report.ok, report.errors
    assert out.seqs == list(range(30))


def test_what_cannot_be_done_again_exactly_is_told() -> None:
    graph = chain("finite", "SIGKILL", 5, frames=30)
    graph.connect("cam", "mortal")
    report = start(graph, sinks={"out": Recorder()}, supervision=QUICK).wait(60)
    assert [error.code for error in report.errors] == ["crashed"]
    assert "cannot be done again exactly: edges join" in report.errors[0].message


def test_a_source_that_ended_and_died_is_not_waited_for() -> None:
    out = Recorder()
    graph = Graph(promise="live")
    graph.source("cam", PARTS + "Clip", frames=8, pause_s=0.001)
    graph.stage("slow", PARTS + "Mean", delay_s=0.4)
    graph.sink("out")
    graph.connect("cam", "slow", "out", policy="drop_oldest(40)")
    with start(graph, sinks={"out": out}, supervision=QUICK) as running:
        until(lambda: running.stats().node("cam").state == "done")
        process_of("cam", running).kill()
        time.sleep(0.1)
        process_of("slow", running).kill()
        report = running.wait(20)
    assert report.ok, report.errors
    check_counts(report)


def test_a_dead_process_leaves_nothing_with_its_neighbours() -> None:
    """But rings, which stay for ten seconds for those who may still read them."""
    out = Recorder()
    graph = chain("live", "none", -1, frames=10**9, pause_s=0.005)
    with start(graph, sinks={"out": out}, supervision=Supervision(restarts=50)) as running:
        until(lambda: len(out.packets) > 20)
        cam = process_of("cam", running)
        before = descriptors(cam)
        for death in range(1, 4):
            process_of("mortal", running).send_signal(signal.SIGKILL)
            until(lambda death=death: running.stats().node("mortal").restarts == death)  # type: ignore[misc]
            seen = len(out.packets)
            until(lambda seen=seen: len(out.packets) > seen + 5)  # type: ignore[misc]
        until(lambda: set(descriptors(cam) - before) <= {"/memfd:retain-ring (deleted)"})
        assert sum((descriptors(cam) - before).values()) <= 2 * 4


def test_a_watch_of_a_real_clip_is_the_same_after_a_death(tmp_path: Path) -> None:
    """Results and memory of `retain watch`, byte for byte, though a stage was killed on the way."""
    clip = find_clip()
    assert clip, "the packages of assets.txt are not installed"
    options = WatchOptions(source=str(clip), fps=4, limit=60, max_entries=12)
    files = []
    for victim in ("", "remember"):
        out, memory = tmp_path / f"{victim}.jsonl", tmp_path / f"{victim}.safetensors"
        sink = JsonLines(str(out))
        graph = build_graph(options, live=False, page=False)
        with start(graph, sinks={"results": sink}, save={"remember": str(memory)}) as running:
            if victim:
                until(lambda running=running: running.stats().node("results").received > 10)  # type: ignore[misc]
                process_of(victim, running).kill()
            report = running.wait(120)
        assert report.ok, report.errors
        assert report.stats.node("remember").restarts == bool(victim)
        files.append((out.read_bytes(), memory.read_bytes()))
    assert files[0] == files[1]
    assert files[0][0].count(b"\n") == 60
