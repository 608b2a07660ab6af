"""What it costs to hand a 1080p frame from process to process.

Three processes, two hops: one makes frames, one passes them on, one takes them. The peers
(``_hop_peers.py``) do the same with imagezmq and multiprocessing.Queue. CPU time is that of all
three processes between the first and the last measured frame.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from _hop_peers import SHAPE, images, with_imagezmq, with_queue

from retain.apps.bench import Row, script
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.stage import SourceInfo

AREA = "runtime"
HOPS = 2
WARM_UP = 200
"""Frames before the clocks start: every slot of the ring has been touched by then."""
PACE_S = 1 / 60


class Frames:
    """Pictures as a source."""

    def __init__(self, count: int, pace_s: float) -> None:
        self.count, self.pace_s = count, pace_s

    def open(self) -> SourceInfo:
        return SourceInfo("finite", "benchmark")

    def frames(self) -> Iterator[Frame]:
        for seq, image in enumerate(images(self.count, self.pace_s)):
            yield Frame("s", seq, seq, Fraction(1, 30), image)

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
        self.ages: list[float] = []

    def take(self, image: np.ndarray, made_ns: int) -> None:
        self.ages.append((time.monotonic_ns() - made_ns) / 1e6)
        assert image[5, 5, 0] == self.seen % 4
        self.seen += 1
        if self.seen == WARM_UP:
            self.started = self.now()
        if self.seen == self.frames:
            self.ended = self.now()

    def process(self, packet: Packet) -> None:
        self.take(packet.frame.image, packet.frame.t_arrival_ns)

    def close(self) -> None: ...

    def now(self) -> tuple[float, float]:
        me = psutil.Process()
        times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
        return time.monotonic(), sum(t.user + t.system for t in times)

    def result(self) -> dict[str, float]:
        count = self.frames - WARM_UP
        wall, cpu = (b - a for a, b in zip(self.started, self.ended, strict=True))
        ages = sorted(self.ages[WARM_UP:])
        return {
            "fps": count / wall,
            "cpu_ms": 1e3 * cpu / count / HOPS,
            "p50_ms": ages[len(ages) // 2] / HOPS,
            "p95_ms": ages[int(0.95 * len(ages))] / HOPS,
        }


def with_retain(frames: int, pace_s: float, stage: str = "PassOn") -> dict[str, float]:
    from retain.pipeline.graph import Graph
    from retain.pipeline.run import start

    graph, watch = Graph(), Stopwatch(frames)
    graph.source("make", "hop:Frames", count=frames, pace_s=pace_s)
    graph.stage("pass", f"hop:{stage}")
    graph.sink("take")
    graph.connect("make", "pass", "take")
    running = start(graph, sinks={"take": watch})
    report = running.wait(300)
    assert report.ok, report.errors
    return watch.result()


def of_peer(peer: Callable[..., None], frames: int, pace_s: float) -> dict[str, float]:
    watch = Stopwatch(frames)
    peer(frames, pace_s, watch.take)
    return watch.result()


CONTESTANTS: dict[str, Callable[[int, float], dict[str, float]]] = {
    "retain": with_retain,
    "retain, new pixels": partial(with_retain, stage="Rewrite"),
    "imagezmq": partial(of_peer, with_imagezmq),
    "imagezmq, ipc": partial(of_peer, partial(with_imagezmq, transport="ipc")),
    "Queue": partial(of_peer, with_queue),
}
PEERS = {
    "imagezmq": "imagezmq, tcp",
    "imagezmq, ipc": "imagezmq, ipc",
    "Queue": "multiprocessing.Queue",
}


def measure(quick: bool = False) -> list[Row]:
    frames, rounds = (400, 1) if quick else (1000, 3)
    fast: dict[str, list[dict[str, float]]] = {}
    paced: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):  # interleaved: the machine's speed drifts
        for name in CONTESTANTS:
            fast.setdefault(name, []).append(_one(name, frames, 0.0))
            paced.setdefault(name, []).append(_one(name, WARM_UP + 150, PACE_S))

    def median(seen: dict[str, list[dict[str, float]]], name: str, what: str) -> float:
        return statistics.median(result[what] for result in seen[name])

    rows = [Row(name="a bare copy of one frame: the floor", value=copy_ms(), unit="ms CPU")]
    for peer, label in PEERS.items():
        documented = peer == "imagezmq"
        for ours, how in (("retain", "passed on"), ("retain, new pixels", "new pixels each hop")):
            fps, peer_fps = median(fast, ours, "fps"), median(fast, peer, "fps")
            barred = documented and ours == "retain"
            rows.append(
                Row(
                    name=f"1080p over 2 hops, {how}",
                    value=fps,
                    unit="frames/s",
                    peer=label,
                    peer_value=peer_fps,
                    ratio=fps / peer_fps,
                    bar=">= 3x" if barred else "",
                    met=fps / peer_fps >= 3 if barred else None,
                )
            )
        for what, name, seen in (
            ("cpu_ms", "CPU per frame and hop", fast),
            ("p50_ms", "latency per hop at 60 frames/s, median", paced),
            ("p95_ms", "latency per hop at 60 frames/s, p95", paced),
        ):
            value, peer_value = median(seen, "retain", what), median(seen, peer, what)
            barred = documented and what == "cpu_ms"
            rows.append(
                Row(
                    name=name,
                    value=value,
                    unit="ms",
                    peer=label,
                    peer_value=peer_value,
                    ratio=peer_value / value,
                    bar="<= 0.6 ms" if barred else "",
                    met=value <= 0.6 if barred else None,
                )
            )
    return rows


def copy_ms() -> float:
    """CPU time of copying one frame from memory to memory: of two hops, one must copy."""
    slots = np.zeros((8, *SHAPE), np.uint8)
    times = []
    for seq, image in enumerate(images(200, 0.0)):
        began = time.process_time()
        np.copyto(slots[seq % 8], image)
        times.append(time.process_time() - began)
    return 1e3 * statistics.median(times)


def _one(name: str, frames: int, pace_s: float) -> dict[str, float]:
    """One contestant in a process of its own, so that none inherits another's state."""
    command = [sys.executable, __file__, "--one", name, str(frames), str(pace_s)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(said.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parent))
    if sys.argv[1:2] == ["--one"]:
        name, frames, pace_s = sys.argv[2:5]
        print(json.dumps(CONTESTANTS[name](int(frames), float(pace_s))))
    else:
        script(measure, "hop")
