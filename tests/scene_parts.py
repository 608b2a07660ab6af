"""Tiny rooms as shots and packets, and what a stage made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache

import msgspec
import numpy as np

from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.datasets.scene.views import view_of
from retain.models.scene.stage import Reconstruct
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Pose

SMALL, LARGE = (96, 72), (160, 120)


@cache
def room(
    count: int, size: tuple[int, int] = SMALL, frames: int = 150, seed: int = 1, **options: bool
) -> tuple[Shot, ...]:
    """The first ``count`` shots of a room of ``frames``."""
    made = Room(seed, frames, *size, **options)
    return tuple(made[i] for i in range(count))


def covered(shot: Shot) -> Shot:
    """A hand over the lens."""
    return replace(shot, image=np.zeros_like(shot.image), depth=None, labels=None)


def packet(shot: Shot, stream: str = "room") -> Packet:
    frame = Frame(stream, shot.seq, shot.seq, Fraction(1, 30), shot.image)
    return Packet(frame, {"view": view_of(shot)})


def packets(shots: Iterable[Shot]) -> Iterator[Packet]:
    return (packet(shot) for shot in shots)


def look(stage: Reconstruct, shots: Iterable[Shot]) -> list[Pose]:
    """What the stage says of each shot."""
    said = []
    for given in packets(shots):
        out = stage.process(given)
        assert out is not None
        said.append(out.get("pose", Pose))
    return said


def told(poses: Iterable[Pose]) -> bytes:
    """Every number of ``poses`` but the times."""
    plain = [msgspec.structs.asdict(msgspec.structs.replace(p, parts_ms={})) for p in poses]
    for pose in plain:
        for name in ("c2w", "local", "truth"):
            if pose[name] is not None:
                pose[name] = pose[name].tobytes()
    return msgspec.msgpack.encode(plain)


def map_bytes(stage: Reconstruct) -> bytes:
    """The whole map, bit for bit."""
    assert stage.mapper is not None
    state = stage.mapper.map.snapshot(stage.mapper.stream)
    parts = [str(sorted(state.header.items())).encode()]
    parts += [name.encode() + state.tensors[name].tobytes() for name in sorted(state.tensors)]
    return b"".join(parts)
