"""What goes away comes back: how long until pictures flow again, beside what others do.

    python benchmarks/recovery.py

A camera (an RTSP server of the tests) is cut off for two seconds and is there again at the same
port; or falls silent without a word. A sender between hosts is killed and started again. Counted
is the time from when the other side is back (or, for silence, from the last picture) until
``FLOW`` pictures have come, as decoders give a few old ones when they end. A peer that has not
given so many after ``PATIENCE_S`` counts as never.
"""

from __future__ import annotations

import logging
import math
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from rtsp_server import RtspServer, encode

from retain.apps.bench import Row, script
from retain.pipeline.far.receiver import FarSource
from retain.pipeline.far.sender import FarSink
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.sources.comeback import ComebackSource

AREA = "runtime"
AWAY_S, PATIENCE_S = 2.0, 100.0
FLOW = 10
SILENT_S = 10.0
"""Our default. OpenCV's is 30 s, for each picture that its decoder still has."""
Reader = Callable[[str, Callable[[], None]], None]
"""Reads an address until it is told that it is enough; says each picture."""


def retain_source(url: str, seen: Callable[[], None]) -> None:
    for _ in ComebackSource(url, timeout=SILENT_S).frames():
        seen()


def opencv_loop(url: str, seen: Callable[[], None]) -> None:
    """As most write it: read until it fails."""
    import cv2

    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    while capture.read()[0]:
        seen()


def opencv_reopening(url: str, seen: Callable[[], None]) -> None:
    """As the careful write it: open again when it fails."""
    while True:
        opencv_loop(url, seen)
        time.sleep(0.5)


def vidgear_camera(url: str, seen: Callable[[], None]) -> None:
    """CamGear reads in a thread and gives the newest; it ends when reading fails."""
    from vidgear.gears import CamGear

    camera = CamGear(source=url).start()
    while camera.read() is not None:
        seen()


class Watch:
    """Runs a reader in a thread of its own and tells the time of its next picture."""

    def __init__(self, reader: Reader, url: str) -> None:
        self._pictures: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._enough = False
        threading.Thread(target=self._run, args=(reader, url), daemon=True).start()

    def _run(self, reader: Reader, url: str) -> None:
        with suppress(Exception):  # a peer that fails gives no more pictures
            reader(url, self._seen)

    def _seen(self) -> None:
        if self._enough:
            raise SystemExit
        self._pictures.put(time.monotonic())

    def next_after(self, moment: float, patience_s: float = PATIENCE_S) -> float:
        """Seconds from ``moment`` until ``FLOW`` pictures have come; infinite when they do not."""
        end, seen = time.monotonic() + patience_s, list[float]()
        while (left := end - time.monotonic()) > 0:
            with suppress(queue.Empty):
                if (at := self._pictures.get(timeout=left)) > moment:
                    seen.append(at)
            if len(seen) == FLOW:
                return seen[-1] - moment
        return math.inf

    def drain(self) -> float:
        """Wait for half a second without a picture; the time of the last one."""
        last = time.monotonic()
        with suppress(queue.Empty):
            while True:
                last = self._pictures.get(timeout=0.5)
        return last

    def stop(self) -> None:
        self._enough = True


def after_a_cut(reader: Reader, pictures: list[list[bytes]]) -> float:
    server = RtspServer(pictures=pictures)
    watch = Watch(reader, server.url())
    assert watch.next_after(0.0) < math.inf
    server.kill()
    watch.drain()
    time.sleep(AWAY_S)
    with RtspServer(port=server.port, pictures=pictures):
        took = watch.next_after(time.monotonic())
        watch.stop()
    return took


def after_silence(reader: Reader, pictures: list[list[bytes]]) -> float:
    """The server keeps the line open and says nothing; whoever connects anew is served."""
    with RtspServer(pictures=pictures, behaviour="silent", healthy=100) as server:
        watch = Watch(reader, server.url())
        assert watch.next_after(0.0) < math.inf
        took = watch.next_after(watch.drain() + 0.01)
        watch.stop()
    return took


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


IMAGE = np.zeros((240, 320, 3), np.uint8)


def send_retain(port: int) -> None:
    from fractions import Fraction

    sink = FarSink(f"tcp://127.0.0.1:{port}")
    for seq in range(10**9):
        sink.process(Packet(Frame("s", seq, seq, Fraction(1, 50), IMAGE)))
        time.sleep(0.02)


def send_vidgear(port: int) -> None:
    from vidgear.gears import NetGear

    server = NetGear(address="127.0.0.1", port=str(port), protocol="tcp", pattern=0)
    while True:
        server.send(IMAGE)
        time.sleep(0.02)


def send_imagezmq(port: int) -> None:
    import imagezmq

    sender = imagezmq.ImageSender(f"tcp://127.0.0.1:{port}", REQ_REP=False)
    while True:
        sender.send_image("s", IMAGE)
        time.sleep(0.02)


def take_retain(port: str, seen: Callable[[], None]) -> None:
    for _ in FarSource(f"far://127.0.0.1:{port}", timeout=60.0).frames():
        seen()


def take_vidgear(port: str, seen: Callable[[], None]) -> None:
    from vidgear.gears import NetGear

    client = NetGear(
        address="127.0.0.1",
        port=port,
        protocol="tcp",
        pattern=0,
        receive_mode=True,
        max_retries=100,
    )
    while client.recv() is not None:
        seen()


def take_imagezmq(port: str, seen: Callable[[], None]) -> None:
    import imagezmq

    hub = imagezmq.ImageHub(f"tcp://127.0.0.1:{port}", REQ_REP=False)
    while True:
        hub.recv_image()
        seen()


def sending(which: str, port: int) -> subprocess.Popen[bytes]:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import recovery; "
    return subprocess.Popen([sys.executable, "-c", f"{code}recovery.send_{which}({port})"])


def after_a_restart(which: str, taker: Reader) -> float:
    """From the new sender's process being started, its own start included."""
    port = free_port()
    sender = sending(which, port)
    watch = Watch(taker, str(port))
    assert watch.next_after(0.0) < math.inf
    sender.kill()
    sender.wait()
    watch.drain()
    time.sleep(AWAY_S)
    sender = sending(which, port)
    took = watch.next_after(time.monotonic())
    watch.stop()
    sender.kill()
    sender.wait()
    return took


def rows(what: str, ours: float, peers: Iterator[tuple[str, float]], bar_s: float) -> list[Row]:
    bar = f"< {bar_s:g} s"
    made = [Row(name=what, value=ours, unit="s", bar=bar, met=ours < bar_s)]
    for peer, value in peers:
        never = value == math.inf
        made.append(
            Row(
                name=f"… {peer}" + (f": none within {PATIENCE_S:g} s" if never else ""),
                value=ours,
                unit="s",
                peer=peer,
                peer_value=None if never else value,
                ratio=None if never else value / ours,
            )
        )
    return made


def together(
    test: Callable[[Reader, list[list[bytes]]], float],
    cameras: dict[str, Reader],
    pictures: list[list[bytes]],
) -> Iterator[tuple[str, float]]:
    """All peers at once, each with a server of its own: they mostly wait."""
    with ThreadPoolExecutor(max(1, len(cameras))) as pool:
        took = {name: pool.submit(test, reader, pictures) for name, reader in cameras.items()}
        yield from ((name, future.result()) for name, future in took.items())


def measure(quick: bool = False) -> list[Row]:
    logging.disable(logging.WARNING)
    pictures = encode(50)
    cameras: dict[str, Reader] = {"OpenCV loop": opencv_loop, "OpenCV, reopening": opencv_reopening}
    senders: dict[str, tuple[str, Reader]] = {}
    if find_spec("imagezmq"):
        senders["imagezmq (PUB/SUB)"] = "imagezmq", take_imagezmq
    if find_spec("vidgear"):
        cameras["vidgear CamGear"] = vidgear_camera
        senders["vidgear NetGear"] = "vidgear", take_vidgear
    found = rows(
        "camera cut for 2 s: back to ten pictures",
        after_a_cut(retain_source, pictures),
        together(after_a_cut, cameras, pictures),
        5.0,
    )
    found += rows(
        f"camera silent (timeout {SILENT_S:g} s): last to ten more",
        after_silence(retain_source, pictures),
        together(after_silence, {} if quick else cameras, pictures),
        SILENT_S + 5,
    )
    found += rows(
        "sender on another host restarted: start to ten pictures",
        after_a_restart("retain", take_retain),
        ((name, after_a_restart(*sender)) for name, sender in senders.items()),
        10.0,
    )
    logging.disable(logging.NOTSET)
    return found


if __name__ == "__main__":
    script(measure, __doc__ or "")
