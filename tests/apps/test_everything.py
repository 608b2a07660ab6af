"""Several models on one stream: joined by frame, moved to another process, within one budget."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import everything_parts as parts
import pytest
from everything_parts import EXAMPLES, FRAMES, Listener, everything

from retain.apps.catalogs import CATALOGS
from retain.models.budget import shares
from retain.pipeline.graph_yaml import load_graph
from retain.pipeline.run import start


@pytest.fixture(scope="module")
def whole() -> Listener:
    """An uninterrupted run in one process."""
    out = Listener()
    report = start(everything(), runner="inline", sinks={"log": out}).wait(120)
    assert report.ok, report.errors
    held = {node.name: node.memory_bytes for node in report.stats.nodes}
    divided = shares(load_graph(EXAMPLES / "everything.yaml", CATALOGS))
    assert len(divided) == 5
    assert all(0 < held[name] <= nbytes for name, nbytes in divided.items())
    return out


def test_all_results_come_with_their_frame(whole: Listener) -> None:
    assert [seq for seq, _ in whole.rows] == list(range(FRAMES))
    always = {"view", "embedding", "route", "held", "boxes", "recall", "masks", "pose"}
    assert all(always <= found for found in whole.names)
    assert sum("novelty" in found for found in whole.names) >= 2
    assert whole.map.records


def test_processes_say_the_same_bits(whole: Listener) -> None:
    other = parts.heard("local")
    assert other.rows == whole.rows
    assert other.map.digest == whole.map.digest


def test_another_process_goes_on_bit_for_bit(whole: Listener, tmp_path: Path) -> None:
    before = Listener(wait_at=FRAMES // 2)
    with start(everything(), runner="inline", sinks={"log": before}) as running:
        assert before.here.wait(60)
        running.snapshot(tmp_path / "state")
    manifest = json.loads((tmp_path / "state" / "graph.json").read_bytes())
    sent = manifest["nodes"][0]["sent"]
    assert FRAMES // 2 < sent < FRAMES
    with_state = [node["name"] for node in manifest["nodes"] if node["state"]]
    assert with_state == ["watch", "detect", "follow", "novelty", "map"]
    done = subprocess.run(
        [sys.executable, parts.__file__, str(tmp_path / "state")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, digest = json.loads(done.stdout)
    assert [tuple(row) for row in rows] == whole.rows[sent:]
    assert before.rows[:sent] == whole.rows[:sent]
    assert digest == whole.map.digest
