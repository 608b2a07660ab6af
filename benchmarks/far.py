"""720p between two processes over loopback tcp, as between hosts: encrypted or not, by codec.

    python benchmarks/far.py [--json FILE] [--quick]

A producer that waits (``block``) sends as fast as the line takes it; MB/s are of decoded pixels.
The peer is imagezmq, which sends raw pixels in the clear. Pictures are smooth with a little noise,
so that JPEG has something to do.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from retain.apps.bench import Row, script
from retain.pipeline.far import keys
from retain.pipeline.far.receiver import FarSource
from retain.pipeline.far.sender import FarSink
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet

AREA = "runtime"
SHAPE = (720, 1280, 3)
WARM_UP = 5
CONTESTANTS = {
    "jpeg, CURVE": ("jpeg", True, 150),
    "png, CURVE": ("png", True, 40),
    "jpeg, in the clear": ("jpeg", False, 150),
    "raw, in the clear": ("raw", False, 150),
    "raw, CURVE": ("raw", True, 12),
    "imagezmq": ("", False, 150),
}


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    smooth = np.stack([x / 5, y / 3, (x + y) / 8], axis=-1)
    return [np.uint8(smooth + rng.normal(20, 3, SHAPE).clip(0, 50)) for _ in range(4)]


def send(port: int, codec: str, curve: bool, frames: int, folder: str) -> None:
    options = {"key": f"{folder}/a.key_secret", "allow": f"{folder}/b.key"} if curve else {}
    sink = FarSink(
        f"tcp://127.0.0.1:{port}",
        policy="block",
        codec=codec,  # type: ignore[arg-type]
        raw_over_curve=curve,
        **options,  # type: ignore[arg-type]
    )
    made = images()
    for seq in range(frames):
        sink.process(Packet(Frame("s", seq, seq, Fraction(1, 30), made[seq % 4].copy())))
    sink.flush()
    sink.close()


def send_imagezmq(port: int, frames: int) -> None:
    import imagezmq

    sender, made = imagezmq.ImageSender(connect_to=f"tcp://127.0.0.1:{port}"), images()
    for seq in range(frames):
        sender.send_image("s", made[seq % 4])
    sender.close()


def rate(name: str, frames: int) -> float:
    """Frames per second at the receiver, in this process; the sender has its own."""
    codec, curve, _ = CONTESTANTS[name]
    port, context = _free_port(), multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for each in "ab":
            keys.create(each, Path(folder))
        peer = name == "imagezmq"
        sender = context.Process(
            target=send_imagezmq if peer else send,
            args=(port, frames) if peer else (port, codec, curve, frames, folder),
        )
        sender.start()
        times: list[float] = []
        if peer:
            import imagezmq

            hub = imagezmq.ImageHub(open_port=f"tcp://127.0.0.1:{port}")
            for _ in range(frames):
                hub.recv_image()
                hub.send_reply()
                times.append(time.monotonic())
            hub.close()
        else:
            options = {"key": f"{folder}/b.key_secret", "server": f"{folder}/a.key"}
            source = FarSource(f"far://127.0.0.1:{port}", timeout=60, **(options if curve else {}))
            times.extend(time.monotonic() for _ in source.frames())
        sender.join()
    assert len(times) == frames
    return (frames - WARM_UP) / (times[-1] - times[WARM_UP - 1])


def measure(quick: bool = False) -> list[Row]:
    seen: dict[str, list[float]] = {}
    for _ in range(1 if quick else 3):  # interleaved: the machine's speed drifts
        for name, (*_, frames) in CONTESTANTS.items():
            seen.setdefault(name, []).append(_one(name, frames // (2 if quick else 1)))
    fps = {name: statistics.median(rates) for name, rates in seen.items()}
    peer = fps.pop("imagezmq")
    rows = []
    for name, value in fps.items():
        megabytes = value * np.prod(SHAPE) / 1e6
        rows.append(
            Row(
                name=f"720p, {name} ({megabytes:.0f} MB/s of pixels)",
                value=value,
                unit="frames/s",
                peer="imagezmq, raw, in the clear",
                peer_value=peer,
                ratio=value / peer,
            )
        )
    return rows


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _one(name: str, frames: int) -> float:
    command = [sys.executable, __file__, "--one", name, str(frames)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(said.splitlines()[-1]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(rate(sys.argv[2], int(sys.argv[3]))))
    else:
        script(measure, "far")
