"""What tests of commands share: a folder to be in, and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_parts import Retain, Said, exit_code


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which the test is in."""
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def retain(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Retain:
    """Run `retain` with these words, in ``work``."""

    def run(*words: object) -> Said:
        code = exit_code(monkeypatch, *words)
        return Said(code, *capsys.readouterr())

    return run
