"""A camera that walks along a wall of Gaussians, as the packets of `retain reconstruct` tell it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from retain.datasets.splats.splat import to_records
from retain.kernels.geometry import rigid
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Pose, SplatDelta, Tracking, View

STREAM = "room"
FPS = 10
WALL = 400
"""Gaussians of each stretch of the wall."""


def wall(stretch: int) -> NDArray[np.uint8]:
    """Records of a metre of wall, 2 m before the camera: red below, blue above."""
    rng = np.random.default_rng(stretch)
    low, high = np.array([-0.5, -0.7, 2]), np.array([0.5, 0.7, 2.01])
    means = rng.uniform(low, high, (WALL, 3)) + np.array([stretch, 0, 0])
    above = means[:, 1:2] < 0  # y points down
    colors = np.where(above, [0.1, 0.2, 0.9], [0.9, 0.2, 0.1])
    return to_records(
        Gaussians(
            means.astype(np.float32), np.tile(np.float32([1, 0, 0, 0]), (WALL, 1)),
            np.full((WALL, 3), 0.03, np.float32), np.ones(WALL, np.float32),
            colors.astype(np.float32),
        )
    )  # fmt: skip


def delta(epoch: int, stretches: range, *, whole: bool = False) -> SplatDelta:
    records = [wall(stretch) for stretch in stretches]
    ids = [np.arange(stretch * WALL, (stretch + 1) * WALL) for stretch in stretches]
    return SplatDelta(
        epoch, whole, np.zeros(0, np.uint32), np.concatenate(ids).astype(np.uint32),
        np.concatenate(records),
    )  # fmt: skip


def pose(
    c2w: NDArray[np.float64],
    state: Tracking = "tracked",
    *,
    truth: NDArray[np.float64] | None = None,
    keyframe: bool = False,
    stable: int = 0,
    reason: str = "",
    **parts_ms: float,
) -> Pose:
    return Pose(
        state, reason, c2w, 0, np.eye(4), 120 if state == "tracked" else 3, keyframe, False,
        WALL, stable, 30_000 + 60 * stable, 1_000_000, parts_ms or {"track": 8.0, "fuse": 2.0},
        truth,
    )  # fmt: skip


def walk(count: int, *, lost: range = range(0)) -> Iterator[Packet]:
    """A step of 5 cm a frame to the right; a stretch of wall with every tenth frame. The given path
    is in another world, and the estimate leaves it by 1 mm a frame."""
    other = rigid.exp([1.0, 2.0, 3.0, 0.2, 0.9, -0.4])
    for seq in range(count):
        away = seq in lost
        here, there = np.eye(4), np.eye(4)
        here[0, 3], there[0, 3] = 0.05 * seq, 0.049 * seq
        key = seq % 10 == 0 and not away
        told = pose(
            here, "lost" if away else "tracked", truth=other @ there, keyframe=key,
            stable=40 * seq, reason="too few points" if away else "",
        )  # fmt: skip
        image = np.full((48, 64, 3), 20 + seq % 200, np.uint8)
        image[:24] += 25
        results = {"view": View((60.0, 60.0, 32.0, 24.0)), "pose": told}
        packet = Packet(Frame(STREAM, seq, seq, Fraction(1, FPS), image), results)
        yield packet.plus(splats=delta(1 + seq // 10, range(seq // 10, seq // 10 + 1),
                                       whole=seq == 0)) if key else packet  # fmt: skip
