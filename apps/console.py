"""What the commands share: results go to stdout, everything else to stderr."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from retain.pipeline.errors import RetainError

if TYPE_CHECKING:
    from rich.console import Console


def output() -> Console:
    """For results, as they are: brackets in a name are no markup. NO_COLOR is honoured."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 120
    return Console(highlight=False, markup=False, soft_wrap=True, width=width)


def messages() -> Console:
    """For progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say_error(error: RetainError) -> None:
    """One sentence on stderr, as it is (no markup, no wrapping)."""
    print(f"retain: {error}", file=sys.stderr)


def set_up_logging(debug: bool) -> None:
    """Warnings (with ``debug``, everything of ours) to stderr."""
    logging.basicConfig(stream=sys.stderr, format="retain: %(message)s", level=logging.WARNING)
    if debug:
        logging.getLogger("retain").setLevel(logging.DEBUG)
