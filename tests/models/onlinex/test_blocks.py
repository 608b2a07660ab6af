"""Rotary places, the two decoders, the director, rigid motions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from retain.kernels.geometry import rigid as oracle
from retain.memory.evolve import Policy
from retain.models.onlinex.blocks import DualDecoder, places, turned, turns
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.director import Director
from retain.models.onlinex.heads import distance, motion, point
from retain.models.onlinex.types import inverse, multiply, quaternion, rigid, rotation, transform

CONFIG = OnlineXConfig(side=16, dim=12, heads=1, decoder_dim=16, decoder_heads=2, anchors=3)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=noise, dtype=torch.float64)


def test_scores_of_turned_tokens_depend_on_their_distance_alone() -> None:
    q, k = drawn(1, 2, 12, 16), drawn(1, 2, 12, 16, seed=1)
    grid = places(3, 4)

    def scores(shift: Tensor) -> Tensor:
        turn = turns(grid + shift, 16)
        return turned(q, turn) @ turned(k, turn).mT

    here = scores(torch.zeros(2))
    assert torch.allclose(here, scores(torch.tensor([5.0, -3.0])), atol=1e-5)
    one = turns(grid, 16), turns(grid + torch.tensor([0.0, 1.0]), 16)
    assert not torch.allclose(here, turned(q, one[0]) @ turned(k, one[1]).mT, atol=1e-2)


def test_turning_keeps_lengths_and_tokens_without_a_place() -> None:
    x = drawn(2, 1, 14, 8)
    out = turned(x, turns(places(3, 4), 8, still=2))
    assert torch.equal(out[:, :, :3], x[:, :, :3])  # two without a place, and the one at 0, 0
    assert torch.allclose(out.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(out[:, :, 3:], x[:, :, 3:])
    assert turned(x, None) is x


def test_agreement_is_the_mean_score_of_the_second_stream() -> None:
    torch.manual_seed(0)
    decoder = DualDecoder(16, 2, 2, 1).double()
    x, y = drawn(2, 5, 16), drawn(2, 3, 16, seed=1)
    _, _, agreement = decoder(x, y)
    block = decoder.second[0]
    seen = y + block.attn(block.norm1(y), None)
    q = block.cross_attn.projq(block.norm2(seen)).view(2, 3, 2, 8).transpose(1, 2)
    k = block.cross_attn.projk(block.norm_y(x)).view(2, 5, 2, 8).transpose(1, 2)
    assert torch.allclose(agreement, (q @ k.mT / 8**0.5).mean((1, 3)))


def director(**changes: object) -> Director:
    torch.manual_seed(0)
    return Director(replace(CONFIG, **changes)).double()  # type: ignore[arg-type]


def written(model: Director, pose: Tensor, dense: Tensor, before: Tensor, tokens: Tensor) -> Tensor:
    chained = torch.eye(4, dtype=torch.float64)[None]
    words = model.describe(pose[None], dense[None], before[None], tokens[None], chained)
    state, _, _ = model(model.start[None], torch.zeros(1, 3, dtype=torch.float64), words)
    return state.flatten()  # type: ignore[no-any-return]


@pytest.mark.parametrize("rule", ["replace", "damped", "attention", "confidence"])
def test_dense_tokens_reach_the_state_only_as_their_means(rule: str) -> None:
    """The Jacobian is zero in every direction that keeps the means, and not zero in others."""
    model = director(policy=Policy(rule, 5.0))  # type: ignore[arg-type]
    given = drawn(16), drawn(4, 16, seed=1), drawn(4, 16, seed=2), drawn(4, 12, seed=3)
    slopes = jacobian(lambda *x: written(model, *x), given)  # type: ignore[no-untyped-call]
    for slope in slopes[1:]:  # [A * D, N, width]
        mean = slope.mean(1, keepdim=True)
        assert slope.abs().max() > 1e-6
        assert torch.allclose(slope, mean.expand_as(slope), atol=1e-12)


def test_a_single_state_does_see_dense_tokens() -> None:
    model = director(director="single")
    given = drawn(16), drawn(4, 16, seed=1), drawn(4, 16, seed=2), drawn(4, 12, seed=3)
    slope = jacobian(lambda *x: written(model, *x), given)[1]  # type: ignore[no-untyped-call]
    assert (slope - slope.mean(1, keepdim=True)).abs().max() > 1e-6


def test_policies_say_how_far_the_state_goes() -> None:
    words, start = drawn(2, 4, 16), drawn(2, 3, 16, seed=1)
    weight = torch.zeros(2, 3, dtype=torch.float64)
    whole, _, said = director(policy=Policy("replace"))(start, weight, words)
    half, _, also = director(policy=Policy("damped"))(start, weight, words)
    assert torch.allclose(half, (whole + start) / 2)
    assert torch.equal(said, also)
    some, gathered, _ = director(policy=Policy("attention"))(start, weight, words)
    share = (some - start) / (whole - start)
    assert torch.allclose(share, share[..., :1].expand_as(share))
    assert ((share > 0) & (share < 1)).all()
    assert torch.allclose(share[..., 0], gathered)
    first, held, _ = director(policy=Policy("confidence", 0.2))(start, weight, words)
    assert torch.allclose(first, whole)
    assert held.max() <= 0.2


def test_rigid_motions_agree_with_the_geometry_kernel() -> None:
    vectors = drawn(20, 6) * torch.tensor([1.2, 1.2, 1.2, 2, 2, 2])
    motions = torch.stack([torch.as_tensor(oracle.exp(v.numpy())) for v in vectors])
    turn, shift = motions[:, :3, :3], motions[:, :3, 3]
    assert torch.allclose(rigid(turn, shift), motions)
    assert torch.allclose(inverse(motions) @ motions, torch.eye(4).double(), atol=1e-12)
    quats = quaternion(turn)
    assert torch.allclose(rotation(quats), turn)
    assert torch.allclose(rotation(multiply(quats[:10], quats[10:])), turn[:10] @ turn[10:])
    points = drawn(20, 7, 3, seed=1)
    moved = torch.as_tensor(oracle.transform(motions[3].numpy(), points[3].numpy()))
    assert torch.allclose(transform(motions, points)[3], moved)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 3.141592653589793])
def test_quaternions_have_gradients_at_no_turn_and_at_half_a_turn(angle: float) -> None:
    turn = torch.as_tensor(oracle.exp([0, angle, 0, 0, 0, 0])[:3, :3]).requires_grad_()
    quat = quaternion(turn)
    quat.square().cumsum(0).sum().backward()
    assert turn.grad is not None
    assert turn.grad.isfinite().all()
    assert torch.allclose(rotation(quat), turn, atol=1e-6)


def test_activations() -> None:
    raw = torch.linspace(-30, 30, 61, dtype=torch.float64)
    depth = distance(raw, 20.0)
    assert (depth.diff() >= 0).all()
    assert depth.min() >= 0.2 - 1e-9
    assert depth.max() <= 20 + 1e-9
    assert float(distance(torch.zeros(1), 20.0)) == pytest.approx(2.0)
    away = drawn(50, 3)
    assert torch.allclose(point(away).norm(dim=-1), away.norm(dim=-1).expm1())
    assert torch.equal(point(torch.zeros(2, 3)), torch.zeros(2, 3))
    assert torch.equal(motion(torch.zeros(2, 3), torch.zeros(2, 4)), torch.eye(4).expand(2, 4, 4))
