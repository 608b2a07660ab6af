"""How many workers of a batch fit into memory."""

from __future__ import annotations

from pathlib import Path

import batch_parts
import pytest

from retain.apps.batch.engine import Spec
from retain.apps.batch.local import LocalEngine


def test_files_that_were_read_take_no_memory_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.apps.batch import local

    monkeypatch.setattr(local, "CGROUP", tmp_path)
    assert local.memory()[1] > 1 << 20
    for name, text in (
        ("max", "1048576"),
        ("current", "1000000"),
        ("stat", "inactive_file 900000"),
    ):
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert local.memory() == (1048576 - 100_000, 1048576)


def test_workers_are_counted_as_large_as_they_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from retain.apps.batch import local

    monkeypatch.setattr(local, "_held", lambda worker: 100 << 20)
    engine = LocalEngine(Spec(batch_parts.TARGET, {}), jobs=8)
    monkeypatch.setattr(local, "memory", lambda: (8 << 30, 10 << 30))
    started = 0
    while engine._fits_one_more():  # none has grown yet, and what is free stays as it is
        engine._pool.append(local._Worker(None))  # type: ignore[arg-type]
        started += 1
    assert started == 7
