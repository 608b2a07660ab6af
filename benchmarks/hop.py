"""What it costs to hand a 1080p frame from process to process, and whether memory stays flat.

Three processes, two hops: one makes frames, one passes them on, one takes them. The peers do the
same with imagezmq (REQ/REP over ipc) and multiprocessing.Queue. CPU time is that of all three
processes between the first and the last measured frame.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from retain.apps.bench import Row, script
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.stage import SourceInfo

HOPS = 2
WARM_UP = 50
SHAPE = (1080, 1920, 3)


class Frames:
    """A source that costs next to nothing: the same few pictures, over and over."""

    def __init__(self, count: int, height: int = SHAPE[0], width: int = SHAPE[1]) -> None:
        self.count = count
        self.images = [np.full((height, width, 3), value, np.uint8) for value in range(4)]

    def open(self) -> SourceInfo:
        return SourceInfo("finite", "benchmark")

    def frames(self) -> Iterator[Frame]:
        for seq in range(self.count):
            yield Frame("s", seq, seq, Fraction(1, 30), self.images[seq % 4])

    def close(self) -> None: ...


class PassOn:
    def process(self, packet: Packet) -> Packet:
        return packet

    def close(self) -> None: ...


class Rewrite:
    """A stage that makes a new picture of every frame."""

    def process(self, packet: Packet) -> Packet:
        old = packet.frame
        image = old.image.copy()
        return Packet(Frame(old.stream, old.seq, old.pts, old.time_base, image, old.t_arrival_ns))

    def close(self) -> None: ...


class Stopwatch:
    """The last process: looks at each frame, and at the clocks at the first and last measured."""

    def __init__(self, frames: int) -> None:
        self.frames, self.seen = frames, 0
        self.started = self.ended = (0.0, 0.0)

    def take(self, image: np.ndarray) -> None:
        assert image[5, 5, 0] == self.seen % 4
        self.seen += 1
        if self.seen == WARM_UP:
            self.started = self.now()
        if self.seen == self.frames:
            self.ended = self.now()

    def process(self, packet: Packet) -> None:
        self.take(packet.frame.image)

    def close(self) -> None: ...

    def now(self) -> tuple[float, float]:
        me = psutil.Process()
        times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
        return time.monotonic(), sum(t.user + t.system for t in times)

    def result(self) -> dict[str, float]:
        count = self.frames - WARM_UP
        wall, cpu = (b - a for a, b in zip(self.started, self.ended, strict=True))
        return {"fps": count / wall, "cpu_ms": 1e3 * cpu / count / HOPS}


def with_retain(frames: int, stage: str) -> dict[str, float]:
    from retain.pipeline.graph import Graph
    from retain.pipeline.run import start

    graph, watch = Graph(), Stopwatch(frames)
    graph.source("make", "hop:Frames", count=frames)
    graph.stage("pass", f"hop:{stage}")
    graph.sink("take")
    graph.connect("make", "pass", "take")
    report = start(graph, sinks={"take": watch}).wait(300)
    assert report.ok, report.errors
    return watch.result()


def with_queue(frames: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    first: Any = context.Queue(4)
    second: Any = context.Queue(4)
    watch = Stopwatch(frames)
    workers = [
        context.Process(target=_queue_make, args=(first, frames)),
        context.Process(target=_queue_pass, args=(first, second, frames)),
    ]
    for worker in workers:
        worker.start()
    for _ in range(frames):
        watch.take(second.get())
    for worker in workers:
        worker.join()
    return watch.result()


def _queue_make(out: Any, frames: int) -> None:
    for frame in Frames(frames).frames():
        out.put(frame.image)


def _queue_pass(inbox: Any, out: Any, frames: int) -> None:
    for _ in range(frames):
        out.put(inbox.get())


def with_imagezmq(frames: int, transport: str = "tcp") -> dict[str, float]:
    import imagezmq

    context = multiprocessing.get_context("spawn")
    watch = Stopwatch(frames)
    with tempfile.TemporaryDirectory() as folder:
        first, second = _addresses(transport, folder)
        workers = [
            context.Process(target=_imagezmq_make, args=(first, frames)),
            context.Process(target=_imagezmq_pass, args=(first, second, frames)),
        ]
        hub = imagezmq.ImageHub(open_port=second)
        for worker in workers:
            worker.start()
        for _ in range(frames):
            _, image = hub.recv_image()
            hub.send_reply()
            watch.take(image)
        for worker in workers:
            worker.join()
        hub.close()
    return watch.result()


def _addresses(transport: str, folder: str) -> tuple[str, str]:
    if transport == "ipc":
        return f"ipc://{folder}/1", f"ipc://{folder}/2"
    free = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free.append(f"tcp://127.0.0.1:{probe.getsockname()[1]}")
    return free[0], free[1]


def _imagezmq_make(address: str, frames: int) -> None:
    import imagezmq

    sender = imagezmq.ImageSender(connect_to=address)
    for frame in Frames(frames).frames():
        sender.send_image("s", frame.image)
    sender.close()


def _imagezmq_pass(inbox: str, out: str, frames: int) -> None:
    import imagezmq

    hub, sender = imagezmq.ImageHub(open_port=inbox), imagezmq.ImageSender(connect_to=out)
    for _ in range(frames):
        name, image = hub.recv_image()
        hub.send_reply()
        sender.send_image(name, image)
    sender.close()
    hub.close()


def soak(frames: int) -> dict[str, float]:
    """Tiny frames, many: resident bytes of all processes after a tenth and at the end."""
    from retain.pipeline.graph import Graph
    from retain.pipeline.run import start

    class Weigh:
        def __init__(self) -> None:
            self.seen, self.early, self.late = 0, 0, 0
            self.began = time.monotonic()

        def process(self, packet: Packet) -> None:
            self.seen += 1
            if self.seen == frames // 10:
                self.early = self.weigh()
            if self.seen == frames:
                self.late = self.weigh()

        def weigh(self) -> int:
            me = psutil.Process()
            return sum(p.memory_info().rss for p in (me, *me.children(recursive=True)))

        def close(self) -> None: ...

    graph, weigh = Graph(), Weigh()
    graph.source("make", "hop:Frames", count=frames, height=8, width=8)
    graph.stage("pass", "hop:PassOn")
    graph.sink("take")
    graph.connect("make", "pass", "take")
    report = start(graph, sinks={"take": weigh}).wait(600)
    assert report.ok, report.errors
    assert weigh.seen == frames
    took = time.monotonic() - weigh.began
    return {"growth": 100 * (weigh.late / weigh.early - 1), "fps": frames / took}


CONTESTANTS = {
    "retain": lambda frames: with_retain(frames, "PassOn"),
    "retain, new pixels": lambda frames: with_retain(frames, "Rewrite"),
    "imagezmq": with_imagezmq,
    "imagezmq, ipc": lambda frames: with_imagezmq(frames, "ipc"),
    "Queue": with_queue,
    "soak": soak,
}


def measure(quick: bool = False) -> list[Row]:
    frames, rounds = (150, 1) if quick else (450, 3)
    seen: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):  # interleaved: the machine's speed drifts
        for name in list(CONTESTANTS)[:-1]:
            seen.setdefault(name, []).append(_one(name, frames))
    flat = _one("soak", 10_000 if quick else 100_000)

    def median(name: str, what: str) -> float:
        return statistics.median(result[what] for result in seen[name])

    rows = []
    for ours in ("retain", "retain, new pixels"):
        how = "passed on" if ours == "retain" else "new pixels each hop"
        for peer, label in (("imagezmq", "imagezmq REQ/REP"), ("Queue", "multiprocessing.Queue")):
            fps, cpu = median(ours, "fps"), median(ours, "cpu_ms")
            peer_fps, peer_cpu = median(peer, "fps"), median(peer, "cpu_ms")
            barred = ours == "retain" and peer == "imagezmq"
            rows += [
                Row(
                    name=f"1080p over 2 hops, {how}",
                    value=fps,
                    unit="frames/s",
                    peer=label,
                    peer_value=peer_fps,
                    ratio=fps / peer_fps,
                    bar=">= 3x" if barred else "",
                    met=fps / peer_fps >= 3 if barred else None,
                ),
                Row(
                    name=f"CPU per frame and hop, {how}",
                    value=cpu,
                    unit="ms",
                    peer=label,
                    peer_value=peer_cpu,
                    ratio=peer_cpu / cpu,
                    bar="<= 0.6 ms" if barred else "",
                    met=cpu <= 0.6 if barred else None,
                ),
            ]
    return [
        *rows,
        Row(
            name="memory growth over 100,000 frames"
            if not quick
            else "memory growth, 10,000 frames",
            value=flat["growth"],
            unit="%",
            bar="< 5 %",
            met=flat["growth"] < 5,
        ),
        Row(name="8x8 frames over 2 hops", value=flat["fps"], unit="frames/s"),
    ]


def _one(name: str, frames: int) -> dict[str, float]:
    """One contestant in a process of its own, so that none inherits another's state."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, str(frames)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(said.splitlines()[-1])
    return result


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(CONTESTANTS[sys.argv[2]](int(sys.argv[3]))))
    else:
        script(measure, "hop")
