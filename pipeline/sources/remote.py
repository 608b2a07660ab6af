"""Objects on servers and in stores: ranges over http(s) by ourselves, the rest through fsspec.

Nothing of a library's own message is passed on: it may repeat an address with its credentials.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import queue
import re
import socket
import ssl
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from retain.pipeline.errors import MissingExtra, SourceError, SourceFault, UsageError
from retain.pipeline.redact import redact
from retain.pipeline.sources.blocks import BLOCK, Blob
from retain.pipeline.sources.credentials import Secrets
from retain.pipeline.sources.stored import STORES

WEB = ("http", "https")
SPOOL_LIMIT = 4 << 30
"""Bytes: what a server will not give in ranges is copied to a temporary file, up to this size."""
_TRIES = 3
_AS_IS = "/%:@!$&'()*+,;=~"
"""What of a path is sent as it is; blanks and the like are encoded."""
_PAUSE_S = 0.5
"""Before a range is asked for once more; doubled each time."""
_MARKS = ("ETag", "etag", "generation", "md5Hash", "checksum", "mtime", "LastModified",
          "last_modified", "modified", "created", "uid")  # fmt: skip
"""What stores call the mark of a content, or its time."""
T = TypeVar("T")


def open_remote(address: str, timeout: float = 10.0, spool: bool = True) -> Blob:
    """The object at ``address``; ``${NAME}`` and ``${file:/path}`` in it are filled in.

    timeout   seconds that opening, and then each range, may take
    spool     whether a server without ranges may have its whole answer copied to a temporary file

    Raises SourceError, and UsageError or MissingExtra for an address that nothing here reads.
    """
    name = redact(address)
    known = Secrets().expand(address)
    scheme = address.partition("://")[0].lower()
    try:
        if scheme in WEB:
            return _open_web(known, name, timeout, spool)
        return within(timeout, lambda: StoreBlob(known, name, timeout))
    except (SourceError, UsageError):
        raise
    except Exception as error:
        raise fault(error, name, timeout) from None


def within(timeout: float, work: Callable[[], T]) -> T:
    """What ``work`` returns or raises; TimeoutError when that takes longer. Then it is left to its
    thread: no library here promises to end."""
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True, name="remote").start()
    try:
        value, error = answers.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def patiently(fetch: Callable[[], bytes], name: str, timeout: float) -> bytes:
    """A range, asked for again where the connection broke. Raises SourceError."""
    for attempt in range(_TRIES):
        try:
            return within(timeout, fetch)
        except (SourceError, UsageError):
            raise
        except Exception as error:
            found = fault(error, name, timeout, reading=True)
            if found.fault is not SourceFault.BROKEN or attempt == _TRIES - 1:
                raise found from None
        time.sleep(_PAUSE_S * 2**attempt)
    raise AssertionError


class WebBlob:
    """An object of a web server that gives ranges of it (RFC 9110, section 14)."""

    def __init__(self, address: str, name: str, timeout: float, headers: Any) -> None:
        self.name = name
        self._address, self._timeout = address, timeout
        self._mark = _mark(headers)
        _, self.size = _content_range(headers)
        if self.size < 0:
            raise SourceError(
                SourceFault.REFUSED, f"The server of {name!r} does not tell how long it is."
            )
        self.stamp = stamp_of(self._mark, self.size)

    def fetch(self, start: int, stop: int) -> bytes:
        return patiently(lambda: self._range(start, stop), self.name, self._timeout)

    def _range(self, start: int, stop: int) -> bytes:
        with _request(self._address, self._timeout, start, stop) as answer:
            given = (*_content_range(answer.headers), _mark(answer.headers))
            if answer.status != 206 or given != (start, self.size, self._mark):
                raise _changed(self.name)
            data = _read(answer, stop - start, self._timeout)
        if len(data) != stop - start:
            raise http.client.IncompleteRead(b"")
        return data

    def close(self) -> None: ...


class SpooledBlob:
    """What came whole, in a temporary file."""

    def __init__(self, name: str, file: IO[bytes], size: int, stamp: int) -> None:
        self.name, self.size, self.stamp = name, size, stamp
        self._file = file

    def fetch(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)

    def close(self) -> None:
        self._file.close()


class StoreBlob:
    """An object in a store that fsspec knows."""

    def __init__(self, address: str, name: str, timeout: float) -> None:
        self.name, self._timeout = name, timeout
        self._store, self._path = store_of(address)
        found = self._store.info(self._path)
        if found.get("type") == "directory":
            raise SourceError(SourceFault.NOT_VIDEO, f"{name!r} is a folder, not a file.")
        if found.get("size") is None:
            raise SourceError(SourceFault.CODEC, f"{name!r} does not tell its size.")
        self.size, self.stamp = int(found["size"]), stamp_of_info(found)
        if not self.size:
            raise _empty(name)

    def fetch(self, start: int, stop: int) -> bytes:
        data = patiently(
            lambda: bytes(self._store.cat_file(self._path, start=start, end=stop)),
            self.name,
            self._timeout,
        )
        if len(data) != stop - start:
            raise _changed(self.name)
        return data

    def close(self) -> None: ...


def store_of(address: str) -> tuple[Any, str]:
    """fsspec's file system for ``address``, and the path in it. Raises MissingExtra."""
    scheme = address.partition("://")[0].lower()
    why = f"Reading {scheme}:// addresses"
    try:
        import fsspec
    except ImportError:
        raise MissingExtra("fsspec", "remote", why) from None
    try:
        store, path = fsspec.core.url_to_fs(address)
    except ImportError:
        package = STORES[scheme]
        raise UsageError(
            f"{why} needs the package {package!r}, which is not installed.",
            hint=f"Install it with: pip install 'retain[remote]' {package}",
        ) from None
    return store, path


def stamp_of(mark: object, size: int, at: int = 0) -> int:
    """63 bits that stand for a content: its mark, its length and where it begins."""
    digest = hashlib.sha256(f"{mark}\n{size}\n{at}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stamp_of_info(info: Any) -> int:
    return stamp_of([str(info[mark]) for mark in _MARKS if mark in info], info.get("size") or 0)


def _open_web(address: str, name: str, timeout: float, spool: bool) -> Blob:
    with within(timeout, lambda: _request(address, timeout, 0, 1)) as answer:
        if answer.status == 206:
            return WebBlob(address, name, timeout, answer.headers)
        length = int(answer.headers.get("Content-Length") or -1)
        if length == 0:
            raise _empty(name)
        if not spool:
            raise SourceError(
                SourceFault.REFUSED,
                f"The server of {name!r} gives no parts of a file.",
                hint="A shard is read in parts: copy it here, or serve it with ranges.",
            )
        return _spooled(answer, length, name, timeout)


def _spooled(answer: http.client.HTTPResponse, length: int, name: str, timeout: float) -> Blob:
    file, size = tempfile.TemporaryFile(), 0  # noqa: SIM115 - the blob closes it
    try:
        while size <= SPOOL_LIMIT >= length:
            data = _read(answer, BLOCK, timeout)
            if not data:
                break
            file.write(data)
            size += len(data)
        else:
            raise SourceError(
                SourceFault.TOO_LARGE,
                f"The server of {name!r} gives no parts of a file, and it has more than "
                f"{SPOOL_LIMIT >> 20:,} MiB.",
                hint="Copy it here first.",
            )
        if size < length:
            raise http.client.IncompleteRead(b"")
        if not size:
            raise _empty(name)
    except BaseException:
        file.close()
        raise
    return SpooledBlob(name, file, size, stamp_of(_mark(answer.headers), size))


def _request(address: str, timeout: float, start: int, stop: int) -> http.client.HTTPResponse:
    """The answer to a request for [start, stop). User and password do not follow a redirection."""
    parts = urlsplit(address)
    user, found, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(
        urlunsplit(parts._replace(netloc=host, path=quote(parts.path, _AS_IS), fragment="")),
        headers={"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"},
    )
    if found:
        basic = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    return answer


def _read(answer: http.client.HTTPResponse, count: int, timeout: float) -> bytes:
    """``count`` bytes, or those up to the end; TimeoutError when they do not come in time."""
    until = time.monotonic() + timeout
    parts = []
    while count and (part := answer.read1(count)):
        parts.append(part)
        count -= len(part)
        if time.monotonic() > until:
            raise TimeoutError
    return b"".join(parts)


def _mark(headers: Any) -> str:
    return str(headers.get("ETag") or headers.get("Last-Modified") or "")


def _content_range(headers: Any) -> tuple[int, int]:
    """(first byte, bytes of the whole) from ``Content-Range: bytes 0-0/1234``; -1 where it does not
    say."""
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
    return (int(told[1]), int(told[2])) if told else (-1, -1)


def fault(error: Exception, name: str, timeout: float, reading: bool = False) -> SourceError:
    """The SourceError for what urllib, fsspec or a store's library raised."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return _refused(error.code, name)
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    shown = repr(name)
    if isinstance(error, TimeoutError) or getattr(error, "errno", 0) == errno.ETIMEDOUT:
        what = "sent nothing" if reading else "gave no answer"
        return SourceError(
            SourceFault.STALLED if reading else SourceFault.TIMEOUT,
            f"{shown} {what} for {timeout:g} s.",
            hint="Check the server and the network.",
        )
    if isinstance(error, FileNotFoundError):
        return SourceError(SourceFault.NOT_FOUND, f"There is no {shown}.", hint="Check the path.")
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return _refused(403, name)
    if isinstance(error, socket.gaierror):
        return SourceError(
            SourceFault.NOT_FOUND, f"The host of {shown} is not known.", hint="Check its name."
        )
    if isinstance(error, ConnectionRefusedError):
        return SourceError(
            SourceFault.REFUSED,
            f"{shown} refuses the connection.",
            hint="Check that the server runs, and its port.",
        )
    if isinstance(error, ssl.SSLError):
        return SourceError(SourceFault.REFUSED, f"No secure connection to {shown} can be made.")
    if reading and isinstance(error, OSError | http.client.HTTPException):
        return SourceError(
            SourceFault.BROKEN, f"The connection to {shown} broke off in the middle."
        )
    return SourceError(SourceFault.REFUSED, f"{shown} cannot be read ({type(error).__name__}).")


def _refused(status: int, name: str) -> SourceError:
    if status in (401, 403):
        return SourceError(
            SourceFault.AUTH,
            f"You may not read {name!r}.",
            hint="Check user, password or key; docs/remote.md says where they are looked for.",
        )
    if status in (404, 410):
        return SourceError(
            SourceFault.NOT_FOUND, f"The server knows no {name!r}.", hint="Check the path."
        )
    if status == 416:
        return _empty(name)
    return SourceError(SourceFault.REFUSED, f"The server of {name!r} answers {status}.")


def _empty(name: str) -> SourceError:
    return SourceError(SourceFault.EMPTY, f"{name!r} is empty (0 bytes).")


def _changed(name: str) -> SourceError:
    return SourceError(SourceFault.BROKEN, f"{name!r} has changed while it was read.")
