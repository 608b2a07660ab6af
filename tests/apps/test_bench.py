"""`retain bench`: every benchmark loads, reports what it promises, and survives a process start."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from retain.apps import bench
from retain.apps.numbers import page, records, run
from retain.pipeline.errors import UsageError


@pytest.mark.parametrize("name", bench.names())
def test_a_benchmark_can_be_sent_to_a_process_it_starts(name: str) -> None:
    module = bench.load(name)
    multiprocessing.reduction.ForkingPickler.dumps(module.measure)
    assert bench.purpose(name)
    assert bench.area(name) in page.AREAS


def test_a_benchmark_measures_prints_and_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record.json"
    record = run.run(["scorer"], quick=True, path=path)
    (found,) = record.measured.values()
    assert found.rows
    for row in found.rows:
        assert row.value > 0
        assert row.unit
        assert (row.peer == "") == (row.peer_value is None)
        assert (row.bar == "") == (row.met is None)
    assert found.quick
    assert found.area == "memory"
    assert "routing decision" in capsys.readouterr().out
    assert records.read(path) == record


def test_a_mistyped_benchmark_is_named() -> None:
    with pytest.raises(UsageError, match="scorr") as caught:
        run.run(["scorr"])
    assert "scorer" in str(caught.value.hint)


def test_what_cites_a_benchmark_is_found() -> None:
    assert "docs/scale.md" in bench.pages("scale")
    assert "README.md" in bench.pages("hop")
    assert "docs/numbers.md" not in bench.pages("hop")
    assert "docs/scale.md" not in bench.pages("hop")
