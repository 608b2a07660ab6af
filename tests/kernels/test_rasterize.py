"""The rasteriser: the CPU does what the definition says, and gradients are slopes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterize_scenes import cast, cloud, gradients, leaves, with_covars
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from retain.kernels import rasterization as module
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterization import rasterization
from retain.kernels.rasterize import lanes, reference, sh
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.render import render


def compare(scene: dict[str, Any], atol: float = 2e-4) -> None:
    """Picture, alpha and every gradient, to ``atol`` of the largest number."""
    image, alpha, _ = rasterization(**scene)
    rng = torch.Generator().manual_seed(3)
    weights = torch.randn(image.shape, generator=rng), torch.randn(alpha.shape, generator=rng)
    ours = gradients(rasterization, scene, weights)
    truth = gradients(reference.rasterization, cast(scene, torch.float64), weights)
    for mine, true in zip(ours[:2], truth[:2], strict=True):
        torch.testing.assert_close(mine.double(), true, atol=2e-5 * float(true.abs().max()), rtol=0)
    assert ours[2].keys() == truth[2].keys()
    for name, true in truth[2].items():
        size = float(true.abs().max())
        error = float((ours[2][name].double() - true).abs().max())
        assert size > 0, name
        assert error < atol * size, name


@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
@pytest.mark.parametrize("render_mode", ["RGB", "D", "ED", "RGB+D", "RGB+ED"])
def test_every_mode_is_the_definition(render_mode: str, rasterize_mode: str) -> None:
    background = None if render_mode in ("D", "ED") else torch.rand(2, 3)
    scene = cloud(render_mode=render_mode, rasterize_mode=rasterize_mode, backgrounds=background)
    compare(scene)


@pytest.mark.parametrize("batch", [(2,), (1, 2)])
def test_batches(batch: tuple[int, ...]) -> None:
    compare(cloud(30, batch=batch, backgrounds=torch.rand(*batch, 2, 3)))


@pytest.mark.parametrize("channels", [1, 16, 33])
def test_any_number_of_channels(channels: int) -> None:
    compare(cloud(25, channels=channels, render_mode="RGB+D"))


def test_colors_of_each_camera() -> None:
    compare(cloud(cameras=3) | {"colors": torch.rand(3, 60, 3)})


def test_covariances_in_place_of_quaternions_and_scales() -> None:
    scene = cloud()
    compare(with_covars(scene), atol=1e-3)
    torch.testing.assert_close(
        rasterization(**with_covars(scene))[0], rasterization(**scene)[0], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ("degree", "shape"), [(0, (20, 1, 3)), (3, (20, 25, 3)), (4, (2, 20, 25, 3))]
)
def test_spherical_harmonics(degree: int, shape: tuple[int, ...]) -> None:
    colors = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.3
    compare(cloud(20, colors=colors, sh_degree=degree, near_plane=1.0))


@settings(max_examples=12, deadline=None)
@given(
    n=st.integers(1, 40),
    width=st.integers(1, 70),
    height=st.integers(1, 40),
    seed=st.integers(0, 1000),
    eps2d=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_any_size_is_the_definition(
    n: int, width: int, height: int, seed: int, eps2d: float
) -> None:
    scene = cloud(n, size=(width, height), seed=seed, eps2d=eps2d, render_mode="RGB+D")
    image, alpha, _ = rasterization(**scene)
    true, true_alpha, _ = reference.rasterization(**cast(scene, torch.float64))
    # A pixel where alpha is 1/255 to the last bit may go either way.
    assert (image - true).abs().max() < 0.02 * max(1.0, float(true.abs().max()))
    assert (image - true).abs().mean() < 1e-4
    assert (alpha - true_alpha).abs().mean() < 1e-5


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
def test_the_definitions_gradients_are_slopes(mode: str) -> None:
    """Finite differences in float64, of every input."""
    scene = cast(cloud(6, 1, size=(9, 7), seed=4, backgrounds=torch.rand(1, 3)), torch.float64)
    scene["means"] = scene["means"] * 0.4 + torch.tensor([0.0, 0.0, 2.4], dtype=torch.float64)
    names, own = zip(*leaves(scene).items(), strict=True)

    def draw(*values: Tensor) -> tuple[Tensor, Tensor]:
        changed = scene | dict(zip(names, values, strict=True))
        image, alpha, _ = reference.rasterization(
            **changed, render_mode="RGB+D", rasterize_mode=mode
        )
        return image, alpha

    assert float(draw(*own)[1].detach().mean()) > 0.05
    assert torch.autograd.gradcheck(draw, own, eps=1e-6, atol=1e-5, fast_mode=True)


def test_gradients_of_what_lies_between_can_be_kept() -> None:
    """As densification does."""
    own = leaves(cloud())
    image, _, meta = rasterization(**(cloud() | own))
    meta["means2d"].retain_grad()
    image.square().sum().backward()
    assert meta["means2d"].grad.shape == (2, 60, 2)
    drawn = (meta["radii"] > 0).all(-1)
    assert (meta["means2d"].grad[drawn].norm(dim=-1) > 0).float().mean() > 0.8
    assert meta["means2d"].grad[~drawn].abs().max() == 0


def test_absolute_gradients_are_sums_over_pixels_of_magnitudes() -> None:
    scene = cloud(12, 2, size=(9, 7), seed=4)
    scene["means"].requires_grad_()
    image, _, meta = rasterization(**scene, absgrad=True)
    weights = torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    (image * weights).sum().backward()
    _, _, truth = reference.rasterization(**cast(scene, torch.float64))
    names = ("means2d", "depths", "conics", "opacities", "radii")
    centers, *rest = (truth[name].detach() for name in names)
    centers.requires_grad_()
    picture, _ = reference.pixels(centers, *rest, scene["colors"][None].double(), None, 9, 7, False)
    total = torch.zeros_like(centers)
    for pixel in (picture * weights).sum(-1).flatten():
        total += torch.autograd.grad(pixel, centers, retain_graph=True)[0].abs()
    assert meta["means2d"].absgrad.shape == (2, 12, 2)
    torch.testing.assert_close(meta["means2d"].absgrad.double(), total, atol=1e-5, rtol=1e-4)
    assert torch.equal(image, rasterization(**scene)[0])


def test_only_what_is_asked_for_has_gradients() -> None:
    scene = cloud()
    scene["colors"].requires_grad_()
    image, _, _ = rasterization(**scene)
    image.sum().backward()
    assert scene["colors"].grad.abs().sum() > 0
    assert scene["means"].grad is None


def test_traces_to_one_graph() -> None:
    scene = cloud(20, 1, size=(20, 18))
    weights = torch.rand(1, 18, 20, 3), torch.rand(1, 18, 20, 1)
    plain = gradients(rasterization, scene, weights)
    traced = torch.compile(rasterization, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(traced, scene, weights), plain)


def test_whoever_traces_without_compiling_gets_the_operators() -> None:
    """Not the numbers of the input that was there then."""
    scene, other = cloud(20, 1, size=(20, 18)), cloud(20, 1, size=(20, 18))
    other["means"] += 0.05

    def draw(means: torch.Tensor) -> torch.Tensor:
        return rasterization(**scene | {"means": means})[0]

    traced = make_fx(draw)(scene["means"])
    drawn = draw(other["means"])
    assert not torch.equal(drawn, draw(scene["means"]))
    assert torch.equal(traced(other["means"]), drawn)


def test_shapes_without_data() -> None:
    with torch._subclasses.FakeTensorMode(
        shape_env=torch.fx.experimental.symbolic_shapes.ShapeEnv()
    ):
        scene = cloud(30, 2, render_mode="RGB+ED")
        image, alpha, meta = rasterization(**scene)
    assert image.shape == (2, 37, 51, 4)
    assert alpha.shape == (2, 37, 51, 1)
    assert meta["conics"].shape == (2, 30, 3)


def test_a_map_rendered_without_torch_is_the_same_picture() -> None:
    scene = cloud(cameras=1)
    camera = Camera(fx=0.8 * 51, fy=0.9 * 51, cx=25.5, cy=0.48 * 37, width=51, height=37)
    c2w = rigid.exp([0.1, -0.2, 0.05, 0.3, 0.1, -0.2])
    quats = torch.nn.functional.normalize(scene["quats"], dim=-1)
    gaussians = Gaussians(
        *(scene[k].numpy() for k in ("means",)),
        quats.numpy(),
        *(scene[k].numpy() for k in ("scales", "opacities", "colors")),
    )
    scene |= {"viewmats": torch.from_numpy(rigid.inverse(c2w)).float()[None], "quats": quats}
    image, alpha, _ = rasterization(**scene, render_mode="RGB+ED", backgrounds=torch.ones(1, 3))
    drawn = render(gaussians, camera, c2w, background=(1, 1, 1))
    np.testing.assert_allclose(drawn.color, image[0, ..., :3], atol=1e-5)
    np.testing.assert_allclose(drawn.depth, image[0, ..., 3], atol=1e-3)
    np.testing.assert_allclose(drawn.alpha, alpha[0, ..., 0], atol=1e-5)
    codes = np.random.default_rng(0).random((60, 16), np.float32)
    seen = render(gaussians, camera, c2w, channels=codes)
    assert seen.color.shape == (37, 51, 16)
    np.testing.assert_array_equal(seen.alpha, drawn.alpha)


def test_the_module_is_the_function() -> None:
    scene = cloud()
    assert torch.equal(module(**scene)[0], rasterization(**scene)[0])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"camera_model": "fisheye"}, NotImplementedError, "CUDA"),
        ({"distributed": True}, NotImplementedError, "distributed"),
        ({"with_ut": True}, NotImplementedError, "with_ut"),
        ({"radial_coeffs": torch.zeros(2, 6)}, NotImplementedError, "rectified"),
        ({"rolling_shutter": "TOP"}, NotImplementedError, "shutter"),
        ({"render_mode": "N"}, ValueError, "RGB\\+ED"),
        ({"rasterize_mode": "2dgs"}, ValueError, "antialiased"),
        ({"width": 0}, ValueError, "0x37"),
        ({"quats": torch.zeros(60, 3)}, ValueError, "quats .*\\[60, 4\\]"),
        ({"quats": None}, ValueError, "covars"),
        ({"colors": torch.zeros(3, 60, 3)}, ValueError, "colors"),
        ({"colors": torch.zeros(60, 9, 3), "sh_degree": 3}, ValueError, "16 coefficients"),
        ({"colors": torch.zeros(60, 36, 3), "sh_degree": 5}, ValueError, "0 to 4"),
        ({"backgrounds": torch.zeros(2, 4)}, ValueError, "backgrounds"),
        ({"opacities": torch.zeros(60, dtype=torch.float16)}, ValueError, "float16"),
        ({"typo": 1}, TypeError, "typo"),
    ],
)  # fmt: skip
def test_what_is_refused(change: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rasterization(**(cloud() | change))


def test_doubles_are_refused_and_told_what_to_do() -> None:
    with pytest.raises(ValueError, match="float32"):
        rasterization(**cast(cloud(), torch.float64))


def test_arguments_that_change_nothing() -> None:
    same = rasterization(
        **cloud(), packed=False, tile_size=8, sparse_grad=True, channel_chunk=2, segmented=True
    )
    assert torch.equal(same[0], rasterization(**cloud())[0])


def test_harmonics_are_orthonormal() -> None:
    """On a grid of the sphere, by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    around = np.arange(24) * 2 * np.pi / 24
    flat = np.sqrt(1 - nodes**2)[:, None]
    grid = np.stack(
        [flat * np.cos(around), flat * np.sin(around), nodes[:, None] + 0 * around], axis=-1
    )
    values = sh.basis(4, torch.from_numpy(grid)).numpy()
    product = np.einsum("abi,abj,a->ij", values, values, weights) * 2 * np.pi / 24
    np.testing.assert_allclose(product, np.eye(25), atol=1e-12)


@lanes.compiled
def _powers(x: Any, out: Any) -> Any:
    for at in range(0, len(x), lanes.WIDTH):
        lanes.store(out, at, lanes.exp2(lanes.load(x, at)))


def test_powers_of_two_are_right_to_the_last_digits() -> None:
    x = np.linspace(-100, 0.4, 16 * 5000).astype(np.float32)
    out = np.empty_like(x)
    _powers(x, out)
    np.testing.assert_allclose(out, 2.0 ** x.astype(np.float64), rtol=3e-7)
