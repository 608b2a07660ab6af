from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from runtime_parts import frame

from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding, Route
from retain.pipeline.sinks import Count, JsonLines

ROUTE = Route("clear", "score", 0.5, float("nan"), 0.7, 0.1, 0.2, 3.0, 0.2, 0.4)


def packet(seq: int) -> Packet:
    return Packet(frame(seq)).plus(e=Embedding(np.ones(4, np.float32), "mean"), route=ROUTE)


def test_lines_say_all_but_arrays(tmp_path: Path) -> None:
    sink = JsonLines(str(tmp_path / "new" / "out.jsonl"))
    for seq in range(3):
        sink.process(packet(seq))
    assert not sink.path.exists(), "nothing under the final name before the end"
    sink.close()
    sink.close()
    lines = [json.loads(line) for line in sink.path.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [0, 1, 2]
    assert lines[2]["time_base"] == "1/30"
    assert lines[2]["seconds"] == 0.066667
    assert lines[2]["results"]["e"] == {"type": "embedding/1", "encoder": "mean"}
    assert lines[2]["results"]["route"]["curvature"] is None, "JSON has no NaN"
    assert lines[2]["results"]["route"]["state"] == "clear"
    assert sink.stats() == {"lines": 3, "bytes": sink.path.stat().st_size}
    assert not sink.partial.exists()


def test_small_arrays_are_told_where_that_is_asked_for(tmp_path: Path) -> None:
    told = {}
    for most in (0, 3, 4):
        sink = JsonLines(str(tmp_path / f"{most}.jsonl"), arrays=most)
        sink.process(packet(0))
        sink.close()
        told[most] = json.loads(sink.path.read_text())["results"]["e"].get("vector")
    assert told == {0: None, 3: None, 4: [1.0] * 4}


def test_a_run_cut_short_leaves_the_partial_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out.jsonl").write_text("of an earlier run\n")
    sink = JsonLines(str(tmp_path / "out.jsonl"))
    sink.process(packet(0))
    with caplog.at_level(logging.WARNING):
        sink.discard()
    sink.close()
    assert "its first 1 lines are in" in caplog.text
    assert len(sink.partial.read_text().splitlines()) == 1
    assert sink.path.read_text() == "of an earlier run\n"


def test_count() -> None:
    sink = Count()
    sink.process(packet(0))
    assert sink.stats() == {"packets": 1}
