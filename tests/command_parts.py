"""The command line as a test calls it, in this process: words in; exit code and words out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from retain.apps import cli


class Said(NamedTuple):
    code: int
    out: str
    err: str


Retain = Callable[..., Said]


def exit_code(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """That of `retain` with these words."""
    monkeypatch.setattr(sys, "argv", ["retain", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code or 0
    assert isinstance(code, int)
    return code
