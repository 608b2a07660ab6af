"""Logs for people and for programs; credentials in neither."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from retain.pipeline import logs

SRC = Path(__file__).parents[2] / ".src"
SCRIPT = """
import logging, sys, warnings
from retain.pipeline import logs
logs.configure(logging.INFO, node=sys.argv[1])
log = logging.getLogger("some.library")
log.info("opened %s", "rtsp://me:hunter2@cam/1?token=hunter2")
log.debug("not shown")
try:
    raise OSError("cannot reach http://me:hunter2@host/")
except OSError:
    log.exception("two\\nlines \\udcff")
warnings.warn("old ways")
"""


def said(node: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, node],
        env={**os.environ, "PYTHONPATH": str(SRC), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hunter2" not in done.stderr
    assert not done.stdout
    return done.stderr.splitlines()


def test_each_line_is_one_json_object() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    lines = [json.loads(line) for line in said("encode", RETAIN_LOG="json")]
    assert [line["level"] for line in lines] == ["info", "error", "warning"]
    assert {line["node"] for line in lines} == {"encode"}
    assert lines[0]["message"] == "opened rtsp://***@cam/1?token=***"
    assert lines[0]["logger"] == "some.library"
    assert datetime.fromisoformat(lines[0]["time"]) >= before
    assert lines[1]["message"] == "two\nlines \\udcff"
    assert "OSError: cannot reach http://***@host/" in lines[1]["traceback"]
    assert "old ways" in lines[2]["message"]


def test_people_get_sentences() -> None:
    assert said("")[0] == "retain: opened rtsp://***@cam/1?token=***"
    assert said("50% x")[0] == "INFO 50% x: opened rtsp://***@cam/1?token=***"


def test_what_was_asked_for_wins_over_the_environment(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setenv(logs.VARIABLE, "json")
    try:
        root.handlers.clear()
        logs.configure(logging.WARNING, as_json=False)
        assert isinstance(root.handlers[0].formatter, logs.Sentence)
        logs.configure(logging.WARNING)
        assert isinstance(root.handlers[0].formatter, logs.JsonLine)
        assert len(root.handlers) == 1
        own = logging.NullHandler()
        root.handlers[:] = [own]
        logs.configure(logging.WARNING)
        assert root.handlers == [own], "a program's own logs stay"
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)
