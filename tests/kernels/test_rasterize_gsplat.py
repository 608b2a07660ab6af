"""Against gsplat: its torch helpers, which run anywhere, and the whole of it on CUDA."""

from __future__ import annotations

import os

import pytest
import torch
from rasterize_scenes import cloud, gradients

from retain.kernels.rasterization import rasterization
from retain.kernels.rasterize import cuda, operators, reference, sh

theirs = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")


@pytest.mark.parametrize("antialiased", [False, True])
def test_projection(antialiased: bool) -> None:
    """Their helper draws wider boxes, whatever the opacity: radii are not compared."""
    scene = cloud(200, 3)
    covars, _ = theirs._quat_scale_to_covar_preci(
        scene["quats"], scene["scales"], compute_preci=False
    )
    side = (scene["width"], scene["height"])
    _, *wanted = theirs._fully_fused_projection(
        scene["means"], covars, scene["viewmats"], scene["Ks"], *side, calc_compensations=True
    )
    given = [scene[k][None] for k in ("means", "quats", "scales")]
    rest = [scene[k][None] for k in ("opacities", "viewmats", "Ks")]
    options = (*rest, *side, 0.01, 1e10, 0.0, 0.3, antialiased)
    for project in (operators.project_gaussians, reference.project):
        radii, *ours = (each[0] for each in project(*given, None, *options))
        drawn = (radii > 0).all(-1)
        assert drawn.float().mean() > 0.3
        for mine, other in zip(ours, wanted, strict=True):
            torch.testing.assert_close(mine[drawn], other[drawn], atol=1e-4, rtol=1e-3)


def test_covariances() -> None:
    scene = cloud()
    covars, _ = theirs._quat_scale_to_covar_preci(
        scene["quats"], scene["scales"], compute_preci=False
    )
    torch.testing.assert_close(reference.covariance(scene["quats"], scene["scales"]), covars)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4])
def test_harmonics(degree: int) -> None:
    rng = torch.Generator().manual_seed(degree)
    directions, coefficients = (
        torch.randn(50, 3, generator=rng),
        torch.randn(50, 25, 3, generator=rng),
    )
    wanted = theirs._spherical_harmonics(degree, directions, coefficients)
    ours = sh.colors(degree, directions, coefficients)
    torch.testing.assert_close(ours, (wanted + 0.5).clamp_min(0), atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
def test_on_cuda_it_is_the_same_picture(rasterize_mode: str) -> None:
    if not torch.cuda.is_available():
        assert os.environ.get("REQUIRE_CUDA") != "1", "REQUIRE_CUDA=1, but there is no CUDA device"
        pytest.skip("no CUDA device")
    if cuda.missing():
        pytest.skip(f"gsplat cannot run: {cuda.missing()}")
    scene = cloud(render_mode="RGB+ED", rasterize_mode=rasterize_mode, backgrounds=torch.rand(2, 3))
    weights = torch.rand(2, 37, 51, 4), torch.rand(2, 37, 51, 1)
    ours = gradients(rasterization, scene, weights)
    on_gpu = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in scene.items()}
    other = gradients(rasterization, on_gpu, weights)
    assert (ours[0] - other[0].cpu())[..., :3].abs().max() < 1e-3
    assert (ours[1] - other[1].cpu()).abs().max() < 1e-3
    for name, grad in ours[2].items():
        size = float(grad.abs().max())
        assert float((grad - other[2][name].cpu()).abs().max()) < 2e-2 * size, name


def test_without_cuda_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "missing", lambda: "it is not installed")
    with pytest.raises(NotImplementedError, match="not installed.*move the tensors to the CPU"):
        cuda.gsplat_rasterization(cloud())
