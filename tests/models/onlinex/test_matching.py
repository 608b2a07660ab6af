"""Matches of two pictures and the motion that they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from retain.kernels.geometry import rigid as oracle
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.encoder import slopes
from retain.models.onlinex.matching import (
    Match,
    Matches,
    aligned,
    correlation,
    moved,
    refined,
)
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.types import transform
from retain.pipeline.errors import UsageError

K = torch.tensor([[52.0, 0, 31], [0, 50, 33], [0, 0, 1]]).double().expand(3, 3, 3)
CONFIG = OnlineXConfig(side=64, dim=16, heads=2, decoder_dim=16, decoder_heads=2)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=noise, dtype=torch.float64)


def motions() -> Tensor:
    vectors = (drawn(3, 6, seed=2) - 0.5) * torch.tensor([0.1, 0.1, 0.1, 0.2, 0.2, 0.2])
    return torch.stack([torch.as_tensor(oracle.exp(v.numpy())) for v in vectors])


def scene() -> tuple[Tensor, Tensor]:
    """Points [3, 256, 3] of a camera and where the one before has seen them, in pixels away."""
    z = 1 + 3 * drawn(3, 256, 1)
    points = torch.cat([slopes(K, 16, 4) * z, z], -1)
    at = transform(motions(), points)
    focal = K[:, [0, 1], [0, 1]][:, None]
    flow = focal * (at[..., :2] / at[..., 2:] - points[..., :2] / points[..., 2:])
    return points, flow


def test_exact_matches_give_the_exact_motion() -> None:
    points, flow = scene()
    found = aligned(points, flow, torch.ones(3, 256).double(), K, 2.0)
    assert torch.allclose(found, motions(), atol=2e-3)
    assert torch.allclose(found[:, :3, :3] @ found[:, :3, :3].mT, torch.eye(3).double(), atol=1e-9)


def test_outliers_do_not_drag_and_what_is_not_trusted_does_not_count() -> None:
    points, flow = scene()
    wrong = flow.clone()
    wrong[:, ::5] += 8 * (drawn(3, 52, 2, seed=4) - 0.3)
    trust = torch.ones(3, 256).double()

    def off(found: Tensor) -> Tensor:
        return (found - motions()).abs().amax((1, 2))

    plain = aligned(points, wrong, trust, K, 1e9)
    robust = aligned(points, wrong, trust, K, 1.0)
    assert (off(robust) < off(plain) / 2).all()
    trust[:, ::5] = 0
    assert torch.allclose(aligned(points, wrong, trust, K, 1.0), motions(), atol=3e-3)


def test_nothing_trusted_is_no_motion() -> None:
    points, flow = scene()
    found = aligned(points, flow, torch.zeros(3, 256).double(), K, 2.0)
    assert torch.equal(found, torch.eye(4).double().expand(3, 4, 4))
    behind = aligned(torch.zeros_like(points), flow, torch.ones(3, 256).double(), K, 2.0)
    assert behind.isfinite().all()


def test_gradients_of_the_motion_are_those_of_finite_differences() -> None:
    points, flow = (v[:1, ::64].clone().requires_grad_() for v in scene())
    trust = (0.5 + drawn(1, 4, seed=3)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *v: aligned(*v, K[:1], 2.0), (points, flow, trust), fast_mode=True
    )


def waves(side: int, shift: Tensor) -> Tensor:
    """Six smooth features [1, 6, side, side] of the plane, seen ``shift`` (x, y) places away."""
    at = torch.arange(side, dtype=torch.float64) + 0.5
    x, y = at[None, :] - shift[0], at[:, None] - shift[1]
    planes = [torch.sin(x * (0.3 + 0.05 * i) + y * (0.4 - 0.1 * i) + i) for i in range(6)]
    return torch.stack(planes)[None] / 6**0.5


def shifted(side: int) -> tuple[Tensor, Tensor, Match]:
    """A wall 2 m away, whose features lie 0.4 places right of and 0.3 above where they were."""
    lens = torch.tensor([[[20.0, 0, side / 2], [0, 20, side / 2], [0, 0, 1]]]).double()
    points = torch.cat([slopes(lens, side, 1) * 2, torch.full((1, side**2, 1), 2.0)], -1).double()
    here, there = waves(side, torch.zeros(2)), waves(side, torch.tensor([-0.4, 0.3]))
    trust = torch.ones(1, side**2).double()
    return lens, points, Match(torch.zeros(1, side**2, 2), trust, torch.zeros(1), here, there)


def test_refinement_finds_fractions_of_a_place() -> None:
    lens, points, found = shifted(16)
    still = torch.eye(4).double()[None]
    at = transform(refined(still, points, found, lens, 1), points)
    flow = 20 * (at[..., :2] / at[..., 2:] - points[..., :2] / points[..., 2:])
    middle = flow.view(16, 16, 2)[3:13, 3:13]
    truth = torch.tensor([-0.4, 0.3]).double().expand_as(middle)
    assert torch.allclose(middle, truth, atol=0.06)
    same = found._replace(there=found.here)
    assert torch.allclose(refined(still, points, same, lens, 1), still, atol=1e-9)


def test_gradients_of_the_refinement_are_those_of_finite_differences() -> None:
    lens, points, found = shifted(4)
    start = torch.as_tensor(oracle.exp([0.01, -0.02, 0.01, 0.01, 0.02, 0.01]))[None]

    def through(points: Tensor, trust: Tensor, here: Tensor, there: Tensor) -> Tensor:
        match = Match(found.flow, trust, found.tokens, here, there)
        return refined(start, points, match, lens, 1)

    given = [points, found.trust, found.here[:, :2], found.there[:, :2]]
    assert torch.autograd.gradcheck(
        through, [v.clone().requires_grad_() for v in given], fast_mode=True
    )


def test_correlation_is_that_of_brute_force() -> None:
    a, b = drawn(2, 3, 5, 6), drawn(2, 3, 5, 6, seed=1)
    score = correlation(a, b, 2)
    assert score.shape == (2, 25, 5, 6)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            for y, x in ((0, 0), (2, 3), (4, 5)):
                inside = 0 <= y + dy < 5 and 0 <= x + dx < 6
                truth = (a[:, :, y, x] * b[:, :, y + dy, x + dx]).sum(1) if inside else 0
                row = score[:, 5 * (dy + 2) + dx + 2, y, x]
                assert torch.allclose(row, torch.as_tensor(truth).double().expand(2))
    share = torch.zeros(1, 25, 1, 1).double()
    share[0, 5 * (1 + 2) - 2 + 2] = 1
    assert moved(share).flatten().tolist() == [-2.0, 1.0]


def test_a_shifted_picture_is_found_before_any_training() -> None:
    torch.manual_seed(0)
    model, noise = Matches(CONFIG), torch.Generator().manual_seed(1)
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, 40, 40, generator=noise), (80, 80), mode="bilinear"
    )
    image, picture = wide[..., 8:72, 8:72], wide[..., 6:70, 12:76]  # seen 4 left, 2 down before
    with torch.no_grad():
        found = model(0.6 * image + 0.1, picture)  # brightness and contrast do not matter
    middle = found.flow.view(32, 32, 2)[8:24, 8:24].flatten(0, 1).median(0).values
    assert torch.allclose(middle, torch.tensor([-4.0, 2.0]), atol=0.7)
    assert found.trust.shape == (1, 1024)
    assert found.tokens.shape == (1, 64, 16)


def test_pictures_without_texture_move_nothing() -> None:
    torch.manual_seed(0)
    model, lens = Matches(CONFIG), K[:1].float()
    grey = torch.full((1, 3, 64, 64), 0.5)
    with torch.no_grad():
        found = model(grey, grey)
        motion = model.align(found, torch.full((1, 1024), 2.0), lens)
    assert (motion - torch.eye(4)).abs().max() < 0.02


def test_depths_of_another_grid_are_brought_to_that_of_matches() -> None:
    model, (_, lens) = Matches(CONFIG), (0, K[:1].float())
    plain = torch.ones(1, 24, 32, 32)
    found = Match(torch.ones(1, 1024, 2), torch.ones(1, 1024), torch.zeros(1, 64, 16), plain, plain)
    fine, coarse = (torch.full((1, n), 2.0) for n in (4096, 256))
    assert torch.equal(model.align(found, fine, lens), model.align(found, coarse, lens))


def test_the_network_turns_with_the_picture_before_any_training() -> None:
    """A camera that only turns, and looks at noise far away."""
    torch.manual_seed(0)
    model = OnlineX(OnlineXConfig.tiny(fusion=False)).eval()
    lens = torch.tensor([[[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]])
    noise = torch.Generator().manual_seed(1)
    wide = torch.nn.functional.interpolate(
        torch.rand(1, 3, 40, 40, generator=noise), (80, 80), mode="bilinear"
    )
    with torch.inference_mode():
        _, state = model.step(wide[..., 8:72, 8:72], lens, model.begin())
        out, _ = model.step(wide[..., 8:72, 11:75], lens, state)  # 3 pixels to the right
    seen = lens[0] @ (out.relative_pose[0, :3, :3] @ torch.tensor([0.0, 0, 2]))
    shift = lens[0] @ (out.relative_pose[0, :3, 3] + torch.tensor([0.0, 0, 2]))
    pixels = (seen / seen[2] + shift / shift[2] - 2 * lens[0, :, 2])[0]
    assert float(pixels) == pytest.approx(3.0, abs=0.8)


def test_free_points_have_no_depth_to_move_by() -> None:
    with pytest.raises(UsageError, match="rays"):
        OnlineXConfig(matched=True, centre="xyz")
    assert not OnlineXConfig.tiny(centre="xyz").matched
    assert OnlineXConfig.tiny().matched
    assert OnlineXConfig.small().matched
