"""Where a memory may be, and what is none."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from colour_parts import watched
from runtime_parts import Recorder

from retain.apps import watch as watching
from retain.apps.ask.answer import Question, answer
from retain.apps.ask.places import open_memory
from retain.models.encoders.pixels import Pixels
from retain.pipeline.errors import UsageError
from retain.pipeline.run import start


def test_a_result_says_what_it_is_of(result: Path, video: Path) -> None:
    memory = open_memory(result)
    assert (memory.stream, memory.encoder, memory.source) == ("colours", "pixels", str(video))
    assert memory.embedding.shape == (len(memory.entries), Pixels().dim)
    assert len(memory.seconds) > 5
    again = open_memory(str(result / "memory.safetensors"))
    assert (again.source, again.checksum) == (str(video), memory.checksum)


def test_a_memory_alone_does_not_say_its_source(result: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(result / "memory.safetensors", tmp_path / "moved.safetensors"))
    assert open_memory(alone).source == ""
    shutil.copy(result / "memory.safetensors", tmp_path / "memory.safetensors")
    assert open_memory(tmp_path).source == ""


def test_a_memory_of_two_footages_names_neither(folder: Path, video: Path, tmp_path: Path) -> None:
    """Its times are not those of the file that came last."""
    more = watched(video, tmp_path / "more", name="other", resume=folder / "memory.safetensors")
    memory = open_memory(more)
    assert memory.seconds.max() > 20
    assert memory.source == ""


def test_another_memory_beside_a_summary_does_not_get_its_source(folder: Path) -> None:
    summary = folder / "summary.json"
    held = len(open_memory(folder).entries)
    summary.write_text(summary.read_text().replace(f'"held": {held}', f'"held": {held + 1}'))
    assert open_memory(folder).source == ""


def test_pipes_are_no_memories(result: Path, folder: Path) -> None:
    """Whoever opens one waits for ever."""
    summary = folder / "summary.json"
    summary.unlink()
    os.mkfifo(summary)
    assert open_memory(folder).source == ""
    os.mkfifo(folder / "pipe.safetensors")
    with pytest.raises(UsageError, match="is not a memory file"):
        open_memory(folder / "pipe.safetensors")


def test_a_source_that_no_file_can_be_called(folder: Path) -> None:
    summary = folder / "summary.json"
    told = json.loads(summary.read_text())
    summary.write_text(json.dumps(told | {"source": "a\0b.mp4"}))
    memory = open_memory(folder)
    found = answer(memory, Question(start_s=0.0))
    assert found.as_json()["moments"][0]["clip"] == ""


def test_a_snapshot(tmp_path: Path) -> None:
    options = watching.WatchOptions(source="synthetic://scenes?live=1", encoder="pixels", fps=0)
    graph = watching.build_graph(options, live=True, page=False)
    out = Recorder()
    with start(graph, runner="inline", sinks={"results": out}) as run:
        while len(out.packets) < 5:
            time.sleep(0.01)
        run.snapshot(tmp_path / "state")
    memory = open_memory(tmp_path / "state")
    assert (memory.encoder, memory.source) == ("pixels", "")
    found = answer(memory, Question(image=memory.entries[0].image()))
    assert found.moments[0].seconds == pytest.approx(memory.entries[0].seconds, abs=3)
    assert found.as_json()["moments"][0]["clip"] == ""
    (tmp_path / "state/graph.json").write_text("{")
    with pytest.raises(UsageError, match="is a damaged snapshot"):
        open_memory(tmp_path / "state")


def test_what_is_no_memory(folder: Path, video: Path, tmp_path: Path) -> None:
    file = folder / "memory.safetensors"
    data = file.read_bytes()
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.safetensors").write_bytes(b"")
    for place, words in (
        (tmp_path / "absent", "There is no memory"),
        (tmp_path / "empty", "holds no memory"),
        (tmp_path / "wrong.safetensors", "not a memory file"),
        (video, "not a memory file"),
        (tmp_path, "Name a memory in it, such as"),
    ):
        with pytest.raises(UsageError, match=words):
            open_memory(place)
    for damaged in (data[: len(data) // 2], data[:-1] + bytes([data[-1] ^ 1])):
        file.write_bytes(damaged)
        with pytest.raises(UsageError, match="truncated|altered"):
            open_memory(folder)
