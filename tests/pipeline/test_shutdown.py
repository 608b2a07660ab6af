"""However a run ends, nothing of it stays: no process, no socket file, no half result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import pytest
from runtime_parts import Recorder
from waiting import until

from retain.pipeline.graph import Graph
from retain.pipeline.packet import Packet
from retain.pipeline.run import Run, run_until_done, start

PARENT = """
import sys
from runtime_parts import Recorder
from retain.pipeline.graph import Graph
from retain.pipeline.run import run_until_done, start

graph = Graph()
graph.source("cam", "runtime_parts:Clip", frames=10**9, pause_s=0.01)
graph.stage("work", "runtime_parts:Trouble", how=sys.argv[1], at=5)
graph.sink("file", "retain.pipeline.sinks:JsonLines", path=sys.argv[2])
graph.sink("out")
graph.connect("cam", "work", "file")
graph.connect("cam", "out")

class Tell(Recorder):
    def process(self, packet):
        super().process(packet)
        if len(self.packets) == 8:
            print("running", flush=True)

if __name__ == "__main__":
    report = run_until_done(start(graph, sinks={"out": Tell()}))
    print(report.stopped, report.ok, report.stats.node("cam").sent, flush=True)
"""


@pytest.fixture(autouse=True)
def nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Socket files go to a folder of this test's own; it is empty again at the end."""
    tmp_path_factory.getbasetemp()  # made now, it is not made in there
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        before = children()
        yield Path(folder)
        until(lambda: children() <= before)
        assert list(Path(folder).glob("retain-run-*")) == []


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def start_chain(how: str, **trouble: object) -> tuple[Run, Recorder]:
    graph, out = Graph(), Recorder()
    graph.source("cam", "runtime_parts:Clip", frames=10**9, pause_s=0.002)
    graph.stage("work", "runtime_parts:Trouble", how=how, **trouble)  # type: ignore[arg-type]
    graph.stage("mean", "runtime_parts:Mean")
    graph.sink("out")
    graph.connect("cam", "work", "mean", "out")
    return start(graph, sinks={"out": out}), out


def test_a_killed_stage_ends_the_run_and_is_named() -> None:
    run, out = start_chain("kill", at=3)
    report = run.wait(30)
    assert not report.ok
    assert [(e.node, e.code) for e in report.errors] == [("work", "crashed")]
    assert "'work' was killed by signal 9 (SIGKILL)" in report.errors[0].message
    assert out.closed == 1
    assert report.stats.state == "failed"


def test_a_stage_that_hangs_is_killed_when_the_run_is_cut_short() -> None:
    run, out = start_chain("hang", at=3)
    until(lambda: len(out.packets) == 3)
    run.stop(drain=False)
    report = run.wait(30)
    assert report.stopped == "aborted"


def test_a_sink_of_the_caller_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retain.pipeline.runners.local.GRACE_S", 0.3)
    hang = threading.Event()

    class Hangs(Recorder):
        def process(self, packet: object) -> None:
            hang.wait(60)

    graph = Graph()
    graph.source("cam", "runtime_parts:Clip", frames=10**9)
    graph.sink("out")
    graph.connect("cam", "out")
    run = start(graph, sinks={"out": Hangs()})
    until(lambda: run.stats().node("out").received > 0)
    run.stop(drain=False)
    assert run.wait(30).stopped == "aborted"
    hang.set()


def test_a_run_started_in_a_thread_outlives_it() -> None:
    """The kernel's "parent died" means the thread that forked; so that is never a caller's."""
    runs: list[tuple[Run, Recorder]] = []
    thread = threading.Thread(target=lambda: runs.append(start_chain("none", at=10**9)))
    thread.start()
    thread.join()
    run, out = runs[0]
    until(lambda: len(out.packets) > 20)
    run.stop()
    assert run.wait(30).ok


class Parent:
    """A program that runs a graph, in a process group of its own like one started in a shell."""

    def __init__(self, folder: Path, how: str) -> None:
        script = folder / "parent.py"
        script.write_text(PARENT)
        self.results = folder / "out.jsonl"
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self.process = subprocess.Popen(
            [sys.executable, str(script), how, str(self.results)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "running\n"
        self.workers = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self.workers) == 3

    def signal(self, number: int) -> None:
        """To the whole group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self) -> str:
        said, _ = self.process.communicate(timeout=30)
        _, alive = psutil.wait_procs(self.workers, timeout=2)
        assert alive == []
        return said.strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains(tmp_path: Path, number: int) -> None:
    parent = Parent(tmp_path, "none")
    parent.signal(number)
    stopped, ok, sent = parent.end().split()
    assert (stopped, ok) == ("drained", "True")
    assert len(parent.results.read_text().splitlines()) == int(sent)
    assert parent.process.returncode == 0


def test_the_second_signal_cuts_short(tmp_path: Path) -> None:
    parent = Parent(tmp_path, "hang")
    parent.signal(signal.SIGINT)
    until(lambda: parent.workers[0].is_running())
    assert parent.process.poll() is None
    threading.Event().wait(0.5)
    parent.signal(signal.SIGINT)
    assert parent.end().startswith("aborted False")
    assert not parent.results.exists()
    assert len(Path(f"{parent.results}.partial").read_text().splitlines()) == 5


def test_the_third_signal_leaves_what_hangs_behind() -> None:
    class Hung:
        def __init__(self) -> None:
            self.drains: list[bool] = []

        def stop(self, drain: bool = True) -> None:
            self.drains.append(drain)

        def wait(self, timeout: float) -> None:
            signal.raise_signal(signal.SIGINT)
            raise TimeoutError

    hung, before = Hung(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_until_done(cast("Run", hung))
    assert hung.drains == [True, False, False]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_run_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retain.pipeline.runners.base.LEAVE_S", 0.01)
    stuck, held = threading.Event(), threading.Event()
    graph = Graph()
    graph.source("cam", "runtime_parts:Clip", frames=3)

    class Stuck(Recorder):
        def process(self, packet: Packet) -> None:
            stuck.set()
            held.wait()

    graph.sink("out")
    graph.connect("cam", "out")
    run = start(graph, runner="inline", sinks={"out": Stuck()})
    assert stuck.wait(30)  # before, an interruption would simply end it
    with pytest.raises(KeyboardInterrupt), run:
        raise KeyboardInterrupt
    assert run.running
    held.set()
    assert run.wait(30).stopped == "aborted"


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path, nothing_is_left: Path) -> None:
    parent = Parent(tmp_path, "hang")
    parent.signal(signal.SIGKILL)
    parent.end()
    assert not parent.results.exists()
    # What the dead could not take away, the next run does.
    run, _ = start_chain("none", at=10**9)
    assert len(list(nothing_is_left.glob("retain-run-*"))) == 1
    run.stop(drain=False)
    run.wait(30)
