"""What `retain eval set` keeps per item, and how tables are shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retain.apps.evaluate_sets import base, protocols
from retain.apps.evaluate_sets.base import Kept, SetOptions, Table, chosen
from retain.pipeline.errors import StateError, UsageError


def test_names_need_not_be_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"[red]lat\xefin[b]")
    kept = Kept(tmp_path, SetOptions(path="x"))
    assert kept.ask(name, lambda: {"a": 1}) == kept.ask(name, lambda: {"a": 2}) == {"a": 1}
    kept.close()
    table = Table("t", ("", "n"), [(name, 1)], (name,))
    base.show([table])
    base.save(tmp_path / "t.json", [table])
    assert capsys.readouterr().out.count("[red]lat?in[b]") == 2


def test_a_damaged_record_is_found_out_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SetOptions(path="x"))
    assert kept.ask("one", lambda: {"a": 1}) == {"a": 1}
    assert kept.ask("one", lambda: pytest.fail("known")) == {"a": 1}
    for path in (tmp_path / "items").iterdir():
        path.write_text("{")
    assert kept.ask("one", lambda: {"a": 2}) == {"a": 2}
    kept.close()


def test_two_runs_at_once_are_refused_and_damage_is_told(tmp_path: Path) -> None:
    first = Kept(tmp_path / "out", SetOptions(path="x"))
    with pytest.raises(StateError, match="at work"):
        Kept(tmp_path / "out", SetOptions(path="x"))
    first.close()
    (tmp_path / "out/run.json").write_text("{")
    with pytest.raises(StateError, match="other options"):
        Kept(tmp_path / "out", SetOptions(path="x"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        Kept(tmp_path / "file", SetOptions(path="x"))


def test_what_has_no_protocol_is_refused(tmp_path: Path) -> None:
    def options(**more: object) -> SetOptions:
        return SetOptions(**{"path": str(tmp_path), **more})  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="none of the data sets") as told:
        chosen(options(), protocols.PROTOCOLS)
    assert "data doctor" in told.value.hint
    with pytest.raises(UsageError, match="nothing at"):
        chosen(options(path=str(tmp_path / "gone")), protocols.PROTOCOLS)
    with pytest.raises(UsageError, match="no protocol 'echonte'"):
        chosen(options(protocol="echonte"), protocols.PROTOCOLS)
    with pytest.raises(UsageError, match="splits test, val, train"):
        chosen(options(protocol="camus", split="valid"), protocols.PROTOCOLS)
