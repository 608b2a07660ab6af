"""The state of a running graph is taken, put on disk, and goes on in another run or process."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from runtime_parts import Recorder

from retain.pipeline.errors import StateError
from retain.pipeline.graph import Graph, Promise
from retain.pipeline.results import Embedding
from retain.pipeline.run import Runner, Supervision, start

PARTS = "runtime_parts:"


def chain(frames: int, promise: Promise = "finite", delay_s: float = 0.004) -> Graph:
    """A diamond: the barrier comes to ``join`` on two ways of different speed."""
    graph = Graph(promise=promise)
    graph.source("cam", PARTS + "Clip", frames=frames, pause_s=0.004 if promise == "live" else 0)
    graph.stage("slow", PARTS + "Mean", name="slow", delay_s=delay_s)
    graph.stage("quick", PARTS + "Invert")
    graph.stage("join", PARTS + "Mortal", how="none", seq=-1)
    graph.sink("out")
    graph.connect("cam", "slow", "join", "out")
    graph.connect("cam", "quick", "join")
    return graph


def said(out: Recorder) -> list[tuple[int, int, float, float]]:
    """Sorted: of the two ways, either may be first."""
    rows = []
    for seq, pixels, results in out.packets:
        seen = results["mortal"]
        slow = results.get("slow")
        assert isinstance(seen, Embedding)
        mean = float(slow.vector[0]) if isinstance(slow, Embedding) else -1.0
        rows.append((seq, pixels, mean, float(seen.vector[1])))
    return sorted(rows)


@pytest.mark.parametrize("second", ["inline", "local"])
@pytest.mark.parametrize("first", ["inline", "local"])
def test_two_parts_give_what_one_run_gives(first: Runner, second: Runner, tmp_path: Path) -> None:
    whole = Recorder()
    start(chain(160), runner="inline", sinks={"out": whole}).wait(60)
    before, after = Recorder(), Recorder()
    folder = tmp_path / "state"
    with start(chain(160), runner=first, sinks={"out": before}) as running:
        while len(before.packets) < 40:
            threading.Event().wait(0.005)
        running.snapshot(folder)
    told = json.loads((folder / "graph.json").read_bytes())
    sent = told["nodes"][0]["sent"]
    assert 20 <= sent < 160
    report = start(chain(160), runner=second, sinks={"out": after}, resume=folder).wait(60)
    assert report.ok, report.errors
    # What the first had given by the moment of the snapshot, and everything from there.
    head = [row for row in said(whole) if row[0] < sent]
    tail = [row for row in said(whole) if row[0] >= sent]
    assert said(after) == tail
    assert [row for row in said(before) if row[0] < sent] == head
    counts = [e.vector[0] for e in map(_mortal, after.packets)]
    np.testing.assert_array_equal(np.sort(counts), np.arange(2 * sent + 1, 321))


def _mortal(packet: tuple[int, int, dict[str, object]]) -> Embedding:
    found = packet[2]["mortal"]
    assert isinstance(found, Embedding)
    return found


def test_another_process_goes_on(tmp_path: Path) -> None:
    before = Recorder()
    folder = tmp_path / "state"
    with start(chain(120), runner="local", sinks={"out": before}) as running:
        while len(before.packets) < 40:
            threading.Event().wait(0.005)
        running.snapshot(folder)
    sent = json.loads((folder / "graph.json").read_bytes())["nodes"][0]["sent"]
    program = (
        "import sys, test_snapshots as t\n"
        "from runtime_parts import Recorder\n"
        "out = Recorder()\n"
        "t.start(t.chain(120), runner='inline', sinks={'out': out}, resume=sys.argv[1]).wait(60)\n"
        "print(len(out.packets), min(out.seqs), max(out.seqs))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": ":".join([str(Path(__file__).parent), *filter(None, sys.path)])},
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(2 * (120 - sent)), str(sent), "119"]


def test_a_live_graph_keeps_its_memories_and_marks_the_gap(tmp_path: Path) -> None:
    out, again = Recorder(), Recorder()
    with start(chain(10**9, "live"), sinks={"out": out}) as running:
        while len(out.packets) < 80:
            threading.Event().wait(0.005)
        running.snapshot(tmp_path / "state")
    report = start(chain(30, "live"), sinks={"out": again}, resume=tmp_path / "state").wait(60)
    assert report.ok, report.errors
    assert min(_mortal(packet).vector[0] for packet in again.packets) > 20
    assert {packet[0] for packet in again.packets if _mortal(packet).vector[1]} == {0}


def test_a_dead_process_does_not_leave_a_snapshot_half_made(tmp_path: Path) -> None:
    """Whoever asked is told, or gets a whole one; the next one works."""
    out = Recorder()
    supervision = Supervision(restarts=10, snapshot_s=0)
    graph = chain(10**9, "live")
    with start(graph, sinks={"out": out}, supervision=supervision) as running:
        while len(out.packets) < 20:
            threading.Event().wait(0.005)
        running._crew.children["slow"].process.kill()  # type: ignore[attr-defined]
        with suppress(StateError):
            running.snapshot(tmp_path / "first")
        left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
        assert left in (set(), {"graph.json", "1", "3"})
        while running.stats().node("slow").restarts == 0:
            threading.Event().wait(0.005)
        seen = len(out.packets)
        while len(out.packets) < seen + 100:
            threading.Event().wait(0.005)
        running.snapshot(tmp_path / "second")
        assert {path.name for path in (tmp_path / "second").iterdir()} >= {"graph.json"}


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_a_stream_that_has_ended_has_no_state(runner: Runner, tmp_path: Path) -> None:
    run = start(chain(3), runner=runner, sinks={"out": Recorder()})
    run.wait(60)
    with pytest.raises(StateError, match="gave no snapshot"):
        run.snapshot(tmp_path / "state", timeout=0.5)


def test_what_is_no_snapshot_of_this_graph_is_refused(tmp_path: Path) -> None:
    out = Recorder()
    with start(chain(10**9, "live"), sinks={"out": out}) as running:
        while len(out.packets) < 10:
            threading.Event().wait(0.005)
        running.snapshot(tmp_path / "state")
        with pytest.raises(StateError, match="exists already"):
            running.snapshot(tmp_path / "state")
    other = Graph()
    other.source("cam", PARTS + "Clip", frames=3)
    other.sink("out")
    other.connect("cam", "out")
    with pytest.raises(StateError, match="is of a graph of cam, "):
        start(other, sinks={"out": Recorder()}, resume=tmp_path / "state")
    with pytest.raises(StateError, match="is no snapshot"):
        start(other, sinks={"out": Recorder()}, resume=tmp_path)
    (tmp_path / "state" / "graph.json").write_bytes(b"{}")
    with pytest.raises(StateError, match="damaged"):
        start(other, sinks={"out": Recorder()}, resume=tmp_path / "state")
