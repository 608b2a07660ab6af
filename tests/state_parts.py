"""A small everything.yaml, and what it says of a frame in numbers that can be compared closely."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from retain.apps.graphs import load
from retain.pipeline.graph import CALLER, Graph, Node
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Held, Masks, Novelty, Pose, Route

WIDTH, FRAMES, HALF = 64, 8, 3
BUDGET_MB = 9
EVERYTHING = "everything.yaml"


def everything_small(examples: Path, folder: Path) -> Graph:
    """With a sink of the caller; the mask at its size goes to ``folder``."""
    mask = folder / "mask.png"
    with Image.open(examples / "everything-mask.png") as whole:
        whole.resize((WIDTH, WIDTH * 3 // 4), Image.Resampling.NEAREST).save(mask)
    changes = {
        "camera.limit": str(FRAMES),
        "camera.width": str(WIDTH),
        "budget.mb": str(BUDGET_MB),
        "follow.mask": str(mask),
        "follow.side": str(WIDTH),
    }
    graph, _ = load(examples / EVERYTHING, changes)
    graph.nodes["log"] = Node("log", "sink", CALLER)
    return graph


def numbers(packet: Packet) -> dict[str, list[float | None]]:
    """By result: a few numbers that move when anything in it does."""
    said: dict[str, list[float]] = {}
    for name, result in packet.results.items():
        if isinstance(result, Route):
            said[name] = [result.motion, result.curvature, result.score, result.low, result.high]
        elif isinstance(result, Held):
            said[name] = [len(result.entries), result.tokens]
        elif isinstance(result, Boxes):
            said[name] = [len(result.scores), float(np.sum(result.scores))]
        elif isinstance(result, Masks):
            said[name] = (result.probability.mean(axis=(1, 2)) / 255).tolist()
        elif isinstance(result, Pose):
            said[name] = [*result.c2w[:3, 3].tolist(), result.active, result.stable]
        elif isinstance(result, Novelty):
            said[name] = [result.score]
    return {
        name: [None if math.isnan(value) else round(float(value), 6) for value in values]
        for name, values in sorted(said.items())
    }


class Heard:
    """By frame, what came. From frame ``wait_at`` on, each waits for ``go``."""

    def __init__(self, wait_at: int = 10**9) -> None:
        self.said: dict[int, dict[str, list[float | None]]] = {}
        self.here, self.go, self._wait_at = threading.Event(), threading.Event(), wait_at

    def process(self, packet: Packet) -> None:
        self.said[packet.frame.seq] = numbers(packet)
        if packet.frame.seq >= self._wait_at:
            self.here.set()
            self.go.wait(60)

    def close(self) -> None: ...
