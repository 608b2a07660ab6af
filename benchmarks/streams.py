"""Many live streams in one place: are all served alike, and how old is a frame when it is done?

12 cameras of 25 frames/s into a stage that manages a fraction of that, as processes. The promise:
streams are served within 10 % of each other, and p95 of the age is at most a camera's interval and
ten frames' work, however many streams there are. The peer is a thread per camera and one queue for
all, as it is often written, with room for 128 frames.
"""

from __future__ import annotations

import json
import queue
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from retain.apps.bench import Row, script
from retain.pipeline.packet import Packet
from retain.pipeline.sources.any import AnySource

AREA = "runtime"
STREAMS, RATE = 12, 25
ROOM = 128
WARM_S = 2.0
"""Not counted: processes and cameras begin."""
HOPS = 10
"""Frames that may be under way between the source and the stage: the windows of a block edge."""

SLACK_S = 0.03

Served = dict[str, list[float]]
"""Ages in seconds by stream."""


class Busy:
    """A stage that takes its time for each frame and notes how old it is then."""

    def __init__(self, service_s: float) -> None:
        self.service_s = service_s
        self.served: Served = defaultdict(list)
        self._counts_from = 0.0

    def process(self, packet: Packet) -> None:
        time.sleep(self.service_s)
        frame = packet.frame
        self._counts_from = self._counts_from or time.monotonic() + WARM_S
        if time.monotonic() >= self._counts_from:
            self.served[frame.stream].append(frame.age_s())

    def close(self) -> None: ...


def address(number: int) -> str:
    return f"synthetic://bounce?live=1&size=160x120&rate={RATE}&seed={number}"


def with_retain(service_s: float, seconds: float) -> Served:
    from retain.pipeline.graph import Graph
    from retain.pipeline.run import start

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "streams.yaml"
        streams = {f"s{n:02}": {"source": address(n), "fps": 0} for n in range(STREAMS)}
        file.write_text(json.dumps({"streams": streams}))
        graph, busy = Graph(promise="live"), Busy(service_s)
        graph.source("streams", "retain.pipeline.sources.group:GroupSource", path=str(file))
        graph.sink("busy")
        graph.connect("streams", "busy")
        with start(graph, sinks={"busy": busy}) as run:
            _wait_until(busy, seconds)
            run.stop()
            report = run.wait(30)
        assert report.ok, report.errors
    return busy.served


def with_one_queue(service_s: float, seconds: float) -> Served:
    waiting: queue.Queue[Packet] = queue.Queue(ROOM)
    sources = [AnySource(address(n), stream=f"s{n:02}") for n in range(STREAMS)]
    for source in sources:
        threading.Thread(target=_read, args=(source, waiting), daemon=True).start()
    busy, until = Busy(service_s), time.monotonic() + WARM_S + seconds
    while time.monotonic() < until:
        busy.process(waiting.get())
    for source in sources:
        source.close()
    return busy.served


def _read(source: AnySource, waiting: queue.Queue[Packet]) -> None:
    source.open()
    for frame in source.frames():
        try:
            waiting.put_nowait(Packet(frame))
        except queue.Full:
            continue


def _wait_until(busy: Busy, seconds: float) -> None:
    deadline = time.monotonic() + 60
    while not busy.served:
        assert time.monotonic() < deadline, "no frame came"
        time.sleep(0.05)
    time.sleep(seconds)


def measure(quick: bool = False) -> list[Row]:
    rows = []
    for service_s in (0.01,) if quick else (0.005, 0.01, 0.02):
        # Enough turns that one frame more or less is not 10 %.
        seconds = 30 * STREAMS * service_s + (0 if quick else 8)
        ours, peer = with_retain(service_s, seconds), with_one_queue(service_s, seconds)
        what = f"{STREAMS} streams of {RATE}/s, {1e3 * service_s:g} ms a frame"
        bound = 1 / RATE + HOPS * service_s + SLACK_S
        rows += [
            Row(
                name=f"{what}: p95 age",
                value=1e3 * p95(ours),
                unit="ms",
                peer=f"one queue of {ROOM}",
                peer_value=1e3 * p95(peer),
                ratio=p95(peer) / p95(ours),
                bar=f"<= {1e3 * bound:.0f} ms",
                met=p95(ours) <= bound,
            ),
            Row(
                name=f"{what}: least served to most served",
                value=evenness(ours),
                unit="",
                peer=f"one queue of {ROOM}",
                peer_value=evenness(peer),
                ratio=evenness(ours) / max(evenness(peer), 1e-3),
                bar=">= 0.9",
                met=evenness(ours) >= 0.9,
            ),
        ]
    return rows


def p95(served: Served) -> float:
    ages = sorted(_all(served.values()))
    return ages[int(0.95 * len(ages))]


def evenness(served: Served) -> float:
    counts = [len(ages) for ages in served.values()]
    return min(counts) / max(counts) if len(counts) == STREAMS else 0.0


def _all(parts: Iterable[list[float]]) -> list[float]:
    return [age for part in parts for age in part]


if __name__ == "__main__":
    script(measure, "streams")
