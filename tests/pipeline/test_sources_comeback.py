"""Cameras and addresses that go away and come back, against real servers on the loopback."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, pairwise

import cv2
import numpy as np
import pytest
from rtsp_server import RtspServer, encode
from shared_data import shared_data
from waiting import free_port

from retain.apps.running import is_live
from retain.pipeline.errors import RetainError, SourceError, SourceFault
from retain.pipeline.frame import Frame
from retain.pipeline.sources.any import AnySource
from retain.pipeline.sources.camera import CameraSource
from retain.pipeline.sources.comeback import ComebackSource
from retain.pipeline.sources.video import VideoSource
from retain.pipeline.stage import SourceInfo

TIMEOUT = 0.8


@pytest.fixture(scope="module")
def pictures() -> list[list[bytes]]:
    return encode(50)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComebackSource, "FIRST_S", 0.05)
    monkeypatch.setattr(ComebackSource, "MOST_S", 0.2)


def whole(source: ComebackSource | AnySource) -> None:
    """Every picture is accounted for."""
    stats = source.stats()
    kept = sum(int(stats[name]) for name in ("delivered", "dropped", "skipped"))
    assert int(stats["captured"]) - kept in (0, 1)


def rises(frames: list[Frame]) -> None:
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert all(b.pts > a.pts for a, b in pairwise(frames))
    assert len({frame.time_base for frame in frames}) == 1


def until_back(source: ComebackSource | AnySource, times: int = 1) -> list[Frame]:
    """Frames until so many come-backs were marked, and one more."""
    frames: list[Frame] = []
    for frame in source.frames():
        frames.append(frame)
        if sum(each.discontinuity for each in frames[:-1]) >= times:
            source.close()
    rises(frames)
    whole(source)
    return frames


def wait_for(source: ComebackSource, what: str, value: object) -> None:
    deadline = time.monotonic() + 30
    while source.stats()[what] != value:
        assert time.monotonic() < deadline, source.stats()
        time.sleep(0.01)


def test_a_server_that_restarts(pictures, caplog: pytest.LogCaptureFixture) -> None:
    server = RtspServer(pictures=pictures)
    source = AnySource(server.url(), timeout=2)
    assert source.open().kind == "live"
    frames = source.frames()
    seen = list(islice(frames, 5))
    server.kill()
    with caplog.at_level(logging.WARNING), RtspServer(server.port, pictures=pictures):
        while not seen[-1].discontinuity:
            seen.append(next(frames))
        seen += islice(frames, 5)
        rises(seen)
        assert not seen[0].discontinuity
        assert source.stats()["reconnects"] == 1
        assert source.stats()["state"] == "running"
        source.close()
        assert list(frames) == []
    whole(source)
    told = [record.getMessage() for record in caplog.records]
    assert told[-1].endswith("s without.")
    assert len(told) <= 4  # ended, refused, perhaps cut, pictures again: none per try


def test_a_port_that_is_closed_at_first(pictures) -> None:
    source = ComebackSource(f"rtsp://127.0.0.1:{free_port()}/live", timeout=2)
    opened: list[SourceInfo] = []
    waiter = threading.Thread(target=lambda: opened.append(source.open()))
    waiter.start()
    wait_for(source, "state", "backoff")
    assert "refuses the connection" in str(source.stats()["last_cause"])
    with RtspServer(int(source.source[17:-5]), pictures=pictures):
        waiter.join(30)
        assert opened[0].width == 64
        assert not next(source.frames()).discontinuity  # nothing came before it
        source.close()


@pytest.mark.parametrize("behaviour", ["cut", "silent", "end"])
def test_streams_that_break_come_back(pictures, behaviour: str) -> None:
    with RtspServer(behaviour=behaviour, healthy=35, pictures=pictures) as server:
        source = ComebackSource(server.url(), timeout=TIMEOUT)
        until_back(source, times=2)
        stats = source.stats()
    assert stats["reconnects"] == 2
    assert (stats["stalls"] == 2) == (behaviour == "silent")
    assert stats["down_s"] > 0


def test_a_frozen_picture_is_connected_anew(pictures) -> None:
    with RtspServer(behaviour="frozen", healthy=32, pictures=pictures) as server:
        source = ComebackSource(server.url(), timeout=2, frozen_s=0.5)
        until_back(source)
        assert source.stats()["frozen"] == 1
        assert "the same picture for 0.5 s" in str(source.stats()["last_cause"])


def test_a_frozen_picture_may_be_what_is_wanted(pictures) -> None:
    with RtspServer(behaviour="frozen", healthy=0, pictures=pictures) as server:
        source = ComebackSource(server.url(), timeout=2, frozen_s=0, limit=40)
        frames = list(source.frames())
    rises(frames)
    assert (len(frames), source.stats()["reconnects"]) == (40, 0)


def test_a_clock_that_stands_is_counted_on(pictures) -> None:
    with RtspServer(behaviour="still", healthy=32, pictures=pictures) as server:
        source = ComebackSource(server.url(), timeout=0.5, fps=10)
        frames = []
        for frame in source.frames():
            frames.append(frame)
            if source.stats()["time_standing"] and len(frames) > 10:
                source.close()
    rises(frames)
    whole(source)
    assert source.stats()["time_standing"] == 1


def test_a_stream_in_no_known_codec_fails_soon(pictures) -> None:
    with RtspServer(codec="NONSENSE", pictures=pictures) as server:
        source = ComebackSource(server.url(), timeout=TIMEOUT)
        with pytest.raises(SourceError) as caught:
            source.open()
        assert caught.value.fault in (SourceFault.CODEC, SourceFault.NOT_VIDEO)
        assert source.stats()["state"] == "failed"


def test_a_silent_server_never_holds_longer_than_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live"
        with pytest.raises(SourceError) as caught:
            ComebackSource(address, timeout=TIMEOUT, attempts=2).open()
        assert caught.value.fault == SourceFault.TIMEOUT
        patient = ComebackSource(address, timeout=600)
        closer = threading.Timer(0.3, patient.close)
        closer.start()
        with pytest.raises(SourceError, match="closed before it was connected"):
            patient.open()


def test_a_server_that_drips_is_given_up_too() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        while True:
            try:
                client, _ = listener.accept()
                with client:
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    while True:
                        client.sendall(b"G")
                        time.sleep(0.1)
            except OSError:
                if listener.fileno() < 0:
                    return

    threading.Thread(target=drip, daemon=True).start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/mjpg"
    with pytest.raises(SourceError) as caught:
        ComebackSource(address, timeout=TIMEOUT, attempts=1).open()
    listener.close()
    assert caught.value.fault == SourceFault.TIMEOUT


def test_close_wakes_the_longest_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComebackSource, "FIRST_S", 3000.0)
    monkeypatch.setattr(ComebackSource, "MOST_S", 3000.0)
    source = ComebackSource(f"rtsp://127.0.0.1:{free_port()}/live", timeout=TIMEOUT)
    ended = threading.Event()

    def consume() -> None:
        with pytest.raises(SourceError, match="closed"):
            list(source.frames())
        ended.set()

    threading.Thread(target=consume, daemon=True).start()
    wait_for(source, "state", "backoff")
    source.close()
    assert ended.wait(20)
    assert source._keeper is not None
    source._keeper.join(20)
    assert not source._keeper.is_alive()


def test_attempts_end_it_with_what_was_delivered(pictures) -> None:
    server = RtspServer(pictures=pictures)
    source = ComebackSource(server.url(), timeout=TIMEOUT, attempts=3)
    frames = source.frames()
    next(frames)
    server.kill()
    with pytest.raises(SourceError, match="refuses the connection") as caught:
        list(frames)
    assert caught.value.decoded >= 1
    assert source.stats()["state"] == "failed"


def test_an_end_with_one_attempt_is_an_end(pictures) -> None:
    with RtspServer(behaviour="end", healthy=35, pictures=pictures) as server:
        source = ComebackSource(server.url(), timeout=TIMEOUT, attempts=1)
        frames = list(source.frames())
    rises(frames)
    assert frames
    whole(source)


class Hanging:
    """A driver that gives two pictures and then never returns; ``let_go`` ends that."""

    let_go = threading.Event()
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.closed = False

    def open(self) -> SourceInfo:
        return SourceInfo(kind="live", description="hanging")

    def frames(self) -> Iterator[Frame]:
        for k in range(2):
            if self.sampler.keep(k * 40_000, Fraction(1, 1_000_000)):  # type: ignore[attr-defined]
                image = np.full((4, 4, 3), self.made, np.uint8)
                yield Frame("x", k, k, Fraction(1, 1_000_000), image)
        self.let_go.wait(60)

    def close(self) -> None:
        self.closed = True

    def stats(self) -> dict[str, int]:
        return {}


def test_a_read_that_never_returns_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ComebackSource, "_inner", lambda self: Hanging())
    source = ComebackSource("rtsp://nowhere", timeout=0.1)
    try:
        frames = until_back(source, times=2)
        assert {int(frame.image[0, 0, 0]) for frame in frames} >= {1, 2, 3}
        assert int(source.stats()["stalls"]) >= 2
        source = ComebackSource("rtsp://nowhere", timeout=0.1, attempts=20)
        before = Hanging.made
        with pytest.raises(SourceError, match="4 threads hang"):
            list(source.frames())
        assert Hanging.made - before == 4  # threads do not pile up
    finally:
        Hanging.let_go.set()


def test_a_slow_consumer_finds_the_newest(pictures) -> None:
    with RtspServer(pictures=pictures) as server:
        source = ComebackSource(server.url(), timeout=2)
        frames = source.frames()
        for _ in range(4):
            frame = next(frames)
            time.sleep(0.3)
        assert source.stats()["dropped"] > 3
        latest = source._newest
        assert latest is not None
        assert latest.pts > frame.pts
        source.close()
    whole(source)


def test_a_camera_that_is_unplugged_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        made = 0

        def __init__(self, index: int) -> None:
            self.count = 0
            type(self).made += 1
            self.opens = self.made != 2  # the first try after it went

        def isOpened(self) -> bool:
            return self.opens

        def get(self, option: int) -> float:
            return 30.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            time.sleep(0.002)
            self.count += 1
            if self.count > 8:
                return False, None
            return True, np.full((4, 6, 3), self.count, np.uint8)

        def release(self) -> None: ...

    monkeypatch.setattr(cv2, "VideoCapture", Driver)
    monkeypatch.setattr(CameraSource, "_check_device", lambda self: None)
    source = AnySource("0", timeout=0.2)
    until_back(source, times=1)
    assert source.stats()["stalls"] >= 1
    assert source.stats()["failures"] >= 2


def test_a_camera_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(RetainError, match="There is no camera '987'"):
        AnySource("987").open()


def test_http_files_are_not_waited_for() -> None:
    port = free_port()
    for name in ("a.mp4", "A.TS?x=1", "picture.jpg"):
        with pytest.raises(SourceError, match="refuses the connection"):
            is_live(f"http://127.0.0.1:{port}/{name}")
    with pytest.raises(SourceError, match="refuses the connection"):
        AnySource(f"http://127.0.0.1:{port}/live", attempts=2).open()


def test_a_real_street_over_rtsp() -> None:
    capture = cv2.VideoCapture(str(shared_data("video/vtest.avi")))
    clip = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB) for _ in range(20)]
    pictures = encode(20, lambda k: clip[k])
    with RtspServer(pictures=pictures, behaviour="cut", healthy=40) as server:
        source = ComebackSource(server.url(), timeout=2, fps=5)
        frames = until_back(source)
    assert all(frame.image.shape == clip[0].shape for frame in frames)
    assert max(float(np.abs(frames[0].image - each.astype(float)).mean()) for each in clip) < 20


def test_silence_is_noticed_after_one_timeout_not_two(pictures: list[list[bytes]]) -> None:
    """When reading has failed, FFmpeg's parser gives what it still had, as if it had come now."""
    with RtspServer(pictures=pictures, behaviour="silent", healthy=40) as server:
        source = VideoSource(server.url(), timeout=4.0)
        times: list[float] = []
        with pytest.raises(SourceError) as silent:
            times.extend(time.monotonic() for _ in source.frames())
    assert silent.value.fault is SourceFault.STALLED
    assert time.monotonic() - times[30] < 7.0
