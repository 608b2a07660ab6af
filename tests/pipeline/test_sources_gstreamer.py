"""A real clip from an RTSP server that is not ours, GStreamer's: killed, stopped, with a login."""

from __future__ import annotations

import functools
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from retain.apps.demo import find_clip
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Frame
from retain.pipeline.sources.comeback import ComebackSource

PYTHON = "/usr/bin/python3"
"""The system's, which Debian's packages belong to."""
SCRIPT = Path(__file__).parent.parent / "gst_server.py"


@functools.cache
def missing() -> str:
    """Why it cannot be tested here; empty when it can."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        if subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode == 0:
            return "" if find_clip() else "the packages of assets.txt are not installed"
    except OSError:
        pass
    return "GStreamer's RTSP server is not here (apt: gir1.2-gst-rtsp-server-1.0 python3-gi)"


class GstServer:
    def __init__(self, *login: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self.login = login
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/clip"

    def start(self) -> None:
        command = [PYTHON, str(SCRIPT), str(find_clip()), str(self.port), *self.login]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def serve() -> Iterator[Callable[..., GstServer]]:
    if missing():
        pytest.skip(missing())
    servers: list[GstServer] = []

    def start(*login: str) -> GstServer:
        servers.append(GstServer(*login))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComebackSource, "FIRST_S", 0.05)
    monkeypatch.setattr(ComebackSource, "MOST_S", 0.2)


def play(source: ComebackSource, then: Callable[[], None]) -> list[Frame]:
    """Frames up to the tenth after a gap; ``then`` is called after the fifth of all."""
    frames: list[Frame] = []
    back = None
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == 5:
            then()
        if back is None and frame.discontinuity:
            back = len(frames)
        if back and len(frames) == back + 10:
            source.close()
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    assert {frame.image.shape for frame in frames} == {(90, 160, 3)}
    assert sum(frame.discontinuity for frame in frames) == 1
    assert max(int(frame.image.std()) for frame in frames) > 5, "pictures with something on them"
    return frames


def test_killed_and_started_again(serve: Callable[..., GstServer]) -> None:
    server = serve()
    source = ComebackSource(server.url, timeout=3.0)

    def restart() -> None:
        server.kill()
        server.start()

    play(source, restart)
    stats = source.stats()
    assert stats["reconnects"] == 1
    assert stats["decode_errors"] == stats["corrupt"] == 0


def test_stopped_and_let_go_on(serve: Callable[..., GstServer]) -> None:
    """A server that hangs: noticed after the timeout, and left for a connection that works."""
    server = serve()
    source = ComebackSource(server.url, timeout=1.0)
    states: list[object] = []

    def hang() -> None:
        server.signal(signal.SIGSTOP)
        while not source.stats()["stalls"]:
            states.append(source.stats()["state"])
            time.sleep(0.01)
        server.signal(signal.SIGCONT)

    play(source, hang)
    assert "stalled" in states
    assert source.stats()["reconnects"] == 1


def test_a_password_by_digest(serve: Callable[..., GstServer], tmp_path: Path) -> None:
    server = serve("viewer", "s cret")
    secret = tmp_path / "secret"
    secret.write_text("s cret")
    secret.chmod(0o600)
    url = server.url.replace("//", "//viewer:${file:" + str(secret) + "}@")
    source = ComebackSource(url, timeout=3.0)
    info = source.open()
    assert "cret" not in info.description
    assert next(source.frames()).image.shape == (90, 160, 3)
    source.close()
    secret.write_text("wrong")
    with pytest.raises(SourceError) as refused:
        ComebackSource(url, timeout=3.0, attempts=1).open()
    assert refused.value.fault is SourceFault.AUTH
    assert "wrong" not in str(refused.value)
