"""What the graph of docs/examples/everything.yaml costs: time and CPU per frame, bytes held beside
the budget, what it brings that bytes move, and the state of all of it: size, time to take, time
until another process has gone on.

Wall times are of this machine as loaded as it is; the peer of the graph's rate is the sum of what
its stages take by themselves in the same run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from retain.apps.bench import Row, script
from retain.apps.graphs import load
from retain.pipeline.frame import Image
from retain.pipeline.graph import CALLER, Graph, Node
from retain.pipeline.packet import Packet
from retain.pipeline.results import Held, Pose
from retain.pipeline.run import start

AREA = "apps"
EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
SNAPSHOTS = 5
TIGHT_MB = 10, 12
"""Budgets in which the map of 60 frames has to let something go."""


class Middle:
    """Waits at frame ``at`` until it may go on."""

    def __init__(self, at: int = sys.maxsize) -> None:
        self.at, self.first_s, self.first_cpu_s = at, 0.0, 0.0
        self.here, self.go = threading.Event(), threading.Event()

    def process(self, packet: Packet) -> None:
        if not self.first_s:
            self.first_s, self.first_cpu_s = time.perf_counter(), time.process_time()
        if packet.frame.seq >= self.at:
            self.here.set()
            self.go.wait(60)

    def close(self) -> None: ...


class Pictures:
    """Every sixth picture with its pose, and how many moments were held at the end."""

    def __init__(self) -> None:
        self.seen: list[tuple[Image, np.ndarray]] = []
        self.moments = 0

    def process(self, packet: Packet) -> None:
        self.moments = len(packet.get("held", Held).entries)
        if packet.frame.seq % 6 == 0:
            self.seen.append((packet.frame.image.copy(), packet.get("pose", Pose).c2w))

    def close(self) -> None: ...


def graph(frames: int, **budget: int) -> tuple[Graph, dict[str, int]]:
    mask = str(EXAMPLES / "everything-mask.png")
    changes = {"camera.limit": str(frames), "follow.mask": mask}
    changes |= {f"budget.{name}": str(value) for name, value in budget.items()}
    made, shares = load(EXAMPLES / "everything.yaml", changes)
    made.nodes["log"] = Node("log", "sink", CALLER)
    return made, shares


def measure(quick: bool = False) -> list[Row]:
    frames = 16 if quick else 60
    tight = TIGHT_MB[:1] if quick else TIGHT_MB
    moving = [row for mb in tight for row in _moving(frames, mb)]
    return [*_run(frames), *moving, *_state(frames)]


def _run(frames: int) -> list[Row]:
    made, shares = graph(frames)
    out = Middle()
    cpu = time.process_time()
    with start(made, runner="inline", sinks={"log": out}) as running:
        report = running.wait(600)
    cpu, took = time.process_time() - cpu, time.perf_counter() - out.first_s
    assert report.ok, report.errors
    stages = {node.name: node for node in report.stats.nodes if node.role == "stage"}
    alone = sum(node.service_ms.mean for node in stages.values())
    rate, peer = (frames - 1) / took, 1000 / alone
    held = sum(stages[name].memory_bytes for name in shares)
    assert made.budget is not None
    rows = [
        Row(name=f"{frames} frames of 160x120 through all stages, one process", value=rate,
            unit="frames/s", peer="1 / sum of the stages' means", peer_value=peer,
            ratio=rate / peer),
        Row(name="… CPU of the process, start-up and weights included", value=1000 * cpu / frames,
            unit="ms/frame"),
        Row(name="remembered by all stages at the end", value=held / 1e6, unit="MB",
            peer="budget", peer_value=made.budget.nbytes / 1e6, ratio=made.budget.nbytes / held,
            bar="<= budget", met=held <= made.budget.nbytes),
    ]  # fmt: skip
    for name, share in {**shares, **report.stats.limits}.items():
        mine = stages[name].memory_bytes
        rows.append(
            Row(name=f"… {name}", value=mine / 1e6, unit="MB", peer="its limit",
                peer_value=share / 1e6, ratio=share / mine, bar="<= limit", met=mine <= share)
        )  # fmt: skip
    return rows


def _moving(frames: int, mb: int) -> list[Row]:
    """The same frames, shares fixed and bytes moving: what the map holds then, how it looks from
    where the camera was, and what that costs who lends."""
    fixed, moving = _told(frames, mb, every=0), _told(frames, mb, every=16)
    rows = []
    for name, unit in (
        ("limit of the map", "MB"), ("Gaussians of the map", ""),
        ("Gaussians that went for lack of bytes", ""), ("the map beside the pictures", "dB"),
        ("moments held by watch", ""),
    ):  # fmt: skip
        less = "went" in name
        ratio = fixed[name] / moving[name] if less else moving[name] / fixed[name]
        rows.append(
            Row(name=f"{mb} MB, bytes move: {name}", value=moving[name], unit=unit,
                peer="shares fixed", peer_value=fixed[name], ratio=ratio)
        )  # fmt: skip
    return rows


def _told(frames: int, mb: int, every: int) -> dict[str, float]:
    from retain.datasets.scene.metrics import psnr
    from retain.kernels.rasterize.render import render

    made, shares = graph(frames, mb=mb, every=every)
    out = Pictures()
    with start(made, runner="inline", sinks={"log": out}) as running:
        report = running.wait(600)
    assert report.ok, report.errors
    mapper = running._works["map"]._made.mapper  # type: ignore[attr-defined]
    drawn = mapper.map.read(mapper.stream).gaussians
    looks = [
        psnr(render(drawn, mapper.kind.camera, c2w).color, image / 255) for image, c2w in out.seen
    ]
    counts = mapper.map.stats(mapper.stream)
    return {
        "limit of the map": {**shares, **report.stats.limits}["map"] / 1e6,
        "Gaussians of the map": counts["active"] + counts["stable"],
        "Gaussians that went for lack of bytes": counts["pruned_budget"],
        "the map beside the pictures": float(np.mean(looks)),
        "moments held by watch": out.moments,
    }


def _state(frames: int) -> list[Row]:
    """Of the graph in its middle. Taking it is timed on the run's own thread: what the stream waits
    for it; the smallest of ``SNAPSHOTS``."""
    out = Middle(frames // 2)
    times, copies = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(spare) / "0"
        with start(graph(frames)[0], runner="inline", sinks={"log": out}) as running:
            assert out.here.wait(600)
            write = running._write  # type: ignore[attr-defined]
            for number in range(SNAPSHOTS):  # the thread of the run stands still meanwhile
                began = time.perf_counter()
                write(Path(spare) / str(number))
                times.append(time.perf_counter() - began)
                began = time.perf_counter()
                shutil.copytree(Path(spare) / str(number), Path(spare) / f"copy-{number}")
                copies.append(time.perf_counter() - began)
            out.go.set()
        size = sum(path.stat().st_size for path in folder.iterdir())
        command = [sys.executable, __file__, "--go-on", str(folder), str(frames)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        first_s, cpu_s = map(float, done.stdout.split())
    return [
        Row(name="state of the whole graph", value=size / 1e6, unit="MB"),
        Row(name=f"… taken, least of {SNAPSHOTS}", value=1000 * min(times), unit="ms",
            peer="copying its files", peer_value=1000 * min(copies),
            ratio=min(copies) / min(times)),
        Row(name="… another process: from there to the next result", value=first_s, unit="s"),
        Row(name="… its CPU until then, imports included", value=cpu_s, unit="s"),
    ]  # fmt: skip


def _go_on(folder: str, frames: int) -> None:
    out, began = Middle(), time.perf_counter()
    report = start(graph(frames)[0], runner="inline", sinks={"log": out}, resume=folder).wait(600)
    assert report.ok, report.errors
    print(out.first_s - began, out.first_cpu_s)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--go-on"]:
        _go_on(sys.argv[2], int(sys.argv[3]))
    else:
        script(measure, "everything on one stream")
