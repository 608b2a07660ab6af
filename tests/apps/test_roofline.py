"""The arithmetic behind docs/performance.md, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from retain.apps import bench

roofline: Any = bench.load("roofline")
counted: Any = bench.load("_roofline_kernels")
frames: Any = bench.load("frame_time")
MIB = 1 << 20
ROOFS = roofline.Roofs(100e9, 50e9, {"core's cache": 80e9, "shared cache": 40e9, "memory": 20e9})


def kernel(flops: float, nbytes: float, **own: Any) -> Any:
    return counted.Kernel("k", flops, nbytes, lambda: None, **own)


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (kernel(1e9, 1e5), (0.01, "arithmetic")),
        (kernel(1e9, 1e5, wide=True), (0.02, "arithmetic")),
        (kernel(1.0, 0.5 * MIB), (0.5 * MIB / 80e9, "core's cache")),
        (kernel(1.0, 8 * MIB), (8 * MIB / 40e9, "shared cache")),
        (kernel(1.0, 400 * MIB), (400 * MIB / 20e9, "memory")),
    ],
)
def test_a_floor_is_the_larger_of_computing_and_moving(one: Any, wanted: tuple[float, str]) -> None:
    seconds, bound = ROOFS.floor(one)
    assert (seconds, bound) == (pytest.approx(wanted[0]), wanted[1])


def test_the_roofs_are_the_best_that_was_seen() -> None:
    other = roofline.Roofs(90e9, 60e9, dict.fromkeys(ROOFS.bandwidth, 30e9))
    best = roofline.best_of(ROOFS, other)
    assert (best.single, best.double) == (100e9, 60e9)
    assert best.bandwidth == {"core's cache": 80e9, "shared cache": 40e9, "memory": 30e9}


def test_a_frame_of_gated_delta_by_hand() -> None:
    """Two key channels, three value channels, one head, five cells."""
    flops, nbytes = counted.gated_delta_cost(2, 3, 1, 5)
    products = 2 * (2 * 2 * 5) + 2 * (2 * 3 * 5) + 2 * (2 * 2 * 3) + 2 * (2 * 3 * 5)
    assert flops == products + 2 * (4 * 3 + 6 * 3 + 5)
    assert nbytes == 4 * (2 * 2 * 3 + 2 * 5 + 2 * 3 * 5)


def test_a_convolutions_operations_by_hand() -> None:
    from retain.models.encoders.mobile import InvertedResiduals, _Convolution

    network = InvertedResiduals.__new__(InvertedResiduals)
    weight, bias = torch.ones(4, 3, 3, 3), torch.zeros(4)
    network.blocks = [([_Convolution(weight, bias, 2, (1, 1), True)], False)]
    made, flops = counted._convolved(network, torch.ones(1, 3, 8, 8))
    assert flops == 2 * 27 * 4 * 4 * 4
    assert made.shape == (1, 4)


def test_rows_that_are_blended_are_counted_in_the_scene() -> None:
    """One Gaussian over half of the rows of one tile of two."""
    tiles = counted.raster.Tiles(
        np.zeros(1, np.int32), np.array([0, 1, 1], np.int32), np.zeros(1, np.int32),
        np.zeros(1, np.int32), np.array([0, 1], np.int32),
    )  # fmt: skip
    #                    x    y    curve shear fall peak half
    splat = np.array([[8.0, 4.0, 0.01, 0.0, 0.01, 0.0, 4.0, 0.0]], np.float32)
    reached = np.ones((16, 32), np.int32)
    picture = counted.raster.Picture(reached, reached, reached, tiles, splat)
    assert counted._rows_blended(picture, 32, 16) == (8, 8)
    faint = splat.copy()
    faint[0, 5] = -9.0  # 2^-9 is less than 1/255
    assert counted._rows_blended(picture._replace(splats=faint), 32, 16) == (8, 0)


def test_parts_of_a_frame_do_not_count_what_is_inside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(np.arange(0.0, 1000.0))  # a second passes between two looks
    monkeypatch.setattr(frames.time, "thread_time", lambda: next(clock))
    monkeypatch.setattr(frames, "FIRST", 1)
    watch = frames.Stopwatch()
    inner = watch.timed("inner", lambda: watch.tick())
    outer = watch.timed("outer", lambda: inner())
    for _ in range(3):
        outer()
    # Each time: outer from 0 to 3, inner from 1 to 2, then a look at the end of the frame.
    assert watch.frames == 3
    assert watch.ms() == {"outer": 2000.0, "inner": 1000.0, "source": 2000.0}
