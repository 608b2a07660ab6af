"""CameraSource with a fake driver: the caller never waits longer than its timeout."""

from __future__ import annotations

import sys
import threading
import time
from itertools import pairwise

import cv2
import numpy as np
import pytest

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.sources.camera import CameraSource


class Driver:
    """Stands in for cv2.VideoCapture. ``plan``: pictures until ``stop_after``, then nothing."""

    opens = True
    hangs_on_open = False
    stop_after = 10**9
    hangs_when_done = False

    def __init__(self, index: int) -> None:
        self.count = 0
        self.released = threading.Event()
        type(self).last = self
        if self.hangs_on_open:
            time.sleep(3)

    last: Driver

    def isOpened(self) -> bool:
        return self.opens

    def set(self, option: int, value: float) -> bool:
        return True

    def get(self, option: int) -> float:
        return 30.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.count >= self.stop_after:
            if self.hangs_when_done:
                time.sleep(3)
            return False, None
        time.sleep(0.002)
        self.count += 1
        return True, np.full((4, 6, 3), (255, 0, self.count % 256), np.uint8)

    def release(self) -> None:
        self.released.set()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> type[Driver]:
    fresh = type("FreshDriver", (Driver,), {})
    monkeypatch.setattr(cv2, "VideoCapture", fresh)
    monkeypatch.setattr(CameraSource, "_check_device", lambda self: None)
    return fresh


def test_pictures_are_rgb_and_newest(driver: type[Driver]) -> None:
    source = CameraSource("0", limit=5)
    info = source.open()
    assert (info.kind, info.width, info.height, info.fps) == ("live", 6, 4, 30.0)
    frames = []
    for frame in source.frames():
        frames.append(frame)
        time.sleep(0.02)  # a slow consumer
    assert all((f.image[..., 2] == 255).all() and (f.image[..., 1] == 0).all() for f in frames)
    assert all(b.pts > a.pts for a, b in pairwise(frames))
    stats = source.stats()
    assert stats["dropped"] > 0
    assert stats["captured"] - stats["dropped"] - stats["delivered"] in (0, 1)
    assert driver.last.released.wait(10)


def test_a_driver_that_hangs_on_open_times_out(driver: type[Driver]) -> None:
    driver.hangs_on_open = True
    with pytest.raises(SourceError, match="gave no picture within 0.2 s") as caught:
        CameraSource("0", timeout=0.2).open()
    assert caught.value.fault == SourceFault.TIMEOUT


def test_a_busy_camera_is_refused(driver: type[Driver]) -> None:
    driver.opens = False
    with pytest.raises(SourceError, match="Another program may be using it") as caught:
        CameraSource("0").open()
    assert caught.value.fault == SourceFault.REFUSED


@pytest.mark.parametrize("hangs", [False, True])
def test_a_camera_that_falls_silent_is_stalled(driver: type[Driver], hangs: bool) -> None:
    driver.stop_after, driver.hangs_when_done = 3, hangs
    source = CameraSource("0", timeout=0.3)
    with pytest.raises(SourceError, match=r"no picture for 0.3 s") as caught:
        list(source.frames())
    assert caught.value.fault == SourceFault.STALLED
    assert 1 <= caught.value.decoded <= 3


def test_close_ends_a_waiting_reader(driver: type[Driver]) -> None:
    driver.stop_after = 1
    source = CameraSource("0", timeout=60)
    source.open()
    reader = threading.Thread(target=lambda: list(source.frames()))
    reader.start()
    source.close()
    reader.join(20)
    assert not reader.is_alive()
    assert driver.last.released.wait(10)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="device files are Linux's")
def test_an_absent_camera_is_named() -> None:
    with pytest.raises(SourceError, match="There is no camera '987'") as caught:
        CameraSource("987").open()
    assert caught.value.fault == SourceFault.NOT_FOUND


def test_only_cameras_are_accepted() -> None:
    with pytest.raises(UsageError, match="'webcam' is not a camera"):
        CameraSource("webcam")
