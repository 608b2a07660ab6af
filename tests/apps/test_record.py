"""`--record` and `--log-json`, as a person uses them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CLIP = "synthetic://scenes?frames=30&size=64x48&cut=0.5"
WATCH = ("watch", "--encoder", "pixels", "--no-page", "--runner", "inline")


def retain(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retain.apps.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_recorded_watch_is_watched_again(tmp_path: Path) -> None:
    record = ("--record", "run.retain", "--record-mb", "8")
    first = retain(tmp_path, *WATCH, CLIP, "--fps", "5", "--out", "one", *record)
    assert first.returncode == 0, first.stderr
    assert "run.retain" in first.stdout
    # Whatever --fps says, a recording is played as it was recorded.
    again = retain(tmp_path, *WATCH, "run.retain", "--out", "two")
    assert again.returncode == 0, again.stderr
    for name in ("results.jsonl", "memory.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    refused = retain(tmp_path, *WATCH, CLIP, "--out", "three", *record)
    assert refused.returncode == 2
    assert "recordings never overwrite anything" in refused.stderr
    assert not (tmp_path / "three").exists()


def test_messages_as_json_are_one_object_per_line(tmp_path: Path) -> None:
    done = retain(
        tmp_path, "watch", CLIP, "--runner", "inline", "--encoder", "pixels", "--log-json"
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("live page: http" in line["message"] for line in lines)
    assert all(set(line) >= {"time", "level", "node", "message"} for line in lines)


def test_an_error_as_json(tmp_path: Path) -> None:
    done = retain(tmp_path, "--log-json", *WATCH, "http://me:hunter2@127.0.0.1:9/x.mp4")
    assert done.returncode == 1
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["level"] == "error"
    assert "hunter2" not in done.stderr
