"""How near each kernel comes to what this machine can do: its floors, measured in the same run.

The roofs: the best product of the BLAS on one thread (float32, float64), and the better bandwidth
of a = b and of a = b + s c, on arrays of the sizes of a core's cache, of a shared one, and of
memory. A kernel of so many operations and bytes (counted, ``_roofline_kernels.py``) cannot take
less than the larger of operations / peak and bytes / bandwidth, with the bandwidth of the smallest
arrays that would hold what it touches. ``ratio`` is that floor over its time: 1 would be the
machine's limit. On a machine with CUDA the same is measured for those kernels that run there.

`python benchmarks/roofline.py --picture FILE.webp` draws it.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parent))

from _roofline_kernels import Kernel, kernels

from retain.apps.bench import Row, script

AREA = "kernels"
FOOTPRINTS = {"core's cache": 3 << 18, "shared cache": 3 << 22, "memory": 3 << 26}
"""Bytes of the three arrays whose bandwidth is measured."""
PRODUCTS = (256, 512, 1024)
BATCH_S = 0.004
"""Kernels are run so often at a time that the clock's steps do not matter."""


@dataclass(frozen=True)
class Roofs:
    """What the machine can do. Operations and bytes a second."""

    single: float
    double: float
    bandwidth: dict[str, float]
    """By the names of ``FOOTPRINTS``."""

    def level(self, kernel: Kernel) -> str:
        """The nearest memory that holds what the kernel touches."""
        fits = [name for name, size in FOOTPRINTS.items() if kernel.nbytes <= size]
        return (fits or list(FOOTPRINTS)[-1:])[0]

    def floor(self, kernel: Kernel) -> tuple[float, str]:
        """Seconds that the kernel needs at least, and what bounds it."""
        computing = kernel.flops / (self.double if kernel.wide else self.single)
        level = self.level(kernel)
        moving = kernel.nbytes / self.bandwidth[level]
        return (computing, "arithmetic") if computing >= moving else (moving, level)


@dataclass(frozen=True)
class Point:
    """One kernel, timed."""

    kernel: Kernel
    seconds: float


def measured(device: str, *, quick: bool) -> tuple[Roofs, list[Point]]:
    """On one thread. Roofs are taken before and after, and the better counts."""
    threads, repeats = torch.get_num_threads(), 3 if quick else 15
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            before = roofs(device, repeats)
            points = [Point(k, seconds(k.run, device, repeats)) for k in kernels(device)]
            return best_of(before, roofs(device, repeats)), points
    finally:
        torch.set_num_threads(threads)


def roofs(device: str, repeats: int) -> Roofs:
    peaks = dict.fromkeys((torch.float32, torch.float64), 0.0)
    for kind, n in itertools.product(peaks, PRODUCTS):
        a, b = torch.rand(2, n, n, dtype=kind, device=device).unbind()
        took = seconds(lambda a=a, b=b: torch.mm(a, a, out=b), device, repeats)
        peaks[kind] = max(peaks[kind], 2 * n**3 / took)
    bandwidth = {}
    for name, size in FOOTPRINTS.items():
        a, b, c = torch.ones(3, size // 12, device=device).unbind()
        triad = seconds(lambda a=a, b=b, c=c: torch.add(b, c, alpha=1.5, out=a), device, repeats)
        copy = seconds(lambda a=a, b=b: a.copy_(b), device, repeats)
        bandwidth[name] = size * max(1 / triad, 2 / 3 / copy)
    return Roofs(peaks[torch.float32], peaks[torch.float64], bandwidth)


def best_of(one: Roofs, two: Roofs) -> Roofs:
    return Roofs(
        max(one.single, two.single),
        max(one.double, two.double),
        {name: max(one.bandwidth[name], two.bandwidth[name]) for name in FOOTPRINTS},
    )


def seconds(run: Callable[[], object], device: str, repeats: int) -> float:
    """Least processor time of one run; on CUDA the least time between two events."""
    if device != "cpu":
        return _cuda_seconds(run, repeats)
    run()
    began = time.thread_time()
    run()
    times = max(1, int(BATCH_S / max(time.thread_time() - began, 1e-7)))
    best = float("inf")
    for _ in range(repeats):
        began = time.thread_time()
        for _ in range(times):
            run()
        best = min(best, (time.thread_time() - began) / times)
    return best


def _cuda_seconds(run: Callable[[], object], repeats: int, times: int = 20) -> float:
    run()
    best = float("inf")
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(times):
            run()
        end.record()
        torch.cuda.synchronize()
        best = min(best, start.elapsed_time(end) / 1000 / times)
    return best


def measure(quick: bool = False, picture: Path | None = None) -> list[Row]:
    rows = []
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        found, points = measured(device, quick=quick)
        rows += table(found, points, "" if device == "cpu" else f"{device}: ")
        if picture is not None and device == "cpu":
            from _roofline_picture import draw

            draw(found, points, picture)
    return rows


def table(found: Roofs, points: list[Point], where: str) -> list[Row]:
    rows = [
        Row(name=f"{where}BLAS, float32", value=found.single / 1e9, unit="GFLOP/s"),
        Row(name=f"{where}BLAS, float64", value=found.double / 1e9, unit="GFLOP/s"),
    ]
    for name, bandwidth in found.bandwidth.items():
        rows.append(Row(name=f"{where}bandwidth, {name}", value=bandwidth / 1e9, unit="GB/s"))
    for point in points:
        kernel = point.kernel
        least, bound = found.floor(kernel)
        rows.append(
            Row(
                name=f"{where}{kernel.name}: {kernel.flops / 1e6:.3g} MFLOP, "
                f"{kernel.nbytes / 1e6:.3g} MB",
                value=1e6 * point.seconds,
                unit="us",
                peer=f"floor: {bound}",
                peer_value=1e6 * least,
                ratio=least / point.seconds,
            )
        )
    return rows


if __name__ == "__main__":
    script(measure, "roofline")
