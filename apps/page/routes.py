"""The page's addresses: static files, data as JSON, events and JPEG; and who may ask."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retain.apps.page.access import Door
from retain.apps.page.ask import add_routes
from retain.apps.page.server import STATIC, is_loopback
from retain.apps.snapshot import HEADER, TOOK, packed
from retain.pipeline.errors import RetainError
from retain.pipeline.metrics import prometheus_text

if TYPE_CHECKING:
    from retain.apps.page.server import Page

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def make_app(page: Page) -> FastAPI:
    """The routes. Data as JSON, events and JPEG; the page itself is static files."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if page.access is not None:
        app.add_middleware(Door, access=page.access, login=STATIC / "login.html")
    shown = page.beside.url if page.beside else ""
    app.add_middleware(Guard, anywhere=page.access is not None, frames=shown)
    state = page.state

    def json(value: Any) -> Response:
        return Response(msgspec.json.encode(value), media_type="application/json")

    def jpeg(data: bytes | None, headers: dict[str, str]) -> Response:
        if data is None:  # no error: a moment may be forgotten while its picture is asked for
            return Response(status_code=204)
        return Response(data, media_type="image/jpeg", headers=headers)

    @app.get("/")
    async def index() -> Response:
        # Which panels there are is known before the first event comes.
        text = (STATIC / "index.html").read_text("utf-8")
        return HTMLResponse(text.replace('data-view=""', f'data-view="{state.kind}"'))

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    @app.get("/api/state")
    async def everything() -> Response:
        return json(state.patch({}))

    @app.get("/api/events")
    async def events() -> Response:
        return StreamingResponse(page.events(), media_type="text/event-stream")

    @app.get("/api/held")
    async def held() -> Response:
        return json(state.patch({}).get("held", {}))

    @app.get("/api/preview.jpg")
    async def preview() -> Response:
        data, view = state.preview() or (None, {})
        return jpeg(data, {"X-Frame": msgspec.json.encode(view).decode()})

    @app.get("/api/frame/{seq}.jpg")
    async def frame(seq: int) -> Response:
        return jpeg(state.picture(seq), {"Cache-Control": "private, max-age=3600"})

    @app.get("/metrics")
    async def metrics() -> Response:
        state.progress.sample()
        stats = state.progress.stats
        text = prometheus_text(stats) if stats else ""
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.post("/api/snapshot")
    def snapshot(request: Request) -> Response:
        """In a thread: it waits for the graph."""
        if request.headers.get(HEADER) != "1":
            return PlainTextResponse(f"Say {HEADER}: 1.", 403)
        if page.run is None:
            return PlainTextResponse("Nothing runs yet.", 409)
        try:
            data, took_ms = packed(page.run)
            told = {TOOK: f"{took_ms:.1f}"}
            return Response(data, media_type="application/zip", headers=told)
        except RetainError as error:
            return PlainTextResponse(str(error), 409)

    @app.get("/report.html")
    async def report() -> Response:
        if page.report is None or not page.report.is_file():
            return Response("There is no report yet.", 404, media_type="text/plain")
        return FileResponse(page.report, media_type="text/html")

    add_routes(app, page)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


class Guard:
    """Refuses requests for another host (DNS rebinding) and keeps other sites' hands off.

    ``anywhere``: the page answers by any name, to who has shown the token; a site that took its
    name would not be sent the cookie. ``frames``: an address that pages may embed.
    """

    def __init__(self, app: ASGIApp, anywhere: bool = False, frames: str = "") -> None:
        self.app, self._anywhere = app, anywhere
        self._policy = f"{PAGE_POLICY}; frame-src {frames}" if frames else PAGE_POLICY

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        host = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"host"), "")
        if not self._anywhere and not is_loopback(_hostname(host)):
            refusal = PlainTextResponse("This page answers to this machine only.", 421)
            return await refusal(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cross-origin-resource-policy", b"same-origin"),
                ]
                given = {key for key, _ in message["headers"]}
                if b"cache-control" not in given:
                    headers.append((b"cache-control", b"no-cache"))
                own = scope["path"] == "/report.html" or b"content-security-policy" in given
                if not own:
                    headers.append((b"content-security-policy", self._policy.encode()))
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        with suppress(ClientDisconnect):  # who breaks off in the middle of a body wants no answer
            await self.app(scope, receive, guarded)


def _hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
