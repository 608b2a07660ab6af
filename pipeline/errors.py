"""Errors a person may meet. Each says what happened, what it means and what to do.

The command line prints ``str(error)`` and exits with ``error.exit_code``; a traceback is for bugs
(or for ``--debug``).
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from enum import StrEnum


class RetainError(Exception):
    """Base of every error the project raises on purpose. ``exit_code`` is what the CLI returns."""

    exit_code = 1

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} {self.hint}".strip()


class UsageError(RetainError):
    """The request itself is wrong: a bad option, configuration or graph."""

    exit_code = 2


class GraphError(UsageError):
    """A graph that cannot run. ``line`` and ``column`` (1-based) are set when it came from YAML."""

    def __init__(self, what: str, *, hint: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(what, hint=hint)
        self.line = line
        self.column = column


class SourceFault(StrEnum):
    """Why a source gave no (more) frames. Stable codes: they appear in results and metrics."""

    NOT_FOUND = "not_found"
    DENIED = "denied"
    EMPTY = "empty"
    NOT_VIDEO = "not_video"
    BROKEN = "broken"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    AUTH = "auth"
    CODEC = "codec"
    STALLED = "stalled"
    TOO_LARGE = "too_large"


class SourceError(RetainError):
    """A source failed. ``decoded`` frames were delivered before it did (0: it never opened).

    A source that *ends* does not raise; one that *breaks* raises this after its last good frame.
    """

    def __init__(self, fault: SourceFault, what: str, *, hint: str = "", decoded: int = 0) -> None:
        super().__init__(what, hint=hint)
        self.fault = fault
        self.decoded = decoded


class WireError(RetainError):
    """A message or buffer that does not match its schema. It is refused, never interpreted."""


class PixelsGone(WireError):
    """The process that held a frame's pixels has died, and they with it."""


class StateError(RetainError):
    """A snapshot that is truncated, altered, or of another configuration. It is never guessed."""


class MissingExtra(UsageError):
    """An optional package is needed and absent."""

    def __init__(self, package: str, extra: str, why: str) -> None:
        super().__init__(
            f"{why} needs the package {package!r}, which is not installed.",
            hint=f"Install it with: pip install 'retain[{extra}]'",
        )


def no_space(error: BaseException | None) -> bool:
    """Whether ``error``, or what it was raised from, is that the disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def nearest(word: str, valid: Iterable[str]) -> str:
    """A sentence naming the closest legal word, or all of them when none is close."""
    names = sorted(valid)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Valid names: {', '.join(names) or 'none'}."
