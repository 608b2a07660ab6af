"""Secrets of an address from the environment or from files; never in what a person may see.

``rtsp://viewer:${CAM_PASSWORD}@host/1`` and ``rtsp://viewer:${file:/run/secrets/cam}@host/1`` stay
as they are in graphs, specifications, logs and pages. The values are put in where the connection
is made, percent-encoded: they are written down as they are, not as an address needs them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from retain.pipeline.errors import RetainError, SourceError, UsageError
from retain.pipeline.redact import MASK, redact

_PLACE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_MOST = 4096
"""Bytes: a longer file is not a password."""


class Secrets:
    """The values that went into addresses, to keep them out of everything else."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._values: set[str] = set()

    def expand(self, address: str) -> str:
        """``address`` with every placeholder filled in. Raises UsageError, naming the variable or
        the file, never its content."""
        return _PLACE.sub(lambda found: self._encoded(found[1]), address)

    def _encoded(self, name: str) -> str:
        path = name.removeprefix("file:")
        value = secret_in(Path(path)) if path != name else self._from_environment(name)
        encoded = quote(value, safe="")
        self._values |= {value, encoded, quote(value), repr(value)[1:-1]}
        return encoded

    def _from_environment(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"'${{{name}}}' in an address names no variable of the environment.",
                hint="Write ${NAME}, or ${file:/path} for a secret in a file.",
            )
        value = self._environment.get(name, "")
        if not value:
            raise UsageError(
                f"The address needs the environment variable {name!r}, which is not set.",
                hint=f"Set it where the command is started: export {name}=...",
            )
        return value

    def clean(self, text: str) -> str:
        """``text`` without credentials, those filled in included, whichever way they are told."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, MASK)
        return redact(text)

    def cleaned(self, error: RetainError) -> RetainError:
        """An error of the same kind that tells no secret."""
        what, hint = self.clean(error.what), self.clean(error.hint)
        if isinstance(error, SourceError):
            return SourceError(error.fault, what, hint=hint, decoded=error.decoded)
        return UsageError(what, hint=hint)


def _without_waiting(path: str, flags: int) -> int:
    """Opening a named pipe would wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def secret_in(path: Path) -> str:
    """The one line of a file that nobody but its owner may read. Raises UsageError."""
    shown = repr(str(path))
    if not path.is_absolute():
        raise UsageError(
            f"The secret's file {shown} has no absolute path.", hint="Write ${file:/path}."
        )
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            _check_mode(os.fstat(file.fileno()).st_mode, path)
            content = file.read(_MOST + 1)
        value = content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UsageError(
            f"The secret's file {shown} cannot be read: {error.strerror}.",
            hint="Check its path.",
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"The secret's file {shown} is not UTF-8 text.") from None
    if not value or len(content) > _MOST or not value.isprintable():
        raise UsageError(
            f"The secret's file {shown} holds no secret: one printable line is expected."
        )
    return value


def check_private(path: Path) -> None:
    """Raises UsageError unless ``path`` is a file that nobody but its owner may read or change."""
    try:
        _check_mode(path.stat().st_mode, path)
    except OSError as error:
        raise UsageError(f"The secret's file {str(path)!r}: {error.strerror}.") from None


def _check_mode(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise UsageError(f"The secret's file {str(path)!r} is not a regular file.")
    if os.name == "posix" and mode & 0o077:
        raise UsageError(
            f"The secret's file {str(path)!r} may be read or changed by others than its owner.",
            hint=f"Close it: chmod 600 {path}",
        )
