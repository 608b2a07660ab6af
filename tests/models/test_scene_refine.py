"""Gradient steps on a map: the loss they follow, what they may move, that they are reproducible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gaussian_parts import CAMERA, keyframe, look, pose
from torch import Tensor
from torch.nn import functional as F

from retain.datasets.scene import metrics
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.render import render
from retain.models.scene.refine import Adam, Rates, Refiner, Target, ssim


def target(at: float = 0.0, **changes: object) -> Target:
    """What a camera on the walk sees of the room, drawn from exact Gaussians."""
    c2w = pose(at)
    color = render(keyframe(0, c2w).gaussians, CAMERA, c2w).color
    image = np.rint(255 * np.clip(color, 0, 1)).astype(np.uint8)
    parts: dict[str, object] = {"camera": CAMERA, "c2w": c2w, "image": image, "depth": look(c2w)[0]}
    return Target(**(parts | changes))  # type: ignore[arg-type]


def start(seed: int = 0) -> Gaussians:
    """The room in the wrong colours, a little out of place."""
    rng, g = np.random.default_rng(seed), keyframe(0, pose(0.0)).gaussians
    return Gaussians(
        (g.means + rng.normal(0, 0.01, g.means.shape)).astype(np.float32),
        g.quats, g.scales, g.opacities,
        np.clip(g.colors + rng.normal(0, 0.2, g.colors.shape), 0, 1).astype(np.float32),
        g.codes,
    )  # fmt: skip


def plain_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Wang et al. 2004 by a plain convolution, in the type of its arguments."""
    taps = torch.exp(-((torch.arange(11, dtype=a.dtype) - 5) ** 2) / 4.5)
    window = torch.outer(taps, taps)
    window = (window / window.sum())[None, None]

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x.permute(2, 0, 1)[:, None], window)[:, 0]

    ma, mb = blur(a), blur(b)
    va, vb, cab = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * ma * mb + c1) * (2 * cab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return score.mean()


def pictures(height: int = 24, width: int = 31) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    a = torch.rand(height, width, 3, generator=rng, dtype=torch.float64)
    b = (a + 0.2 * torch.randn(height, width, 3, generator=rng, dtype=torch.float64)).clamp(0, 1)
    return a, b


def test_ssim_is_that_of_the_scores_and_of_a_plain_convolution() -> None:
    a, b = pictures()
    mine = float(ssim(a.float(), b.float()))
    assert mine == pytest.approx(float(plain_ssim(a, b)), abs=2e-6)
    assert mine == pytest.approx(metrics.ssim(a.float().numpy(), b.float().numpy()), abs=2e-6)
    assert float(ssim(a.float(), a.float())) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("which", [0, 1])
def test_the_gradient_of_ssim_is_that_of_a_plain_convolution(which: int) -> None:
    exact = [picture.clone().requires_grad_() for picture in pictures()]
    plain_ssim(exact[0], exact[1]).backward()  # type: ignore[no-untyped-call]
    mine = [picture.float().requires_grad_() for picture in pictures()]
    ssim(mine[0], mine[1]).backward()  # type: ignore[no-untyped-call]
    wanted, got = exact[which].grad, mine[which].grad
    assert wanted is not None
    assert got is not None
    assert (got - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_the_loss_falls_and_the_picture_comes_closer() -> None:
    wanted, refiner = target(), Refiner(start(), [target()])
    assert len(refiner) == 1
    refiner.take([0])
    first = refiner.loss
    refiner.take([0] * 39)
    assert refiner.steps == 40
    assert refiner.loss < 0.6 * first
    before, after = (
        metrics.psnr(render(g, CAMERA, wanted.c2w).color, wanted.image)
        for g in (start(), refiner.gaussians())
    )
    assert after > before + 3


def test_shapes_and_places_are_frozen_at_first_and_move_later() -> None:
    refiner = Refiner(start(), [target()], Rates(geometry_after=3))
    refiner.take([0] * 3)
    early, was = refiner.gaussians(), start()
    for name in ("means", "scales", "quats"):
        np.testing.assert_allclose(getattr(early, name), getattr(was, name), atol=1e-6)
    assert np.abs(early.colors - was.colors).max() > 1e-3
    assert np.abs(early.opacities - was.opacities).max() > 1e-3
    refiner.take([0] * 2)
    late = refiner.gaussians()
    for name in ("means", "scales", "quats"):
        assert np.abs(getattr(late, name) - getattr(early, name)).max() > 1e-4


def test_what_comes_out_is_always_gaussians() -> None:
    """Also of hard ones: opaque, invisible, flat, behind the camera; of pictures that are black or
    without depth."""
    g = start()
    g.opacities[:50], g.opacities[50:100] = 1, 0
    g.scales[:40] = 1e-9
    g.means[100:120] = pose(0.0)[:3, 3]
    g.means[120:130, 2] -= 50
    black = target(image=np.zeros((24, 32, 3), np.uint8), depth=np.zeros((24, 32), np.float32))
    refiner = Refiner(g, [target(), black], Rates(geometry_after=0))
    refiner.take([0, 1] * 6)
    out = refiner.gaussians()
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert np.isfinite(getattr(out, name)).all(), name
    assert ((out.opacities > 0) & (out.opacities < 1)).all()
    assert (out.scales > 0).all()
    assert ((out.colors >= 0) & (out.colors <= 1)).all()
    assert np.allclose(np.linalg.norm(out.quats, axis=1), 1, atol=1e-5)
    assert out.codes is not None
    assert np.array_equal(out.codes, g.codes)


def test_the_same_steps_make_the_same_map() -> None:
    def made() -> Gaussians:
        refiner = Refiner(start(), [target(), target(1.0)], Rates(geometry_after=2))
        refiner.take([0, 1, 1, 0, 1])
        return refiner.gaussians()

    one, two = made(), made()
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_what_it_was_given_stays_as_it_was() -> None:
    g = start()
    copies = {name: getattr(g, name).copy() for name in ("means", "quats", "scales", "colors")}
    refiner = Refiner(g, [target()], Rates(geometry_after=0))
    refiner.take([0] * 3)
    for name, copy in copies.items():
        assert np.array_equal(getattr(g, name), copy), name


def test_a_budget_of_time_takes_one_step_at_least() -> None:
    refiner = Refiner(start(), [target()])
    refiner.take([0] * 50, budget_s=0.0)
    assert refiner.steps == 1


def test_a_map_of_nothing_and_no_steps_are_no_error() -> None:
    none = Gaussians(*(getattr(start(), name)[:0] for name in
                       ("means", "quats", "scales", "opacities", "colors")))  # fmt: skip
    refiner = Refiner(none, [target()])
    refiner.take([])
    assert np.isnan(refiner.loss)
    assert len(refiner.gaussians()) == 0
    refiner.take([0])
    assert len(refiner.gaussians()) == 0


def test_adam_takes_the_steps_of_torchs_own() -> None:
    rng = torch.Generator().manual_seed(0)
    mine = {name: torch.rand(50, 3, generator=rng).requires_grad_() for name in ("near", "far")}
    theirs = {name: value.detach().clone().requires_grad_() for name, value in mine.items()}
    adam = Adam(mine, {"near": 5e-3, "far": 0.0})
    groups = [{"params": [theirs["near"]], "lr": 5e-3}, {"params": [theirs["far"]], "lr": 0.0}]
    torchs = torch.optim.Adam(groups, eps=Adam.EPS)
    for step in range(12):
        if step == 6:
            adam.rates["far"] = torchs.param_groups[1]["lr"] = 2e-2
        for name in mine:
            slope = torch.randn(50, 3, generator=rng) * 10.0 ** (step % 5 - 2)
            mine[name].grad, theirs[name].grad = slope, slope.clone()
        adam.step()
        torchs.step()
        for name in mine:
            assert torch.equal(mine[name], theirs[name])
            assert mine[name].grad is None


def test_a_step_does_not_load_torchs_compiler() -> None:
    """In a process of its own (3 s of it are torch): it would take 1.5 s, and other tests do."""
    code = """
import sys
from test_scene_refine import start, target, Refiner
Refiner(start(), [target()]).take([0])
assert "torch._dynamo" not in sys.modules
"""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *sys.path])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path})
