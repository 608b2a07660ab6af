"""What the documentation shows runs as it stands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from retain.apps.catalogs import CATALOGS
from retain.pipeline.graph_yaml import load_graph
from retain.pipeline.run import start

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def test_the_python_example_prints_moments() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "moments.py", "synthetic://scenes?seconds=8&seed=1"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0].split()
    assert first == ["0.00", "s", "clear", "warm-up"]


def test_the_graph_example_is_valid() -> None:
    graph = load_graph(EXAMPLES / "watch.yaml", CATALOGS, {"video.source": "clip.mp4"})
    assert [node.name for node in graph.order()] == ["video", "encode", "remember", "log"]


def test_the_scene_graph_runs(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    changes = {"room.limit": "3", "reconstruct.refine": "0", "log.path": str(results)}
    graph = load_graph(EXAMPLES / "reconstruct.yaml", CATALOGS, changes)
    report = start(graph, runner="inline").wait(60)
    assert report.ok, report.errors
    lines = [json.loads(line)["results"]["pose"] for line in results.read_text().splitlines()]
    assert [line["state"] for line in lines] == ["tracked"] * 3
    assert lines[0]["keyframe"]


def test_the_detect_graph_runs(tmp_path: Path) -> None:
    pytest.importorskip("trackers")
    results = tmp_path / "results.jsonl"
    changes = {"clips.limit": "4", "detect.bank": "none", "log.path": str(results)}
    graph = load_graph(EXAMPLES / "detect.yaml", CATALOGS, changes)
    report = start(graph, runner="inline").wait(60)
    assert report.ok, report.errors
    lines = [json.loads(line)["results"] for line in results.read_text().splitlines()]
    assert len(lines) == 4
    assert all({"boxes", "plain", "recall"} <= set(line) for line in lines)
    assert [node.name for node in graph.order()] == ["clips", "detect", "track", "log"]
