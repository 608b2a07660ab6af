"""Losses against slow, plain definitions in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retain.datasets.scene import metrics, room_classes
from retain.kernels.geometry import rigid
from retain.models.onlinex import losses
from retain.models.onlinex.types import Maps


def motions(count: int, seed: int, turn: float = 0.5) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    twists = rng.standard_normal((count, 6)) * [turn, turn, turn, 1, 1, 1]
    return torch.from_numpy(np.stack([rigid.exp(t) for t in twists]))


def test_pose_errors_are_those_of_the_nearer_quaternion() -> None:
    found, true = motions(40, 1), motions(40, 2)
    p, q = (rigid.quaternion(m[:, :3, :3].numpy()) for m in (found, true))
    apart = np.minimum(np.linalg.norm(p - q, axis=1), np.linalg.norm(p + q, axis=1))
    moved = np.linalg.norm((found - true)[:, :3, 3].numpy(), axis=1)
    # A turn by more than 174 degrees is held back; none is drawn here.
    assert np.allclose(losses.pose_error(found, true), moved + apart, atol=1e-4)


def test_pose_errors_have_gradients_at_the_truth() -> None:
    true = motions(3, 4)
    found = true.clone().requires_grad_()
    losses.pose_error(found, true).sum().backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    assert torch.isfinite(found.grad).all()


def test_ssim_is_the_evaluators() -> None:
    rng = np.random.default_rng(3)
    a = rng.random((2, 3, 20, 24))
    b = np.clip(a + 0.2 * rng.standard_normal(a.shape), 0, 1)
    found = losses.ssim(torch.from_numpy(a), torch.from_numpy(b))
    for x, y, value in zip(a, b, found.tolist(), strict=True):
        wanted = metrics.ssim(x.transpose(1, 2, 0), y.transpose(1, 2, 0))
        assert value == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(ValueError, match="11 pixels"):
        losses.ssim(torch.zeros(1, 3, 10, 30), torch.zeros(1, 3, 10, 30))


def test_points_lie_on_the_rays_of_their_blocks() -> None:
    depth = torch.tensor([[[1.0, 2, 5, 5], [3, 9, 5, 5], [4, 4, 6, 7], [4, 4, 8, 9]]])
    K = torch.tensor([[[2.0, 0, 2], [0, 4, 2], [0, 0, 1]]])
    found = losses.points(depth, K, 2)
    # Lower medians 2, 5, 4, 7; middles of blocks at 1 and 3 pixels, the centre at 2.
    wanted = [[-1.0, -0.5, 2], [2.5, -1.25, 5], [-2, 1, 4], [3.5, 1.75, 7]]
    assert torch.allclose(found, torch.tensor([wanted]))


def test_depth_errors_do_not_depend_on_the_frame() -> None:
    torch.manual_seed(0)
    found, true = torch.randn(2, 1, 50, 3, dtype=torch.float64) + 3
    camera, c2w = torch.zeros(1, 3, dtype=torch.float64), motions(1, 5)[0]
    turned = [p @ c2w[:3, :3].T + c2w[:3, 3] for p in (found, true)]
    here = losses.depth_error(found, true, camera)
    assert torch.allclose(here, losses.depth_error(*turned, c2w[:3, 3][None]))
    assert torch.allclose(
        losses.depth_error(2 * true, true, camera), torch.tensor(2.0).double().log()
    )


def test_confidence_is_best_where_it_fits_the_error() -> None:
    true = torch.zeros(1, 1, 3)
    found = torch.tensor([[[0.05, 0.0, 0.0]]])
    sure = torch.linspace(1, 20, 1000)[None]
    error = losses.regression(found, true, sure, 0.2)[0]
    assert sure[0, error.argmin()].item() == pytest.approx(0.2 / 0.05, rel=0.01)
    exact = losses.regression(true, true, sure, 0.2)[0]
    assert torch.equal(exact, losses.regression(found / 10, true, sure, 0.2)[0])


def test_language_counts_where_there_are_labels() -> None:
    labels = torch.tensor([[0, 3], [3, 9]], dtype=torch.uint8)
    codes = torch.tensor(room_classes.codes())[labels.long()]
    assert losses.language_error(5 * codes, labels).item() == pytest.approx(-1)
    codes[0, 0] = 7.0  # no label there
    codes[1, 1] = codes[0, 1]  # a code of another class is orthogonal
    assert losses.language_error(codes, labels).item() == pytest.approx(-2 / 3)


def test_renderings_show_colours_and_codes_of_every_scene() -> None:
    n, z = 2, 2.0
    maps = Maps(
        centres=torch.tensor([0.0, 0, z]).expand(n, 1, 3),
        confidence=torch.ones(n, 1),
        scales=torch.full((n, 1, 3), 1.0),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(n, 1, 4),
        opacities=torch.full((n, 1), 0.9),
        colours=torch.tensor([[[1.0, 0, 0]], [[0, 1.0, 0]]]),
        codes=torch.eye(16)[:n, None],
    )
    K = torch.tensor([[12.0, 0, 8], [0, 12, 8], [0, 0, 1]]).expand(n, 3, 3)
    drawn = losses.render(maps, K, torch.eye(4).expand(n, 1, 4, 4), 16)
    middle = drawn.images[:, 0, :, 8, 8]
    assert torch.allclose(middle, drawn.alpha[:, 0, 8, 8, None] * maps.colours[:, 0])
    assert drawn.codes[:, 0, 8, 8].argmax(-1).tolist() == [0, 1]
    assert (drawn.alpha[:, 0, 8, 8] > 0.8).all()
