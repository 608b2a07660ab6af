"""What the commands share: results go to stdout, everything else to stderr."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retain.pipeline import logs
from retain.pipeline.errors import RetainError

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("retain")

PARTIAL, INTERRUPTED = 3, 130
"""Exit codes: some items failed; a person ended it."""

_quiet = False


def quiet(on: bool) -> None:
    """Of several processes that do one thing, all but one say nothing but errors."""
    global _quiet
    _quiet = on


def output() -> Console:
    """For results, as they are: brackets in a name are no markup. NO_COLOR is honoured."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    return Console(highlight=False, markup=False, soft_wrap=True, width=width, quiet=_quiet)


def messages() -> Console:
    """For progress and remarks; with JSON logs, each line becomes one."""
    from rich.console import Console

    if logs.wants_json() and not _quiet:
        return Console(file=_LogLines(), highlight=False, soft_wrap=True, force_terminal=False)
    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=_quiet)


def name_files(folder: Path, *names: str) -> None:
    """Where the results are: what in ``folder`` is called ``names``, a folder of masks too, as far
    as it is there; all its files where none is named."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    chosen = [folder / name for name in names] if names else files
    for path in chosen:
        if path.exists():
            output().print(f"  {path}")


def suggest(tries: Sequence[tuple[str, str]]) -> None:
    """What to try next: commands, and what each of them is for."""
    print("\nnext, try:")
    width = max(len(command) for command, _ in tries)
    for command, what in tries:
        print(f"  {command:{width}}  {what}")


def say_error(error: RetainError) -> None:
    """One sentence on stderr, as it is (no markup, no wrapping)."""
    if logs.wants_json():
        log.error("%s", error)
    else:
        print(f"retain: {error}", file=sys.stderr)


def set_up_logging(debug: bool) -> None:
    """Warnings (with ``debug``, everything of ours) to stderr."""
    logs.configure(logging.WARNING)
    if debug:
        log.setLevel(logging.DEBUG)
    elif logs.wants_json():
        log.setLevel(logging.INFO)  # remarks are log lines


class _LogLines(io.StringIO):
    """A file whose lines are log messages."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                log.info("%s", line.strip())
        return len(text)
