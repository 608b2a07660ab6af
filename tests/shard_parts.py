"""Tar shards, and a web server on the loopback that serves files well and badly."""

from __future__ import annotations

import io
import re
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def write_shard(path: Path, files: Iterable[tuple[str, bytes]], **options: int) -> Path:
    with tarfile.open(path, "w", **options) as shard:  # type: ignore[call-overload]
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return path


class Server(ThreadingHTTPServer):
    """Serves ``files`` at ``/MANNER/NAME``.

    ranges   as it should      whole    without ranges      moved     after a redirection
    stalls   answers, sends half, then nothing              silent    never answers
    breaks   closes the connection in every second answer   changes   another ETag each time
    auth     only for viewer:a b                            N         with that status
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.sent = 0
        self.asked: list[str] = []
        self.seen: list[str] = []
        """Authorization of every request."""
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error here."""

    def at(self, name: str, manner: str = "ranges") -> str:
        return f"http://127.0.0.1:{self.server_port}/{manner}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)
        server.seen.append(self.headers.get("Authorization", ""))
        _, manner, name = self.path.partition("?")[0].split("/", 2)
        if manner == "silent":
            server.over.wait(20)
            return
        if manner == "moved":
            self.send_response(302)
            self.send_header("Location", server.at(name).replace("127.0.0.1", "localhost"))
            self.end_headers()
            return
        data = server.files.get(name)
        status = int(manner) if manner.isdigit() else 404 if data is None else 0
        if manner == "auth" and server.seen[-1] != "Basic dmlld2VyOmEgYg==":
            status = 401
        if status or data is None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(manner, data)

    def _send(self, manner: str, data: bytes) -> None:
        server = self.server
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        body = data
        if asked and manner != "whole":
            first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
            body = data[first : last + 1]
            if not data:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            self.send_response(200)
        mark = len(server.asked) if manner == "changes" else 1
        self.send_header("ETag", f'"{mark}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if len(body) > 1 and manner == "stalls":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            server.over.wait(20)
            return
        if len(body) > 1 and manner == "breaks" and len(server.asked) % 2 == 0:
            body = body[: len(body) // 2]
        self.wfile.write(body)
        server.sent += len(body)


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
            time.sleep(0)
