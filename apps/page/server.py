"""The live page: a sink that shows, in a browser on this machine, what a run is doing."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from retain.apps.page.state import WATCHED_S, PageState, View
from retain.pipeline.errors import MissingExtra, UsageError
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.stage import Sink

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from retain.apps.page.access import Access
    from retain.apps.page.ask import Asker

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
ANYWHERE = ("0.0.0.0", "::")
IDLE_S = 5.0
"""A client that nothing is sent to for so long gets a sign of life."""


class HasStats(Protocol):
    """A run, as far as the page needs it."""

    def stats(self) -> GraphStats: ...

    def snapshot(self, folder: str | Path, timeout: float = 30.0) -> None: ...


class Beside(Sink, Protocol):
    """Shows more of a run at an address of its own, which the page embeds."""

    url: str
    """Known once it is started."""

    def start(self) -> None:
        """Raises MissingExtra when a package for it is not installed."""

    def stop(self) -> None: ...


class Page:
    """Shows one stream's run at ``url``. A sink of the caller's process; it never slows the run.

    Only this machine can open it: it binds a loopback address and refuses requests that name
    another host. With ``access`` it may bind any address, and shows nothing to who has not shown
    the token. ``beside`` is given the packets too, and is embedded. ``asker`` answers questions
    about what the run remembers. Raises UsageError for another address without, or a port that is
    taken.
    """

    def __init__(
        self,
        title: str,
        source: str,
        port: int = 0,
        host: str = "127.0.0.1",
        view: View = "watch",
        access: Access | None = None,
        beside: Beside | None = None,
        asker: Asker | None = None,
    ) -> None:
        if not is_loopback(host):
            _check_open(host, access)
        self.access = access
        self.state = self._state(title, source, view)
        self.beside = beside
        self.asker = asker
        self._report: Path | None = None
        self.run: HasStats | None = None
        self.stopping = False
        self._socket = _listen(host, port)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        shown = socket.gethostname() if host in ANYWHERE else f"[{host}]" if ":" in host else host
        scheme = "https" if access and access.certificate else "http"
        self.url = f"{scheme}://{shown}:{self._socket.getsockname()[1]}/"

    def start(self) -> None:
        """Serve from a thread of its own; returns when the page can be opened."""
        import uvicorn

        if self.beside:
            self._start_beside(self.beside)
        config = uvicorn.Config(
            self.app(),
            log_config=None,
            access_log=False,
            log_level="warning",
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            ssl_certfile=self.access.certificate if self.access else None,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="retain-page", daemon=True
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.005)

    def _start_beside(self, beside: Beside) -> None:
        try:
            beside.start()
            self.state.about.add(beside=beside.url)
        except MissingExtra as error:
            self.beside = None
            self.state.about.add(without=str(error))
            log.warning("%s The page goes without.", error)

    def app(self) -> FastAPI:
        """What answers requests."""
        from retain.apps.page.routes import make_app

        return make_app(self)

    def _state(self, title: str, source: str, view: View) -> PageState:
        return PageState(title, source, view=view)

    def attach(self, run: HasStats) -> None:
        """Show the numbers of ``run`` from now on, and give its state to who asks."""
        self.run = run
        self.state.progress.attach(run.stats)

    def process(self, packet: Packet) -> None:
        self.state.observe(packet)
        if self.beside:
            self.beside.process(packet)

    def close(self) -> None:
        """The stream has ended; the page stays up until ``stop``."""
        if self.beside:
            self.beside.close()

    def finish(self, report: Path | None, message: str, failed: bool = False) -> None:
        """Say how the run ended, in a sentence, and offer ``report`` where there is one."""
        self._report = report
        self.state.finish(message, report is not None, failed)

    def used_at(self, since: float) -> float:
        """When a question was last answered, by the monotonic clock; ``since`` when none was."""
        return max(since, self.asker.asked_at) if self.asker else since

    def stop(self) -> None:
        """End the server; clients are told by the closed connection. Safe to call twice."""
        self.stopping = True
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(5)
        if self.beside:
            self.beside.stop()
        if self.asker:
            self.asker.close()
        self._socket.close()

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events: what changed since the last one, as JSON."""
        seen: dict[str, tuple[int, float]] = {}
        self.state.watch(+1)
        try:
            yield b"retry: 1000\n\n"
            quiet_since = time.monotonic()
            while not self.stopping:
                patch = self.state.patch(seen)
                if patch:
                    yield b"data: " + msgspec.json.encode(patch) + b"\n\n"
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since > IDLE_S:
                    yield b": still here\n\n"
                    quiet_since = time.monotonic()
                await asyncio.sleep(WATCHED_S)
        finally:
            self.state.watch(-1)

    @property
    def report(self) -> Path | None:
        return self._report


def _check_open(host: str, access: Access | None) -> None:
    if access is None:
        raise UsageError(
            f"The live page cannot listen on {host!r}: anyone in the network could watch.",
            hint="Use 127.0.0.1 and, from elsewhere, an SSH tunnel; `retain serve` also takes a "
            "--token-file.",
        )
    if access.certificate is None:
        log.warning(
            "The page on %s is not encrypted: whoever sees the network's traffic sees the pictures "
            "and the token. Give --certificate, or put a proxy with TLS before it.",
            host,
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"The live page cannot use port {port} on {host}: {error.strerror}.",
            hint="Choose another with --port, or 0 for any free one.",
        ) from error
