"""Passwords of cameras: had from where they are kept, told to the camera and to nobody else."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
from rtsp_server import RtspServer, encode
from waiting import free_port

from retain.pipeline.errors import SourceError, UsageError
from retain.pipeline.sources.comeback import ComebackSource

SECRET = "p@ss:w/ör d?&#%41'\"${x}*"


def test_a_password_is_told_to_the_camera_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ComebackSource, "FIRST_S", 0.05)
    monkeypatch.setattr(ComebackSource, "MOST_S", 0.2)
    monkeypatch.setenv("CAM_USER", "us@er")
    file = tmp_path / "secret"
    file.write_text("wrong-" + SECRET + "\n")
    file.chmod(0o600)
    monkeypatch.setenv("CAM_PATH", "path-secret")
    with (
        RtspServer(user="us@er", password=SECRET, pictures=encode(50)) as server,
        caplog.at_level(logging.DEBUG),
    ):
        address = server.url(f"${{CAM_USER}}:${{file:{file}}}") + "/${CAM_PATH}"
        source = ComebackSource(address, timeout=2)
        waiter = threading.Thread(target=source.open)
        waiter.start()
        while not server.refused or source.stats()["state"] != "backoff":
            time.sleep(0.01)
        texts = [str(source.stats())]
        assert "refuses this user and password" in texts[0]
        file.write_text(SECRET + "\n")  # read anew for every connection
        waiter.join(30)
        info = source.open()
        frame = next(source.frames())
        source.close()
    assert f"us@er:{SECRET}" in server.credentials
    texts += [info.description, str(source.stats()), repr(frame.meta), caplog.text, source.name]
    secrets = (SECRET, "us@er", "us%40er", "ss:w", "ss%3Aw", "path-secret", repr(SECRET)[1:-1])
    assert [word for word in secrets for text in texts if word in text] == []


def test_errors_tell_no_secret_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k e y")
    address = f"rtsp://127.0.0.1:{free_port()}/${{KEY}}/live"
    with pytest.raises(SourceError) as caught:
        ComebackSource(address, attempts=1).open()
    assert "k e y" not in repr(caught.value) + str(caught.value)
    assert "k%20e%20y" not in repr(caught.value) + str(caught.value)
    assert "***/live" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ("NOT_THERE", "needs the environment variable 'NOT_THERE', which is not set"),
        ("no name", "names no variable"),
        ("file:relative", "has no absolute path"),
        ("file:/no/such/secret", "'/no/such/secret' cannot be read: No such file"),
        ("file:/", "cannot be read: Is a directory"),
        ("file:/dev/null", "is not a regular file"),
    ],
)
def test_secrets_that_cannot_be_had_fail_at_once(place: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        ComebackSource(f"rtsp://me:${{{place}}}@127.0.0.1:1/live").open()


@pytest.mark.parametrize(
    ("content", "mode", "match"),
    [
        (b"open", 0o644, "may be read or changed by others than its owner. Close it: chmod 600"),
        (b"", 0o600, "holds no secret"),
        (b"one\ntwo", 0o600, "holds no secret"),
        (b"x" * 5000, 0o600, "holds no secret"),
        (b"\xff\xfe", 0o600, "is not UTF-8"),
    ],
)
def test_secret_files_are_checked(tmp_path: Path, content: bytes, mode: int, match: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(UsageError, match=match):
        ComebackSource(f"rtsp://me:${{file:{file}}}@127.0.0.1:1/live").open()
