"""What drawing 3D Gaussians costs on a CPU, and the gradients, against the dense definition.

Times are of one thread, as the processor counts them: on a machine with other work they hold, and
two idle cores need about half. ``garden`` stands in for the micro-benchmark of gsplat (138,766
points of the garden scene at 648x420): as many Gaussians and pixels, three quarters of them in the
picture, log-normal depths, scales uniform to 0.01. At opacity 0.7 a tile has 280 Gaussians on
average and a pixel ends after 190; at 0.1 it has 230 and none ends. ``thick`` has scales to 0.02
and opacity 0.1: 440 for a tile, 99% of the light taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retain.apps.bench import Row, script
from retain.kernels.rasterization import rasterization
from retain.kernels.rasterize import reference

AREA = "kernels"
Scene = dict[str, Any]
BAR = 20.0
"""Times faster than the definition."""


def cloud(
    n: int, width: int, height: int, scale: float, opacity: float | None, channels: int = 3
) -> Scene:
    """``n`` Gaussians, three quarters of them in the picture; opacities 0.1 to 0.9 if None."""
    rng = torch.Generator().manual_seed(0)
    focal = 0.74 * width
    depth = (0.5 + 0.6 * torch.randn(n, generator=rng)).exp()
    across, down = (torch.rand(2, n, generator=rng) - 0.5) * 1.2
    K = [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]
    opacities = 0.1 + 0.8 * torch.rand(n, generator=rng)
    return {
        "means": torch.stack([across * width / focal, down * height / focal, depth.new_ones(n)], -1)
        * depth[:, None],
        "quats": torch.randn(n, 4, generator=rng),
        "scales": scale * torch.rand(n, 3, generator=rng),
        "opacities": opacities if opacity is None else torch.full((n,), opacity),
        "colors": torch.rand(n, channels, generator=rng),
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([K]),
        "width": width,
        "height": height,
    }


def trained(scene: Scene) -> tuple[Scene, list[Tensor]]:
    """With gradients wanted of everything that can have them."""
    names = ("means", "quats", "scales", "opacities", "colors", "viewmats")
    leaves = {name: scene[name].clone().requires_grad_() for name in names}
    return scene | leaves, list(leaves.values())


def forward(draw: Callable[..., Any], scene: Scene) -> None:
    with torch.no_grad():
        draw(**scene, render_mode="RGB+D")


def both(draw: Callable[..., Any], scene: Scene) -> None:
    wanted, leaves = trained(scene)
    image, alpha, _ = draw(**wanted, render_mode="RGB+D")
    torch.autograd.grad([image, alpha], leaves, [torch.ones_like(image), torch.ones_like(alpha)])


def check(scene: Scene) -> None:
    """The definition, in float64, must agree before anything is timed."""
    wide = {k: v.double() if isinstance(v, Tensor) else v for k, v in scene.items()}
    ours, truth = rasterization(**scene)[0], reference.rasterization(**wide)[0]
    # Single pixels may be off by 1/255, where an alpha is that to the last bit.
    assert float((ours - truth).abs().mean()) < 1e-5


def seconds(runs: list[Callable[[], None]], repeats: int) -> list[float]:
    """Least processor time of each, run in turn, so that all see the same machine."""
    best = [math.inf] * len(runs)
    for _ in range(repeats):
        for k, run in enumerate(runs):
            start = time.process_time()
            run()
            best[k] = min(best[k], time.process_time() - start)
    return best


def measure(quick: bool = False) -> list[Row]:
    """Milliseconds of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _against_the_definition(2 if quick else 4) + _alone(2 if quick else 7)
    finally:
        torch.set_num_threads(threads)


def _against_the_definition(repeats: int) -> list[Row]:
    scene = cloud(1000, 128, 96, 0.05, None)
    check(scene)
    rows = []
    for name, run in (("forward", forward), ("forward and backward", both)):
        ours, dense = seconds(
            [lambda: run(rasterization, scene), lambda: run(reference.rasterization, scene)],  # noqa: B023
            repeats,
        )
        rows.append(
            Row(
                name=f"{name}, 1,000 at 128x96",
                value=ours * 1e3,
                unit="ms",
                peer="dense torch",
                peer_value=dense * 1e3,
                ratio=dense / ours,
                bar=f">= {BAR:g}x",
                met=dense / ours >= BAR,
            )
        )
    return rows


def _alone(repeats: int) -> list[Row]:
    garden = (138_766, 648, 420)
    rows = []
    for name, scene in (
        ("garden, opacity 0.7", cloud(*garden, 0.01, 0.7)),
        ("garden, opacity 0.1", cloud(*garden, 0.01, 0.1)),
        ("garden, thick", cloud(*garden, 0.02, 0.1)),
    ):
        one, two = seconds([_runs(forward, scene), _runs(both, scene)], repeats)
        rows += [
            _row(f"forward, {name}", one, 120),
            _row(f"backward, {name}", two - one, 240),
        ]
    for name, channels, bar in (
        ("forward and backward, 50,000 at 320x240", 3, 70),
        ("the same, 16 channels", 16, None),
        ("the same, 20 channels", 20, None),
    ):
        scene = cloud(50_000, 320, 240, 0.03, None, channels)
        (taken,) = seconds([_runs(both, scene)], repeats)
        rows.append(_row(name, taken, bar))
    return rows


def _runs(run: Callable[..., None], scene: Scene) -> Callable[[], None]:
    return lambda: run(rasterization, scene)


def _row(name: str, taken: float, two_cores: float | None = None) -> Row:
    """``two_cores``: the milliseconds promised there, for twice as much processor time."""
    return Row(
        name=name,
        value=taken * 1e3,
        unit="ms",
        bar="" if two_cores is None else f"<= {2 * two_cores:g} ms ({two_cores:g} on two cores)",
        met=None if two_cores is None else taken * 1e3 <= 2 * two_cores,
    )


if __name__ == "__main__":
    script(measure, "rasterize")
