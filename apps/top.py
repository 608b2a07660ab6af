"""`retain top`: the stages of a running command in the terminal, from its live page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from retain.apps import console
from retain.apps.drawing import size
from retain.apps.token import bearer
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.redact import redact

if TYPE_CHECKING:
    from rich.table import Table

EVERY_S = 1.0
TIMEOUT_S = 5.0
MAX_ANSWER = 16 << 20
COLUMNS = (
    "stage", "state", "in", "out", "per s", "dropped", "failed", "service ms", "p95", "age p95",
    "queue", "cpu", "restarts", "memory", "resident",
)  # fmt: skip
_WORDS = 2
"""How many of the columns hold words; the others are numbers."""


class Stage(msgspec.Struct, frozen=True):
    """A row of the page's table of stages; see ``page/stages.py``."""

    name: str
    state: str
    received: int
    sent: int
    rate: float
    dropped: dict[str, int]
    failed: int
    service_ms: float
    service_p95_ms: float
    age_ms: float
    queue: int
    cpu: float
    restarts: int
    memory_bytes: int
    rss_bytes: int


class _Run(msgspec.Struct, frozen=True):
    state: str
    message: str
    frames: int
    uptime_s: float
    stages: list[Stage]


class _About(msgspec.Struct, frozen=True):
    title: str


class _Answer(msgspec.Struct, frozen=True):
    about: _About
    run: _Run


_decoder = msgspec.json.Decoder(_Answer)


class Moment(msgspec.Struct, frozen=True):
    """What the page said."""

    title: str
    """One line: which stream, its state, how far it is."""
    rows: list[list[str]]
    """A row of ``COLUMNS`` per stage."""


def top(page: str, once: bool, token_file: Path | None = None) -> int:
    """Show the stages until the page goes away or Ctrl-C; the exit code. Raises RetainError when no
    page answers, UsageError for something that is no address."""
    url, token = address(page), bearer(token_file)
    now = ask(url, token)
    if once:
        print(plain(now))
        return 0
    from rich.live import Live

    with suppress(KeyboardInterrupt), Live(shown(now), console=console.output()) as live:
        while True:
            time.sleep(EVERY_S)
            try:
                live.update(shown(ask(url, token)))
            except RetainError:
                break
    console.messages().print("the page has gone", markup=False)
    return 0


def address(page: str) -> str:
    """The page's URL, ending in ``/``, from a URL, ``host:port`` or a port of this machine.

    >>> address("8000"), address("localhost:8000"), address("http://127.0.0.1:8000/#x")
    ('http://127.0.0.1:8000/', 'http://localhost:8000/', 'http://127.0.0.1:8000/')
    """
    text = f"127.0.0.1:{page}" if page.isdecimal() else page
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 80) > 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(
            f"{redact(page)!r} is neither the address of a page nor a port.",
            hint="The command prints its page's address when it starts.",
        )
    return f"{parts.scheme}://{parts.netloc}/"


def ask(url: str, token: Mapping[str, str] | None = None) -> Moment:
    """The page's state now. Raises RetainError when it does not answer, or is none of ours."""
    shown = redact(url)
    try:
        # No proxy: the page is on this machine, or at the near end of a tunnel.
        request = Request(f"{url}api/state", headers=dict(token or {}))
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            data = answer.read(MAX_ANSWER)
    except (URLError, OSError, ValueError, HTTPException) as error:
        if isinstance(error, HTTPError) and error.code == 401:
            raise RetainError(
                f"The page at {shown} wants its token.", hint="Give it with --token-file FILE."
            ) from None
        reason = getattr(error, "reason", None) or error
        raise RetainError(
            f"No page answers at {shown} ({redact(str(reason))}).",
            hint="It is there while the command runs, at the address that command printed.",
        ) from None
    try:
        said = _decoder.decode(data)
    except msgspec.MsgspecError:
        raise RetainError(f"What answers at {shown} is no page of this version.") from None
    run = said.run
    title = f"{said.about.title}: {run.state}, {run.frames} frames in {run.uptime_s:.0f} s"
    return Moment(_safe(f"{title}. {run.message}".strip()), [_row(stage) for stage in run.stages])


def plain(moment: Moment) -> str:
    """The table as lines of words between two blanks or more."""
    lines = [list(COLUMNS), *moment.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    text = [
        "  ".join(
            cell.ljust(width) if i < _WORDS else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([moment.title, *text])


def shown(moment: Moment) -> Table:
    """The table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(moment.title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number < _WORDS else "right", overflow="ellipsis")
    for row in moment.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _row(stage: Stage) -> list[str]:
    dropped = ",".join(f"{cause}={n}" for cause, n in sorted(stage.dropped.items()) if n)
    cells: list[Any] = [
        stage.name, stage.state, stage.received, stage.sent, f"{stage.rate:.1f}", dropped or 0,
        stage.failed, f"{stage.service_ms:.1f}", f"{stage.service_p95_ms:.1f}",
        f"{stage.age_ms:.0f}", stage.queue, f"{stage.cpu:.0%}", stage.restarts,
        size(stage.memory_bytes).replace(" ", ""), size(stage.rss_bytes).replace(" ", ""),
    ]  # fmt: skip
    return [_safe(str(cell)) for cell in cells]


def _safe(text: str) -> str:
    """Without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
