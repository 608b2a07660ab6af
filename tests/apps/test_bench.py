"""`retain bench`: every benchmark loads, reports what it promises, and survives a process start."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from retain.apps import bench
from retain.pipeline.errors import UsageError


@pytest.mark.parametrize("name", bench.names())
def test_a_benchmark_can_be_sent_to_a_process_it_starts(name: str) -> None:
    module = bench._load(name)
    multiprocessing.reduction.ForkingPickler.dumps(module.measure)
    assert module.__doc__


def test_a_benchmark_measures_prints_and_saves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = bench.run(["scorer"], quick=True)
    assert rows
    for row in rows:
        assert row.value > 0
        assert row.unit
        assert (row.peer == "") == (row.peer_value is None)
        assert (row.bar == "") == (row.met is None)
    assert "scorer" in capsys.readouterr().out
    bench.save(rows, tmp_path / "rows.json")
    saved = json.loads((tmp_path / "rows.json").read_text())
    assert [r["name"] for r in saved["rows"]] == [row.name for row in rows]
    assert "cores" in saved["machine"]


def test_a_mistyped_benchmark_is_named() -> None:
    with pytest.raises(UsageError, match="scorr") as caught:
        bench.run(["scorr"])
    assert "scorer" in str(caught.value.hint)
