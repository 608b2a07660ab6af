"""What `retain inspect` and `retain snapshot` say of states."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import msgspec
import numpy as np
import pytest
from runtime_parts import Recorder, frame

import retain
from retain.apps.inspection import inspect
from retain.apps.page.server import Page
from retain.apps.snapshot import snapshot, tell
from retain.memory.base import State
from retain.memory.snapshot import MemoryFile, save
from retain.models.curvestream_many import RememberMany
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.graph import Graph
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.run import start

STATES = Path(__file__).parents[1] / "data" / "states"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The state of a whole graph, written before anything said versions."""
    with ZipFile(STATES / "everything-1.zip") as packed:
        packed.extractall(tmp_path / "old")
    return tmp_path / "old"


def told(place: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    code = inspect(place, as_json=True)
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    assert code == (0 if found["good"] else 1)
    return found


def test_of_an_older_graph_it_says_what_was_brought_up(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(old) == 0
    shown = capsys.readouterr().out
    assert "finite graph of 7 nodes" in shown
    assert "retain-graph/1, read as retain-graph/2, written by a retain that did not say" in shown
    rows = {word: line for line in shown.splitlines() for word in line.split()[:2]}
    assert "3 frames sent" in rows["camera"]
    assert "1, read as 2" in rows["heads"]
    assert "map/views: height=48" in shown
    found = told(old, capsys)
    parts = {part["name"]: part for part in found["parts"]}  # type: ignore[attr-defined]
    assert parts["map"]["frame"] == 2
    assert {m["name"] for m in parts["map"]["memories"]} == {"map", "views", "keyframes", "notes"}
    versions = {m["name"]: (m["version"], m["newest"]) for m in parts["map"]["memories"]}
    assert versions["notes"] == (1, 2)
    assert versions["map"] == (3, 3)
    assert found["nbytes"] == sum(path.stat().st_size for path in old.iterdir())


def test_a_damaged_part_is_named_and_the_others_are_shown(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((old / "4").read_bytes())
    data[-1] ^= 1
    (old / "4").write_bytes(data)
    assert inspect(old) == 1
    shown = capsys.readouterr().out
    assert "follow is damaged: " in shown
    assert "its checksum is wrong" in shown
    assert "map/map: " in shown


def test_a_file_and_a_file_of_many_streams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "one", MemoryFile("cam", 41, {"m": ({"kind": "thing", "n": 3}, State({}))}))
    found = told(tmp_path / "one", capsys)
    assert (found["schema"], found["by"]) == ("retain-memory/2", retain.__version__)
    (part,) = found["parts"]  # type: ignore[misc]
    assert (part["name"], part["frame"]) == ("cam", 41)
    assert part["memories"][0]["config"] == {"kind": "thing", "n": 3}
    many, features = RememberMany(str(tmp_path)), np.eye(16, dtype=np.float32)
    for stream in ("left", "right"):
        for seq in range(3):
            seen = Packet(frame(seq, stream=stream))
            many.process(seen.plus(embedding=Embedding(features[seq], "e")))
    many.save(str(tmp_path / "many"))
    found = told(tmp_path / "many", capsys)
    assert found["schema"] == found["newest"] == "retain-memories/1"
    assert found["by"] == retain.__version__
    parts = [(part["name"], part["frame"]) for part in found["parts"]]  # type: ignore[attr-defined]
    assert parts == [("left", 2), ("right", 2)]


def test_what_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no state"):
        inspect(tmp_path / "absent")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(StateError, match="not a memory file"):
        inspect(tmp_path / "text")
    with pytest.raises(StateError, match="is no snapshot: it has no graph.json"):
        inspect(tmp_path)
    later = {"schema": "retain-memories/2", "streams": {}, "by": "0.9.0"}
    (tmp_path / "later").write_bytes(msgspec.msgpack.encode(later))
    with pytest.raises(StateError, match="is a file of memories of version 2; retain"):
        inspect(tmp_path / "later")


def test_pipes_are_no_states(tmp_path: Path) -> None:
    """Whoever opens one waits for ever."""
    os.mkfifo(tmp_path / "graph.json")
    for place in (tmp_path, tmp_path / "graph.json"):
        with pytest.raises(StateError, match="graph.json is no file, or too l"):
            inspect(place)


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page("a clip", "clip")
    made.start()
    yield made
    made.stop()


def test_a_snapshot_says_its_size_and_time(
    page: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, out = Graph(), Recorder()
    graph.source("cam", "runtime_parts:Clip", frames=10**9)
    graph.stage("mean", "runtime_parts:Mean", delay_s=0.002)
    graph.sink("out")
    graph.connect("cam", "mean", "out")
    with start(graph, runner="inline", sinks={"out": out}) as run:
        page.attach(run)
        while len(out.packets) < 5:
            threading.Event().wait(0.005)
        taken = snapshot(page.url, tmp_path / "state")
    assert taken.nbytes == sum(p.stat().st_size for p in (tmp_path / "state").iterdir())
    assert taken.files == 1
    assert 0 < taken.took_ms <= taken.total_ms
    tell(taken, as_json=True)
    assert json.loads(capsys.readouterr().out)["nbytes"] == taken.nbytes
    tell(taken, as_json=False)
    assert f"{taken.nbytes:,} bytes, states of 1 stages, taken in " in capsys.readouterr().out
