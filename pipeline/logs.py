"""Logs on stderr: sentences for people or, with ``RETAIN_LOG=json``, one JSON object per line.

Child processes inherit the variable, so the whole run speaks one format. Whatever the format,
credentials are masked on the way out, those that libraries log included.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from datetime import UTC, datetime

import msgspec

from retain.pipeline.redact import redact

VARIABLE = "RETAIN_LOG"


def wants_json() -> bool:
    """Whether the environment asks for JSON."""
    return os.environ.get(VARIABLE, "").lower() == "json"


def configure(level: int, as_json: bool | None = None, node: str = "") -> None:
    """Set up the logs of this process, in place of what this function set up before; where a
    program that uses us as a library has set up its own, they stay.

    ``as_json``: None goes by the environment. ``node``: the node the process works for; empty for
    the one the person started. As JSON, Python's warnings are log lines too.
    """
    as_json = wants_json() if as_json is None else as_json
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLine(node) if as_json else Sentence(node))
    root = logging.getLogger()
    root.handlers[:] = [
        other for other in root.handlers if not isinstance(other.formatter, JsonLine | Sentence)
    ]
    logging.basicConfig(handlers=[handler], level=level)
    logging.captureWarnings(as_json)


class Sentence(logging.Formatter):
    """For people: as short as it can be."""

    def __init__(self, node: str) -> None:
        plain = node.replace("%", "%%")
        super().__init__(f"%(levelname)s {plain}: %(message)s" if node else "retain: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonLine(logging.Formatter):
    """For programs: ``time`` (UTC, ISO 8601), ``level``, ``node``, ``message``, ``logger``, and
    ``traceback`` where there is one."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "node": self._node,
            "message": _clean(record.getMessage()),
            "logger": record.name,
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = _clean("".join(traceback.format_exception(record.exc_info[1])))
        return msgspec.json.encode(line).decode()


def _clean(text: str) -> str:
    """Masked, and fit for UTF-8 whatever a file's name is made of."""
    return redact(text).encode("utf-8", "backslashreplace").decode()
