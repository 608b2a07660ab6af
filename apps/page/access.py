"""Who may open a page that other hosts can reach: whoever knows its token.

A browser is asked for it once and then has a cookie; programs send it as ``Authorization: Bearer``.
It is in no address, no log and no answer.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import ssl
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from retain.pipeline.errors import UsageError
from retain.pipeline.sources.credentials import check_private, secret_in

log = logging.getLogger(__name__)

LEAST = 16
"""Characters of a token: fewer can be guessed."""
SLOW_S = 1.0
"""A wrong token is answered no sooner."""
MAX_BODY = 4096
OPEN = ("/static/", "/favicon.ico")
"""What anybody may have: it is the same for all."""
LOGIN_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


class Access:
    """``file`` holds the token, one line that only its owner may read. ``certificate``: PEM file
    with a certificate and its private key, for https.

    Raises UsageError when either does not do.
    """

    def __init__(self, file: Path, certificate: Path | None = None) -> None:
        file = file.expanduser().absolute()
        if not file.exists():
            raise UsageError(
                f"There is no token file {str(file)!r}.",
                hint=f"Make one: (umask 077; openssl rand -base64 24 > {file})",
            )
        token = secret_in(file)
        if len(token) < LEAST:
            raise UsageError(
                f"The token in {str(file)!r} has fewer than {LEAST} characters: it can be guessed.",
                hint=f"Make a longer one: (umask 077; openssl rand -base64 24 > {file})",
            )
        self._token = token.encode()
        self._session = secrets.token_urlsafe(24)
        self._cookie = f"retain-{secrets.token_hex(4)}"
        """Cookies are of a host, not of a port: another console there has another name."""
        self.certificate = _checked(certificate) if certificate else None

    def __repr__(self) -> str:
        return "Access()"

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token)

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers is of somebody who has shown the token."""
        for name, value in headers:
            text = value.decode("latin-1")
            if name == b"authorization" and text.startswith("Bearer "):
                return self.is_token(text.removeprefix("Bearer ").strip())
            if name == b"cookie" and self._is_session(text):
                return True
        return False

    def _is_session(self, cookies: str) -> bool:
        try:
            found = SimpleCookie(cookies).get(self._cookie)
        except CookieError:
            return False
        given = found.value if found else ""
        return hmac.compare_digest(given.encode(), self._session.encode())

    @property
    def cookie(self) -> str:
        """What a browser is given that has shown the token."""
        safe = "; Secure" if self.certificate else ""
        return f"{self._cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/{safe}"


class Door:
    """Lets nobody in who has not shown the token, and asks a browser for it."""

    def __init__(self, app: ASGIApp, access: Access, login: Path) -> None:
        self.app, self._access, self._login = app, access, login
        self._told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(OPEN):
            return await self.app(scope, receive, send)
        request = Request(scope, receive)
        if request.method == "POST" and request.url.path == "/login":
            return await (await self._let_in(request))(scope, receive, send)
        if self._access.admits(scope["headers"]):
            return await self.app(scope, receive, send)
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return await self._ask()(scope, receive, send)
        refusal = PlainTextResponse(
            "The token is missing or wrong.", 401, {"WWW-Authenticate": "Bearer"}
        )
        return await refusal(scope, receive, send)

    async def _let_in(self, request: Request) -> HTMLResponse | RedirectResponse:
        length = request.headers.get("content-length", "")
        fits = length.isdigit() and int(length) <= MAX_BODY
        body = (await request.body()).decode("utf-8", "replace") if fits else ""
        if self._access.is_token(parse_qs(body).get("token", [""])[0].strip()):
            return RedirectResponse("/", 303, {"Set-Cookie": self._access.cookie})
        level = logging.DEBUG if self._told else logging.WARNING
        log.log(level, "somebody at %s gave a wrong token", request.client and request.client.host)
        self._told = True
        await asyncio.sleep(SLOW_S)
        return self._ask("That is not the token.")

    def _ask(self, said: str = "") -> HTMLResponse:
        text = self._login.read_text("utf-8").replace("<!-- said -->", said)
        return HTMLResponse(text, 401, {"Content-Security-Policy": LOGIN_POLICY})


def _checked(certificate: Path) -> Path:
    file = certificate.expanduser().absolute()
    check_private(file)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(file)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(
            f"{str(file)!r} is no certificate with its private key: {error.strerror or error}.",
            hint="It is a PEM file that holds both: cat cert.pem key.pem > FILE; chmod 600 FILE",
        ) from None
    return file
