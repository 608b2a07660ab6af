"""How old a frame is when a consumer that is too slow is done with it: `latest` edge, for real.

50 frames/s into a consumer that needs 1 to 20 frame intervals per frame. The promise: p95 of the
age at its end is at most one interval, one service time and 5 ms; with ten times too many frames,
p99 at most two service times and 50 ms. The peer is ZeroMQ's PUSH/PULL as it comes, with its
default high-water marks.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from retain.apps.bench import Row, script
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.stage import SourceInfo

AREA = "runtime"
INTERVAL_S = 0.02
SLACK_S = 0.005


class Camera:
    """Frames when they are due, for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def open(self) -> SourceInfo:
        return SourceInfo("live", "benchmark")

    def frames(self) -> Iterator[Frame]:
        image = np.zeros((240, 320, 3), np.uint8)
        for seq in ticks(self.seconds):
            yield Frame("s", seq, seq, Fraction(1, 50), image)

    def close(self) -> None: ...


def ticks(seconds: float) -> Iterator[int]:
    began = time.monotonic()
    for seq in range(round(seconds / INTERVAL_S)):
        time.sleep(max(0.0, began + seq * INTERVAL_S - time.monotonic()))
        yield seq


class Slow:
    """A consumer that takes its time and notes how old each frame is when it is done."""

    def __init__(self, service_s: float) -> None:
        self.service_s = service_s
        self.ages: list[float] = []

    def process(self, packet: Packet) -> None:
        time.sleep(self.service_s)
        self.ages.append(packet.frame.age_s())

    def close(self) -> None: ...


def with_retain(service_s: float, seconds: float) -> list[float]:
    from retain.pipeline.graph import Graph
    from retain.pipeline.run import start

    graph, slow = Graph(), Slow(service_s)
    graph.source("camera", "freshness:Camera", seconds=seconds)
    graph.sink("slow")
    graph.connect("camera", "slow", policy="latest")
    report = start(graph, sinks={"slow": slow}).wait(seconds + 60)
    assert report.ok, report.errors
    return slow.ages[:-1]  # the last one waits for nobody newer: the camera has ended


def with_push_pull(service_s: float, seconds: float) -> list[float]:
    import zmq

    ages = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as sockets:
        address = f"ipc://{folder}/1"
        inbox = sockets.socket(zmq.PULL)
        inbox.bind(address)
        worker = context.Process(target=_push, args=(address, seconds))
        worker.start()
        until = time.monotonic() + seconds + 5
        while time.monotonic() < until and inbox.poll(2000):
            made: Any = inbox.recv_multipart()[0]
            time.sleep(service_s)
            ages.append((time.monotonic_ns() - int(made)) / 1e9)
        worker.kill()
        worker.join()
        inbox.close(0)
    return ages


def _push(address: str, seconds: float) -> None:
    import zmq

    socket = zmq.Context().socket(zmq.PUSH)
    socket.connect(address)
    image = bytes(240 * 320 * 3)
    for _ in ticks(seconds):
        socket.send_multipart([str(time.monotonic_ns()).encode(), image])


def measure(quick: bool = False) -> list[Row]:
    rows = []
    for factor in (1, 5, 10) if quick else (1, 2, 5, 10, 20):
        service = factor * INTERVAL_S
        seconds = max(4.0, 12 * service) if quick else max(6.0, 40 * service)
        ages = with_retain(service, seconds)
        ours = quantile(ages, 0.95)
        peer = quantile(with_push_pull(service, seconds), 0.95)
        bound = INTERVAL_S + service + SLACK_S
        rows.append(
            Row(
                name=f"p95 age, consumer {factor}x a frame interval",
                value=1e3 * ours,
                unit="ms",
                peer="PUSH/PULL, default high-water mark",
                peer_value=1e3 * peer,
                ratio=peer / ours,
                bar=f"<= {1e3 * bound:.0f} ms",
                met=ours <= bound,
            )
        )
        if factor == 10:
            worst, most = quantile(ages, 0.99), 2 * service + 0.05
            name = "p99 age with ten times too many frames"
            bar = f"<= {1e3 * most:.0f} ms"
            rows.append(Row(name=name, value=1e3 * worst, unit="ms", bar=bar, met=worst <= most))
    return rows


def quantile(ages: list[float], part: float) -> float:
    return sorted(ages)[int(part * len(ages))]


if __name__ == "__main__":
    script(measure, "freshness")
