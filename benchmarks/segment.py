"""Frames per second of the echo network and of the whole segment stage, on a real clip."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from retain.apps.bench import Row, script
from retain.models.gdkvm import weights
from retain.models.gdkvm.network import Gdkvm, PerFrame
from retain.models.gdkvm.stage import Segment
from retain.pipeline.packet import Packet
from retain.pipeline.sources.dicom import DicomSource

AREA = "models"
PAPER = 37.0
"""Frames per second the paper states, on an RTX 3090."""


def measure(quick: bool = False) -> list[Row]:
    """On two threads, as the bar is stated; best of several runs, the machine being shared."""
    import pydicom.data

    repeats = 2 if quick else 5
    path = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
    frames = list(DicomSource(str(path)).frames())
    model = weights.load("mini")
    peer = PerFrame(model.config)
    peer.load_state_dict(model.state_dict())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ours = _best(lambda: _network(model, 60), repeats) * 60
        without = _best(lambda: _network(peer.eval(), 60), repeats) * 60
        stage = _best(lambda: _stage(frames), repeats) * len(frames)
    finally:
        torch.set_num_threads(before)
    return [
        Row(
            name="network, cavity, 112x112",
            value=ours,
            unit="frames/s",
            peer="the paper on an RTX 3090",
            peer_value=PAPER,
            ratio=ours / PAPER,
            bar=">= 37",
            met=ours >= PAPER,
        ),
        Row(
            name="… without a past (U-Net of the same cost)",
            value=without,
            unit="frames/s",
            peer="network",
            peer_value=ours,
            ratio=without / ours,
        ),
        Row(
            name="segment stage, 240x320 DICOM: fan, levels, network, state",
            value=stage,
            unit="frames/s",
            peer="the clip's own rate",
            peer_value=30.0,
            ratio=stage / 30.0,
        ),
    ]


def _network(model: Gdkvm, count: int) -> None:
    picture = torch.rand(1, 1, model.config.grid, model.config.grid)
    with torch.inference_mode():
        state = model.start(1)
        for i in range(count):
            _, state = model.step(model.describe(picture), state, first=i == 0)


def _stage(frames: list) -> None:  # type: ignore[type-arg]
    stage = Segment(threads=2)
    for frame in frames:
        for _ in stage.process(Packet(frame)):
            pass


def _best(job: Callable[[], None], repeats: int) -> float:
    """Jobs per second, of the fastest run."""
    seconds = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        seconds = min(seconds, time.perf_counter() - start)
    return 1 / seconds


if __name__ == "__main__":
    script(measure, "segment")
