"""Addresses that misbehave: every wait is bounded, every fault has its code, no secret is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import media
import pytest

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.sources.any import AnySource
from retain.pipeline.sources.video import VideoSource

Behaviour = Callable[[socket.socket, threading.Event], None]
TIMEOUT = 0.6
SECRETS = ("hunter", "s%40cret")


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], int]]:
    """Start loopback servers that treat each connection as told; gives the port."""
    done, sockets = threading.Event(), []

    def start(behaviour: Behaviour) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def one(connection: socket.socket) -> None:
            sockets.append(connection)
            try:
                behaviour(connection, done)
            except OSError:
                pass  # the client left
            finally:
                connection.close()

        def accept() -> None:
            while not done.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    done.set()
    for each in sockets:
        each.close()


def silent(connection: socket.socket, done: threading.Event) -> None:
    done.wait()


def drip(connection: socket.socket, done: threading.Event) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not done.wait(0.05):
        connection.sendall(b"G")


def answer(status: str) -> Behaviour:
    def behave(connection: socket.socket, done: threading.Event) -> None:
        connection.recv(4096)
        connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    return behave


def send(data: bytes, length: int | None, then_wait: bool) -> Behaviour:
    def behave(connection: socket.socket, done: threading.Event) -> None:
        connection.recv(4096)
        declared = f"Content-Length: {length}\r\n" if length else ""
        connection.sendall(f"HTTP/1.1 200 OK\r\n{declared}\r\n".encode() + data)
        if then_wait:
            done.wait()

    return behave


def address(scheme: str, port: int) -> str:
    return f"{scheme}://{SECRETS[0]}:{SECRETS[1]}@127.0.0.1:{port}/a.ts?token={SECRETS[0]}"


def exhaust(source: VideoSource) -> None:
    source.open()
    for _ in source.frames():
        pass


def fault_of(source: VideoSource) -> SourceError:
    started = time.monotonic()
    with pytest.raises(SourceError) as caught:
        exhaust(source)
    # generous: only a missing time limit would take this long
    assert time.monotonic() - started < 20
    text = repr(caught.value) + str(caught.value) + source.name
    assert not any(secret in text for secret in SECRETS)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtmp", "tcp"])
def test_a_server_that_says_nothing_times_out(serve, scheme: str) -> None:
    error = fault_of(VideoSource(address(scheme, serve(silent)), timeout=TIMEOUT))
    assert error.fault == SourceFault.TIMEOUT


def test_a_server_that_drips_times_out(serve) -> None:
    error = fault_of(VideoSource(address("http", serve(drip)), timeout=TIMEOUT))
    assert error.fault == SourceFault.TIMEOUT


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        ("401 Unauthorized", SourceFault.AUTH),
        ("403 Forbidden", SourceFault.AUTH),
        ("404 Not Found", SourceFault.NOT_FOUND),
        ("503 Busy", SourceFault.REFUSED),
        ("200 OK", None),
    ],
)
def test_http_answers_have_their_codes(serve, status: str, fault: SourceFault | None) -> None:
    error = fault_of(VideoSource(address("http", serve(answer(status))), timeout=TIMEOUT))
    assert fault is None or error.fault == fault


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_a_closed_port_refuses(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = fault_of(VideoSource(address(scheme, port), timeout=TIMEOUT))
    assert error.fault == SourceFault.REFUSED


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("stream")
    return media.write_video(
        folder / "s.ts", 120, options={"g": "10"}, draw=media.noisy
    ).read_bytes()


def test_a_stream_that_falls_silent_is_stalled(serve, stream: bytes) -> None:
    source = VideoSource(
        address("http", serve(send(stream[: len(stream) // 2], None, True))), timeout=TIMEOUT
    )
    error = fault_of(source)
    assert error.fault == SourceFault.STALLED
    assert error.decoded > 20


def test_a_connection_that_breaks_is_broken(serve, stream: bytes) -> None:
    half = stream[: len(stream) // 2]
    source = VideoSource(address("http", serve(send(half, len(stream), False))), timeout=TIMEOUT)
    error = fault_of(source)
    assert error.fault == SourceFault.BROKEN
    assert error.decoded > 20


def test_a_whole_stream_ends_normally(serve, stream: bytes) -> None:
    source = AnySource(address("http", serve(send(stream, len(stream), False))), timeout=5, fps=5)
    info = source.open()
    assert SECRETS[0] not in info.description
    assert len(list(source.frames())) == 24


def test_close_from_another_thread_ends_a_waiting_read(serve, stream: bytes) -> None:
    source = VideoSource(
        address("http", serve(send(stream[: len(stream) // 2], None, True))), timeout=2
    )
    source.open()
    ended = threading.Event()

    def consume() -> None:
        for _ in source.frames():
            pass
        ended.set()

    threading.Thread(target=consume, daemon=True).start()
    source.close()
    assert ended.wait(20), "frames() did not end after close()"
