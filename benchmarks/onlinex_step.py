"""What a frame costs OnlineX on a CPU: the network's step, its state, fusion into the map; and what
its matches know of motion before they are trained.

CPU time of one thread, least of several, random weights (time does not depend on them). Peers: the
same network with the dense state of CUT3R in place of the anchors; its own 100th frame; the map
to which Gaussians are only appended; a camera that is taken to stand still.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retain.apps.bench import Row, script
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.network import OnlineX, State
from retain.models.onlinex.scenes import SceneConfig, draw
from retain.models.onlinex.types import inverse

AREA = "models"
SIZES: dict[str, tuple[Callable[..., OnlineXConfig], float]] = {
    "tiny, 64 pixels": (OnlineXConfig.tiny, 15.0),
    "small, 128 pixels": (OnlineXConfig.small, 5.0),
}
"""Configuration, and the frames per second that it has to reach."""


def measure(*, quick: bool) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            timed = [row for name in SIZES for row in rows(name, 5 if quick else 20)]
            return [*timed, *motion(4 if quick else 16)]
    finally:
        torch.set_num_threads(threads)


def rows(name: str, repeats: int) -> list[Row]:
    make, bar = SIZES[name]
    anchor, single = (network(make(director=kind)) for kind in ("anchor", "single"))
    frame = picture(anchor.config)
    early, ours, dense = 1e9, 1e9, 1e9
    young, old, other = played(anchor, 2), played(anchor, 100), played(single, 2)
    for _ in range(repeats):  # in turns: what else the machine does meets all alike
        early = min(early, spent(lambda: anchor.step(*frame, young)))
        ours = min(ours, spent(lambda: anchor.step(*frame, old)))
        dense = min(dense, spent(lambda: single.step(*frame, other)))
    held = sum(v.numel() * v.element_size() for v in old.tensors().values())
    rate, blind = 1 / ours, network(make(matched=False))
    rest = min(spent(lambda: blind.step(*frame, young)) for _ in range(repeats))
    return [
        Row(name=f"{name}: frames per second and core", value=rate, unit="1/s",
            peer="dense state", peer_value=1 / dense, ratio=dense / ours, bar=f">= {bar:g}/s",
            met=rate >= bar),
        Row(name=f"{name}: without matches", value=1 / rest, unit="1/s"),
        Row(name=f"{name}: 100th frame", value=1e3 * ours, unit="ms CPU", peer="second frame",
            peer_value=1e3 * early, ratio=early / ours, bar=">= 0.8x", met=early / ours >= 0.8),
        Row(name=f"{name}: state", value=held / 1024, unit="KiB"),
        fusion(name, anchor, repeats),
    ]  # fmt: skip


def fusion(name: str, model: OnlineX, repeats: int) -> Row:
    """A frame into a map of 16 frames that saw other things."""
    plain = network(model.config.__class__.from_json({**model.config.as_json(), "fusion": False}))
    out, _ = model.step(*picture(model.config), model.begin())
    known, kept = model.fuse(None, out), plain.fuse(None, out)
    for shift in range(1, 16):
        out.global_.centres.add_(20.0 * shift)
        known, kept = model.fuse(known, out), plain.fuse(kept, out)
    out.global_.centres.sub_(20.0 * 15 * 8)
    merged = append = 1e9
    for _ in range(repeats):
        merged = min(merged, spent(lambda: model.fuse(known, out)))
        append = min(append, spent(lambda: plain.fuse(kept, out)))
    return Row(name=f"{name}: fuse a frame", value=1e3 * merged, unit="ms CPU",
               peer="append it", peer_value=1e3 * append, ratio=append / merged)  # fmt: skip


def motion(rooms: int) -> list[Row]:
    """Pairs of generated rooms, true depths: the median error of the relative pose."""
    batch = draw(SceneConfig(rooms=rooms, frames=8), 8 * rooms, 2, 0)
    matches = network(OnlineXConfig.tiny()).matches
    assert matches is not None
    depth = torch.nn.functional.avg_pool2d(batch.depth[:, 1], matches.stride).flatten(1)
    found = matches.align(matches(batch.images[:, 1], batch.images[:, 0]), depth, batch.K)
    true = inverse(batch.c2w[:, 0]) @ batch.c2w[:, 1]
    still = torch.eye(4).expand_as(true)
    return [
        Row(name=f"before training, true depths: {what}", value=ours, unit=unit,
            peer="no motion", peer_value=none, ratio=none / ours, bar=">= 2x", met=none >= 2 * ours)
        for what, unit, ours, none in (
            ("shift, median", "cm", 100 * shift(found, true), 100 * shift(still, true)),
            ("turn, median", "degrees", turn(found, true), turn(still, true)),
        )
    ]  # fmt: skip


def shift(found: Tensor, true: Tensor) -> float:
    return float((found[:, :3, 3] - true[:, :3, 3]).norm(dim=-1).median())


def turn(found: Tensor, true: Tensor) -> float:
    between = found[:, :3, :3].mT @ true[:, :3, :3]
    cosine = (between.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2
    return math.degrees(float(cosine.clamp(-1, 1).acos().median()))


def network(config: OnlineXConfig) -> OnlineX:
    torch.manual_seed(0)
    return OnlineX(config).eval()


def picture(config: OnlineXConfig) -> tuple[Tensor, Tensor]:
    side = config.side
    K = torch.tensor([[0.8 * side, 0, side / 2], [0, 0.8 * side, side / 2], [0, 0, 1]])
    noise = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, side, side, generator=noise), K[None]


def played(model: OnlineX, frames: int) -> State:
    state = model.begin()
    for _ in range(frames):
        _, state = model.step(*picture(model.config), state)
    return state


def spent(work: Callable[[], Any]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


if __name__ == "__main__":
    script(measure, "OnlineX on a CPU")
