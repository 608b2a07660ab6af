"""The network: shapes, invariants, a state of fixed size, what the switches do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from retain.memory.evolve import Policy
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.network import OnlineX, Out, State
from retain.models.onlinex.types import Maps, inverse, multiply, quaternion, transform
from retain.pipeline.errors import UsageError

SMALL = {
    "side": 16, "patch": 8, "dim": 16, "heads": 2, "encoder_depth": 1, "decoder_dim": 16,
    "decoder_heads": 2, "decoder_depth": 1, "director_depth": 1, "anchors": 4, "head_dim": 8,
}  # fmt: skip
SWITCHES = [
    {}, {"director": "single"}, {"director": "none"}, {"transform": "explicit"},
    {"implicit": "published", "global_pose": "free", "centre": "xyz", "stacked": False},
    {"centre": "xyz", "transform": "explicit"}, {"policy": Policy("damped")},
    {"policy": Policy("attention")}, {"policy": Policy("confidence", 3.0)}, {"head_stride": 4},
    {"matched": True},
]  # fmt: skip


def network(**changes: object) -> OnlineX:
    torch.manual_seed(3)
    model = OnlineX(OnlineXConfig(**{**SMALL, **changes})).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for part in model.modules():  # last layers are quiet before training: make them heard
            if isinstance(part, torch.nn.Linear):
                part.weight.mul_(1.5)
                part.bias.add_(0.1 * torch.randn(part.bias.shape))
    return model


def pictures(count: int, batch: int = 2, side: int = 16) -> Tensor:
    return torch.rand(count, batch, 3, side, side, generator=torch.Generator().manual_seed(5))


def lens(batch: int = 2, side: int = 16) -> Tensor:
    K = torch.tensor([[0.9 * side, 0, side / 2], [0, 0.8 * side, side / 2], [0, 0, 1.0]])
    return K.expand(batch, 3, 3)


def play(model: OnlineX, frames: Tensor) -> tuple[list[Out], list[State]]:
    state, outs, states = model.begin(frames.shape[1]), [], []
    with torch.inference_mode():
        for frame in frames:
            out, state = model.step(frame, lens(len(frame)), state)
            outs.append(out)
            states.append(state)
    return outs, states


def bits(out: Out) -> list[Tensor]:
    maps = [getattr(m, name) for m in (out.relative, out.global_) for name in Maps.__slots__]
    return [*maps, out.relative_pose, out.pose, out.features, out.depth, out.size]


@pytest.mark.parametrize("changes", SWITCHES, ids=lambda c: ",".join(map(str, c)) or "default")
def test_shapes_and_ranges(changes: dict[str, object]) -> None:
    model = network(**changes)
    c = model.config
    for number, out in enumerate(play(model, pictures(3))[0]):
        for maps in (out.relative, out.global_):
            shapes = {name: getattr(maps, name).shape[2:] for name in Maps.__slots__}
            assert shapes == {
                "centres": (3,), "confidence": (), "scales": (3,), "quats": (4,), "opacities": (),
                "colours": (3,), "codes": (16,),
            }  # fmt: skip
            assert maps.centres.shape[:2] == (2, c.gaussians)
            assert maps.confidence.min() > 1
            assert maps.scales.min() > 0
            assert (maps.scales <= 4.0 * out.size[..., None] + 1e-6).all()
            for unit in (maps.quats, maps.codes):
                assert torch.allclose(unit.norm(dim=-1), torch.ones(()), atol=1e-5)
            assert ((maps.opacities > 0) & (maps.opacities < 1)).all()
            assert maps.colours.min() > -0.25
            assert maps.colours.max() < 1.25
        for pose in (out.pose, out.relative_pose):
            turn = pose[:, :3, :3]
            assert torch.allclose(turn @ turn.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5)
            assert torch.allclose(torch.linalg.det(turn), torch.ones(2), atol=1e-5)
            assert torch.equal(pose, torch.eye(4).expand(2, 4, 4)) == (number == 0)
        assert out.features.shape == (2, c.gaussians, c.head_dim)


@pytest.mark.parametrize("changes", SWITCHES, ids=lambda c: ",".join(map(str, c)) or "default")
def test_every_parameter_is_trained(changes: dict[str, object]) -> None:
    model, frames = network(**changes), pictures(2)
    with torch.no_grad():
        model.fusion.mlp.fc2.weight.add_(0.1)  # type: ignore[union-attr]
    state, total, known = model.begin(2), torch.zeros(()), None
    for frame in frames:
        out, state = model.step(frame, lens(), state)
        known = model.fuse(known, out)
        scene = model.scene(known)
        for number, part in enumerate([*bits(out)[:-1], scene.codes, scene.scales]):
            noise = torch.randn(part.shape, generator=torch.Generator().manual_seed(number))
            total = total + (part * noise).sum()
    _, state = model.step(frames[0], lens(), state)
    (total + (state.anchors * torch.randn(state.anchors.shape)).sum()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_state_keeps_its_size_over_fifty_frames() -> None:
    _, states = play(network(), pictures(50))
    sizes = {tuple(sorted((k, v.shape) for k, v in s.tensors().items())) for s in states}
    assert len(sizes) == 1
    turns = torch.stack([s.pose[:, :3, :3] for s in states])
    assert torch.allclose(turns @ turns.mT, torch.eye(3).expand_as(turns), atol=1e-5)
    assert all(s.anchors.isfinite().all() and s.anchors.abs().max() < 100 for s in states)
    assert [s.step for s in states] == list(range(1, 51))


@pytest.mark.parametrize("director", ["anchor", "single", "none"])
def test_a_stream_goes_on_from_saved_tensors_bit_for_bit(director: str) -> None:
    model, frames = network(director=director), pictures(6)
    outs, states = play(model, frames)
    kept = {k: v.clone() for k, v in states[2].tensors().items()}
    state = State(**kept, step=states[2].step)
    with torch.inference_mode():
        for frame, old in zip(frames[3:], outs[3:], strict=True):
            out, state = model.step(frame, lens(), state)
            assert all(map(torch.equal, bits(out), bits(old)))


def test_streams_of_a_batch_do_not_mix() -> None:
    model, frames = network(), pictures(4)
    both, alone = play(model, frames)[0], play(model, frames[:, 1:])[0]
    for a, b in zip(both, alone, strict=True):
        for x, y in zip(bits(a), bits(b), strict=True):
            assert torch.allclose(x[1:], y, atol=1e-5)


def test_the_past_reaches_the_pose_through_the_anchors_alone() -> None:
    """Two pasts that end with the same frame: without a director they are told apart by the chain
    only, with one also by the anchors."""

    def last(director: str, other: bool) -> Out:
        model, frames = network(director=director, global_pose="free"), pictures(3)
        outs, states = play(model, frames)
        if other:
            state = replace(states[1], anchors=-states[1].anchors)
            with torch.inference_mode():
                return model.step(frames[2], lens(), state)[0]
        return outs[2]

    assert not torch.allclose(last("anchor", True).pose, last("anchor", False).pose)
    assert torch.equal(last("none", True).pose, last("none", False).pose)


def test_without_a_director_relative_poses_are_chained() -> None:
    outs, _ = play(network(director="none"), pictures(5))
    for a, b in pairwise(outs):
        assert torch.allclose(b.pose, a.pose @ b.relative_pose, atol=1e-6)


@pytest.mark.parametrize("changes", [{"transform": "explicit"}, {"director": "none"},
                                     {"transform": "explicit", "centre": "xyz"}])  # fmt: skip
def test_explicit_global_maps_are_local_ones_moved_rigidly(changes: dict[str, object]) -> None:
    for out in play(network(**changes), pictures(4))[0]:
        back = inverse(out.relative_pose)
        local = transform(back, out.relative.centres)
        assert torch.allclose(out.global_.centres, transform(out.pose, local), atol=1e-4)
        assert torch.allclose(out.depth, local[..., 2], atol=1e-4)
        turn = quaternion((out.pose @ back)[:, :3, :3])[:, None]
        aligned = (multiply(turn, out.relative.quats) * out.global_.quats).sum(-1)
        assert torch.allclose(aligned.abs(), torch.ones(()), atol=1e-4)
        assert torch.equal(out.global_.scales, out.relative.scales)


@pytest.mark.parametrize("implicit", ["corrected", "published"])
def test_the_first_pictures_maps_are_in_place_already(implicit: str) -> None:
    outs, _ = play(network(implicit=implicit), pictures(2))
    for name in ("centres", "scales", "opacities", "colours", "codes", "confidence"):
        here, there = (getattr(maps, name) for maps in (outs[0].global_, outs[0].relative))
        torch.testing.assert_close(here, there, atol=1e-5, rtol=0)
    moved = outs[1].relative.moved(inverse(outs[1].relative_pose)).moved(outs[1].pose)
    assert not torch.allclose(outs[1].global_.centres, moved.centres, atol=1e-3)


def test_centres_of_rays_lie_on_the_rays_of_their_blocks() -> None:
    out = play(network(), pictures(2))[0][-1]
    local = transform(inverse(out.relative_pose), out.relative.centres)
    pixels = (lens() @ local.mT).mT
    pixels = pixels[..., :2] / pixels[..., 2:]
    side = torch.arange(8) * 2.0 + 1.0
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    assert torch.allclose(pixels[0], torch.stack([columns, rows], -1).flatten(0, 1), atol=1e-3)
    assert torch.allclose(out.size, out.depth * 2 / lens()[0, 0, 0])


def test_before_training_nothing_moves_and_pictures_are_covered() -> None:
    torch.manual_seed(0)
    model = OnlineX(OnlineXConfig(**SMALL)).eval()  # type: ignore[arg-type]
    out = play(model, pictures(3))[0][-1]
    assert (out.relative_pose - torch.eye(4)).abs().max() < 0.05
    assert out.global_.opacities.mean() > 0.85
    assert (out.global_.scales[..., :2].mean() / out.size.mean() - 0.6).abs() < 0.1
    assert 1 < out.depth.mean() < 4


def test_detached_state_ends_gradients() -> None:
    model, frames = network(), pictures(2)
    _, state = model.step(frames[0], lens(), model.begin(2))
    assert state.anchors.requires_grad
    cut = state.detach()
    assert cut.step == state.step
    assert not any(v.requires_grad for v in cut.tensors().values())


def test_focal_length_is_seen() -> None:
    model, frames = network(), pictures(1)
    wide = lens() * torch.tensor([[0.5], [0.5], [1.0]])
    with torch.inference_mode():
        a = model.encoder(frames[0], lens())
        assert not torch.allclose(a, model.encoder(frames[0], wide), atol=1e-3)


def test_configuration_travels_as_json() -> None:
    config = OnlineXConfig.small(policy=Policy("attention", 5.0), director="single")
    assert OnlineXConfig.from_json(config.as_json()) == config


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"side": 60}, "even"), ({"head_stride": 3}, "even"), ({"heads": 5}, "heads"),
     ({"anchors": 0}, "anchors"), ({"director": "ancor"}, "anchor"), ({"patch": 2}, "Stacked"),
     ({"transform": "none"}, "transform")],
)  # fmt: skip
def test_a_network_that_cannot_be_built_is_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        OnlineXConfig(**changes)  # type: ignore[arg-type]


def test_global_maps_begin_as_the_explicit_ones_whatever_the_relative_part_has_learned() -> None:
    """So that a director begins where it costs nothing; also of attributes, not of places alone."""
    torch.manual_seed(0)
    model = OnlineX(OnlineXConfig(**SMALL)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for part in model.relative_maps.modules():
            if isinstance(part, torch.nn.Linear):
                part.weight.mul_(1.5)
                part.bias.add_(0.3 * torch.randn(part.bias.shape))
    out = play(model, pictures(3))[0][-1]
    moved = out.relative.moved(inverse(out.relative_pose)).moved(out.pose)
    for name in ("centres", "scales", "opacities", "colours", "codes"):
        here, there = (getattr(maps, name) for maps in (out.global_, moved))
        assert (here - there).norm() < 0.1 * there.norm(), name
