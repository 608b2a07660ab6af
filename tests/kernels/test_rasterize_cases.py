"""The rasteriser in special cases: known integrals, order, ends, borders, nothing at all."""

from __future__ import annotations

import math
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from rasterize_scenes import cast, cloud, gradients, leaves, one, several
from torch import Tensor

from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterization import rasterization
from retain.kernels.rasterize import reference
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.render import render

DRAWS = [rasterization, reference.rasterization]
both = pytest.mark.parametrize("draw", DRAWS, ids=["cpu", "reference"])


@both
def test_one_ball_covers_what_its_integral_says(draw: Any) -> None:
    """Over the plane, alpha o exp(-r^2 / 2 s^2) down to 1/255 sums to 2 pi s^2 (o - 1/255)."""
    depth, scale, opacity, size = 4.0, 0.15, 0.9, 64
    _, alpha, _ = draw(**one(depth, scale, opacity, size), eps2d=0.5)
    variance = (size * scale / depth) ** 2 + 0.5
    assert float(alpha.sum()) == pytest.approx(
        2 * math.pi * variance * (opacity - 1 / 255), rel=2e-3
    )


@both
def test_a_pixels_centre_is_half_a_pixel_in(draw: Any) -> None:
    scene = one(size=9)
    scene["Ks"][0, :2, 2] = torch.tensor([2.5, 6.5])
    _, alpha, _ = draw(**scene)
    assert int(alpha.argmax()) == 6 * 9 + 2
    assert float(alpha.max()) == pytest.approx(0.9, abs=1e-6)


@both
def test_the_nearer_one_covers_the_farther(draw: Any) -> None:
    """Whichever is given first."""
    near, far = one(2.0, 0.4, 0.6), one(3.0, 0.6, 0.8)
    near["colors"], far["colors"] = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 1, 0]])
    for scenes in ([near, far], [far, near]):
        image, _, _ = draw(**several(scenes))
        red, green, _ = image[0, 32, 32].tolist()
        assert red == pytest.approx(0.6, abs=1e-3)
        assert green == pytest.approx(0.4 * 0.8, abs=1e-3)


def test_of_the_same_depth_the_first_given_is_nearer() -> None:
    ball, other = one(2.0, 0.4, 0.6), one(2.0, 0.4, 0.6)
    other["colors"] = torch.zeros(1, 3)
    image, _, _ = rasterization(**several([ball, other] * 20))
    assert float(image[0, 32, 32, 0]) == pytest.approx(0.6 / (1 - 0.4**2), abs=1e-3)


@both
def test_a_pixel_ends_before_a_ten_thousandth_is_left(draw: Any) -> None:
    """Nine of ten covered each time: 0.1, 0.01, 0.001; the fourth would leave 1e-4 and a bit."""
    stack = [one(2.0 + k, 1.0 + k / 2, opacity) for k, opacity in enumerate([0.9] * 3 + [0.95])]
    scene = several(stack)
    scene["colors"] = torch.eye(4)
    image, alpha, _ = draw(**scene)
    assert image[0, 32, 32].tolist() == pytest.approx([0.9, 0.09, 0.009, 0.0], rel=0.02)
    assert float(alpha[0, 32, 32]) == pytest.approx(0.999, abs=1e-4)


@both
def test_no_alpha_exceeds_its_limit(draw: Any) -> None:
    scene = one(2.0, 1.0, 1.0)
    scene["opacities"].requires_grad_()
    image, _, _ = draw(**scene)
    assert float(image.detach().max()) == pytest.approx(0.999)
    image[0, 32, 32].sum().backward()
    assert float(scene["opacities"].grad) == 0


@both
def test_nothing_to_draw_is_the_background(draw: Any) -> None:
    background = torch.rand(2, 3)
    empty = cloud(0, backgrounds=background)
    behind = cloud(20, backgrounds=background)
    behind["means"][..., 2] = -4.0
    faint = cloud(20, backgrounds=background)
    faint["opacities"][:] = 0.003
    for scene in (empty, behind, faint):
        own = leaves(scene)
        image, alpha, _ = draw(**(scene | own), render_mode="RGB+ED")
        assert torch.equal(image.detach()[..., :3], background[:, None, None].expand(2, 37, 51, 3))
        assert float(image.detach()[..., 3].abs().max()) == 0
        assert float(alpha.detach().abs().max()) == 0
        image.sum().backward()
        assert own["means"].grad is None or float(own["means"].grad.abs().sum()) == 0
        assert own["backgrounds"].grad is not None
        assert float((own["backgrounds"].grad - 37 * 51).abs().max()) < 1e-2


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 1), (1, 33)])
def test_small_pictures(size: tuple[int, int]) -> None:
    scene = cloud(20, size=size)
    image, _, _ = rasterization(**scene)
    true, _, _ = reference.rasterization(**cast(scene, torch.float64))
    torch.testing.assert_close(image.double(), true, atol=1e-4, rtol=0)


@both
def test_the_cut_offs(draw: Any) -> None:
    def radii(**options: Any) -> Tensor:
        picture: Tensor = draw(**several([one(1.0), one(5.0), one(9.0)]), **options)[2]["radii"]
        return (picture[0] > 0).all(-1)

    assert radii().tolist() == [True, True, True]
    assert radii(near_plane=2.0).tolist() == [False, True, True]
    assert radii(far_plane=5.0).tolist() == [True, True, False]
    assert radii(radius_clip=6.0).tolist() == [True, False, False]


def test_at_the_border_of_the_clamp() -> None:
    """On either side of it, and where a Gaussian is so near that its disc fills the picture."""
    scene = one(1.0, 0.3, 0.8, 32)
    edge = 0.5 + 0.15
    for x in (edge * 0.98, edge * 1.02, edge * 2):
        scene["means"] = torch.tensor([[x, -x, 1.0]])
        scene["scales"] = torch.tensor([[0.4 * x, 0.2 * x, 0.3 * x]])
        weights = torch.rand(1, 32, 32, 3), torch.rand(1, 32, 32, 1)
        ours = gradients(rasterization, scene, weights)
        truth = gradients(reference.rasterization, cast(scene, torch.float64), weights)
        assert float(truth[1].max()) > 0.02
        for name, true in truth[2].items():
            size = float(true.abs().max())
            torch.testing.assert_close(ours[2][name].double(), true, atol=1e-3 * size, rtol=0)


def test_long_thin_and_huge_ones() -> None:
    """A needle across the picture; then shapes whose numbers leave float32."""
    scene = one(2.0, 0.1, 0.9, 64)
    scene["quats"] = torch.tensor([[0.9, 0.1, 0.2, 0.4]])
    for scales in ([5.0, 1e-3, 1e-3], [1e-6, 1e-6, 1e-6], [0.3, 0.3, 0.0]):
        scene["scales"] = torch.tensor([scales])
        image, _, _ = rasterization(**scene)
        true, _, _ = reference.rasterization(**cast(scene, torch.float64))
        torch.testing.assert_close(image.double(), true, atol=2e-3, rtol=0)
    for scales in ([1e20, 1e20, 1e20], [3e38, 1e-38, 1.0], [math.inf, 1, 1], [math.nan, 1, 1]):
        scene["scales"] = torch.tensor([scales])
        image, _, _ = rasterization(**scene)
        assert bool(torch.isfinite(image).all())


def test_what_is_not_a_number_is_not_drawn() -> None:
    scene = cloud(40)
    true, _, _ = rasterization(**scene)
    for name in ("means", "quats", "scales", "opacities"):
        broken = scene | {
            name: torch.cat([scene[name], torch.full_like(scene[name][:1], math.nan)])
        }
        rest = {k: torch.cat([scene[k], scene[k][:1]]) for k in
                ("means", "quats", "scales", "opacities", "colors") if k != name}  # fmt: skip
        assert torch.equal(rasterization(**(broken | rest))[0], true)


def test_the_same_bits_twice_and_on_any_number_of_threads() -> None:
    """Enough Gaussians for several shares of work."""
    scene = cloud(30_000, 2, channels=4, size=(150, 90), backgrounds=torch.rand(2, 4))
    scene["scales"] *= 0.1
    weights = torch.rand(2, 90, 150, 4), torch.rand(2, 90, 150, 1)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 2, 5):
            torch.set_num_threads(count)
            results.append(gradients(rasterization, scene, weights))
    finally:
        torch.set_num_threads(threads)
    image, alpha, grads = results[0]
    for other in results[1:]:
        assert torch.equal(other[0], image)
        assert torch.equal(other[1], alpha)
        for name, grad in grads.items():
            assert torch.equal(other[2][name], grad), name


def _crowd() -> tuple[Gaussians, Camera]:
    """Enough Gaussians for several threads."""
    scene = cloud(20_000, 1)
    quats = torch.nn.functional.normalize(scene["quats"], dim=-1)
    arrays = (scene[k].numpy() for k in ("means", "scales", "opacities", "colors"))
    means, *rest = arrays
    camera = Camera(fx=100, fy=100, cx=60, cy=40, width=120, height=80)
    return Gaussians(means, quats.numpy(), *rest), camera


def test_several_threads_may_draw_at_once() -> None:
    gaussians, camera = _crowd()
    alone = render(gaussians, camera, np.eye(4)).color
    with ThreadPoolExecutor(4) as pool:
        pictures = [pool.submit(render, gaussians, camera, np.eye(4)) for _ in range(8)]
        for picture in pictures:
            np.testing.assert_array_equal(picture.result().color, alone)


def _draw_and_compare(gaussians: Gaussians, camera: Camera, wanted: np.ndarray) -> None:
    np.testing.assert_array_equal(render(gaussians, camera, np.eye(4)).color, wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_of_a_process_that_has_drawn_can_draw() -> None:
    gaussians, camera = _crowd()
    wanted = render(gaussians, camera, np.eye(4)).color
    forked = multiprocessing.get_context("fork").Process(
        target=_draw_and_compare, args=(gaussians, camera, wanted)
    )
    forked.start()
    forked.join(60)
    forked.kill()
    assert forked.exitcode == 0


def test_a_map_may_be_empty() -> None:
    camera = Camera(fx=10, fy=10, cx=8, cy=8, width=16, height=12)
    drawn = render(Gaussians.empty(), camera, np.eye(4), background=(0.1, 0.2, 0.3))
    np.testing.assert_allclose(
        drawn.color, np.broadcast_to((0.1, 0.2, 0.3), (12, 16, 3)), rtol=1e-6
    )
    assert drawn.depth.max() == drawn.alpha.max() == 0


def test_a_maps_channels_and_background_must_fit() -> None:
    camera = Camera(fx=10, fy=10, cx=8, cy=8, width=16, height=12)
    with pytest.raises(ValueError, match="channels must be \\[0, D\\]"):
        render(Gaussians.empty(), camera, np.eye(4), channels=np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="background must be \\[3\\]"):
        render(Gaussians.empty(), camera, np.eye(4), background=(0, 0))
