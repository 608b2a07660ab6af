"""What a memory costs torchvision's Faster R-CNN, MobileNetV3 at 320 pixels: time, weights, bytes.

Weights are random: times and sizes do not depend on them as long as there are 150 proposals. Banks
hold 4,000 rows each, so that every read is of its full 2,000; the peer is the same network without
memory. CPU time of one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from retain.apps.bench import Row, script
from retain.datasets.detect.objects import ObjectVideo
from retain.memory.bank.rows import BankWrite
from retain.models.mamba.rcnn.build import ARCHITECTURES, build, coco_names
from retain.models.mamba.rcnn.network import PIXEL, MambaRCNN
from retain.models.mamba.rcnn.stream import RcnnMemory, RcnnMemoryConfig

AREA = "models"
NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"
ROWS = 4_000


def network(name: str = NAME) -> MambaRCNN:
    torch.manual_seed(0)
    # Random weights are sure of nothing; a threshold would leave no proposal.
    base = build(name, 90, rpn_score_thresh=0.0)
    return MambaRCNN(base, coco_names(), ARCHITECTURES[name].levels)


def filled(model: MambaRCNN) -> RcnnMemory:
    memory = RcnnMemory(model, "s", RcnnMemoryConfig(capacity=ROWS, warm=0))
    rng = torch.Generator().manual_seed(1)
    for place in model.geo:
        rows = torch.randn(ROWS, model.layer(place).key.in_features, generator=rng)
        levels = np.arange(ROWS) % len(model.levels) if place == PIXEL else 0
        memory.hub[place].write("s", BankWrite(rows, 0, levels=levels))
    return memory


def measure(quick: bool = False) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_frame(3 if quick else 15), *_weights(), *_bytes()]
    finally:
        torch.set_num_threads(threads)


def _frame(repeats: int) -> Row:
    model, image = network(), ObjectVideo(3, 1, 320, 240)[0].image
    memory, seq = filled(model), iter(range(1, 1_000))
    with_memory, plain = _interleaved(
        lambda: memory.look(image, next(seq)), lambda: model.detect(image), repeats
    )
    return Row(
        name="a frame, read and write",
        value=with_memory * 1e3,
        unit="ms",
        peer="the detector alone",
        peer_value=plain * 1e3,
        ratio=plain / with_memory,
    )


def _weights() -> list[Row]:
    rows = []
    for name in ARCHITECTURES:
        with torch.device("meta"):
            model = network(name)
        layers = sum(p.numel() for p in model.geo.parameters())
        base = sum(v.numel() for k, v in model.state_dict().items() if not k.startswith("geo."))
        rows.append(
            Row(
                name=f"weights of the layers, {name.removeprefix('fasterrcnn_')}",
                value=layers / 1e6,
                unit="M",
                peer="the detector's",
                peer_value=base / 1e6,
            )
        )
    return rows


def _bytes() -> list[Row]:
    model = network()
    rows = []
    for capacity in (20_000, 2_000):
        memory = RcnnMemory(model, "s", RcnnMemoryConfig(capacity=capacity))
        for place in model.geo:
            size = memory.hub[place].nbytes("s") / 1e6
            rows.append(Row(name=f"bank {place}, {capacity} rows", value=size, unit="MB"))
        rows.append(Row(name=f"all, {capacity} rows", value=memory.nbytes / 1e6, unit="MB"))
    return rows


def _interleaved(
    one: Callable[[], object], two: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Best CPU seconds of each, run in turn, so that both see the same machine."""
    best = [math.inf, math.inf]
    for _ in range(repeats):
        for k, run in enumerate((one, two)):
            start = time.thread_time()
            run()
            best[k] = min(best[k], time.thread_time() - start)
    return best[0], best[1]


if __name__ == "__main__":
    script(measure, "mamba_rcnn")
