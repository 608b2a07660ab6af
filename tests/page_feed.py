"""A watched stream without models: real routing and a real memory over a cheap picture feature."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.memory.hub import Hub
from retain.pipeline.frame import Frame, Image
from retain.pipeline.metrics import EdgeStats, GraphStats, NodeStats, RunState, Spread, join
from retain.pipeline.packet import Packet

VIDEO = Path(__file__).parents[2] / "shared/data/video/vtest.avi"
STREAM = "feed"
FPS = 10


class Feed:
    """Packets as the watch graph makes them, and the memory they leave behind."""

    def __init__(self, entries: int = 12, tokens: int = 6000) -> None:
        config = FrameMemoryConfig(dim=192, max_entries=entries, token_budget=tokens)
        self.memory = FrameMemory(config)
        self.hub = Hub(config.byte_budget, STREAM)
        self.hub.add("frames", self.memory)

    def packets(self, count: int, real: bool = False, skip: int = 0) -> Iterator[Packet]:
        """``count`` frames of a real street (``real``) or of drawn scenes; every ``skip``-th one
        is lost on the way."""
        pictures = street(count) if real else scenes(count)
        for seq, image in enumerate(pictures):
            frame = Frame(STREAM, seq, seq, Fraction(1, FPS), image)
            if skip and seq % skip == skip - 1:
                continue
            route, held = self.memory.observe(STREAM, frame, feature(image))
            yield Packet(frame).plus(route=route, held=held)

    def save(self, path: Path) -> None:
        self.hub.snapshot(path)


def feature(image: Image) -> np.ndarray:
    """float32 [192]: an 8x8 colour thumbnail around its mean."""
    small = cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32)
    return (small - small.mean()).reshape(-1)


def street(count: int) -> Iterator[Image]:
    video = cv2.VideoCapture(str(VIDEO))
    for _ in range(count):
        good, bgr = video.read()
        if not good:
            break
        yield np.ascontiguousarray(bgr[:, :, ::-1])
    video.release()


def scenes(count: int, width: int = 320, height: int = 180) -> Iterator[Image]:
    """A ball over a plain ground; the ground's colour changes with each scene of 25 frames."""
    rng = np.random.default_rng(7)
    for seq in range(count):
        scene, phase = divmod(seq, 25)
        ground = np.random.default_rng(scene).integers(40, 200, 3)
        image = np.full((height, width, 3), ground, np.uint8)
        at = (20 + 11 * phase, 60 + (37 * scene) % 80)
        cv2.circle(image, at, 22, (250, 240, 90), -1)
        noise = rng.integers(0, 6, image.shape, dtype=np.uint8)
        yield image + noise


class FakeRun:
    """Counts of a graph that has worked on ``frames`` frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.uptime_s = 0.0
        self.state: RunState = "running"
        self.lost = 0

    def stats(self) -> GraphStats:
        names = [("source", "source"), ("encode", "stage"), ("remember", "stage"), ("page", "sink")]
        nodes = [
            NodeStats(
                name,
                role,
                state="running" if self.state == "running" else "done",
                received=0 if role == "source" else self.frames,
                sent=self.frames,
                service_ms=Spread(3.1 + i, 2.9 + 4 * i, 6.4 + 5 * i, 30.0),
                age_ms=Spread(8.0, 7.0 + 6 * i, 14.0 + 12 * i, 60.0),
                memory_bytes=4_812_331 if name == "remember" else 0,
                cpu_s=self.uptime_s * (0.2 + 0.21 * i),
                rss_bytes=(180 + 40 * i) << 20,
            )
            for i, (name, role) in enumerate(names)
        ]
        pairs = pairwise(names)
        edges = [
            EdgeStats(a, b, "block", self.frames + 2, self.frames, {}, 2, 2 * 1_327_104)
            for (a, _), (b, _) in pairs
        ]
        if self.lost:
            edges[0] = EdgeStats(
                "source",
                "encode",
                "latest",
                self.frames + self.lost,
                self.frames,
                {"stale": self.lost},
            )
        return join("watch", self.state, self.uptime_s, nodes, edges)
