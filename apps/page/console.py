"""The console of `retain serve`: a page of many streams, with buttons."""

from __future__ import annotations

import hmac
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import Request, Response
from fastapi.responses import PlainTextResponse

from retain.apps.page.server import Page
from retain.apps.page.state import PageState, View
from retain.apps.page.streams import ConsoleState
from retain.apps.snapshot import HEADER
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.run import Run
from retain.pipeline.streams import StreamSpec, add_stream, check_name, remove_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from retain.apps.page.access import Access

MAX_BODY = 10_000
TOKEN = "X-Retain-Token"


class _New(msgspec.Struct, forbid_unknown_fields=True):
    """A stream to take in."""

    name: str
    source: str
    fps: float = 2.0


class Console(Page):
    """Shows the streams that ``file`` names; ``folder`` is where the run writes.

    Only this machine can open it, as any page. What changes something needs a header that pages of
    other sites cannot send, and a token that only ``address`` tells: a source may name secrets of
    whoever runs the command, and other people may use the same machine. With ``access`` other hosts
    can open it, and who has shown that token may do everything.
    """

    def __init__(
        self,
        file: Path,
        folder: Path,
        port: int = 0,
        host: str = "127.0.0.1",
        access: Access | None = None,
    ) -> None:
        self._file, self._folder = file, folder
        super().__init__(file.stem, str(file), port, host, "console", access)
        self.token = secrets.token_urlsafe(18)

    @property
    def address(self) -> str:
        """Where to open it, with the token behind a ``#``, which browsers do not send; without,
        where it is asked for."""
        return self.url if self.access else f"{self.url}#{self.token}"

    def _state(self, title: str, source: str, view: View) -> PageState:
        self.console = ConsoleState(title, self._file)
        return self.console

    def app(self) -> FastAPI:
        app = super().app()
        state = self.console

        def json(value: Any) -> Response:
            return Response(msgspec.json.encode(value), media_type="application/json")

        def jpeg(data: bytes | None, keep: bool) -> Response:
            if data is None:
                return Response(status_code=204)
            headers = {"Cache-Control": "private, max-age=3600"} if keep else None
            return Response(data, media_type="image/jpeg", headers=headers)

        @app.get("/api/streams/{name}.jpg")
        async def newest(name: str) -> Response:
            return jpeg(state.stream_picture(name), keep=False)

        @app.get("/api/streams/{name}/kept")
        async def kept(name: str) -> Response:
            return json(state.stream_kept(name))

        @app.get("/api/streams/{name}/kept/{seq}.jpg")
        async def moment(name: str, seq: int) -> Response:
            return jpeg(state.stream_picture(name, seq), keep=True)

        def act(request: Request, do: Callable[[], str]) -> Response:
            if request.headers.get(HEADER) != "1":
                return PlainTextResponse(f"Say {HEADER}: 1.", 403)
            given = request.headers.get(TOKEN, "").encode("latin-1")
            if self.access is None and not hmac.compare_digest(given, self.token.encode()):
                return PlainTextResponse(
                    "Open the console by the whole address that the command printed.", 401
                )
            try:
                return json({"said": do()})
            except RetainError as error:
                return PlainTextResponse(str(error), 400 if isinstance(error, UsageError) else 409)

        @app.post("/api/stop")
        def stop(request: Request) -> Response:
            return act(request, self._stop_run)

        @app.post("/api/save")
        def save(request: Request) -> Response:
            """In a thread: it waits for the graph."""
            return act(request, self._save)

        @app.post("/api/streams")
        async def add(request: Request) -> Response:
            length = request.headers.get("content-length", "")
            if not length.isdigit() or int(length) > MAX_BODY:
                return PlainTextResponse("That is too long.", 413)
            body = await request.body()
            return act(request, lambda: self._add(body))

        @app.post("/api/streams/{name}/remove")
        def remove(request: Request, name: str) -> Response:
            return act(request, lambda: self._remove(name))

        return app

    def _running(self) -> Run:
        if not isinstance(self.run, Run) or not self.run.running:
            raise RetainError("Nothing runs.")
        return self.run

    def _stop_run(self) -> str:
        self._running().stop()
        return "Stopping: what has been taken is worked off."

    def _save(self) -> str:
        folder = self._folder / "snapshots" / time.strftime("%Y%m%d-%H%M%S")
        self._running().snapshot(folder)
        return f"Saved in {folder}."

    def _add(self, body: bytes) -> str:
        try:
            new = msgspec.json.decode(body, type=_New)
            spec = msgspec.convert({"source": new.source.strip(), "fps": new.fps}, StreamSpec)
        except msgspec.MsgspecError as error:
            raise UsageError(f"That is no stream: {error}.") from None
        add_stream(self._file, check_name(new.name), spec)
        return f"{new.name} comes in within a second."

    def _remove(self, name: str) -> str:
        remove_stream(self._file, name)
        return f"{name} is let go. Its memory stays on disk."
