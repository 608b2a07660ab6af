"""Fusion of Gaussians: against brute force in float64, and what must not change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.fusion import Fused, Fusion, fuse, voxels
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.types import Maps

CELL = 0.1
CONFIG = OnlineXConfig(language=4, head_dim=6)


def drawn(seed: int, batch: int = 1, n: int = 60, dtype: torch.dtype = torch.float64) -> Maps:
    noise = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(batch, n, *shape, generator=noise, dtype=dtype)

    quats = torch.nn.functional.normalize(rand(4) - 0.5, dim=-1)
    codes = torch.nn.functional.normalize(rand(4) - 0.5, dim=-1)
    return Maps(
        rand(3) * 0.6 - 0.3, 1 + rand(), 0.02 + 0.1 * rand(3), quats, rand(), rand(3), codes
    )


def features(maps: Maps, seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(*maps.confidence.shape, 6, generator=noise, dtype=maps.centres.dtype)


def fused(*seeds: int, batch: int = 1, cap: float = 1e9, budget: int | None = None) -> Fused:
    known: Fused | None = None
    for seed in seeds:
        maps = drawn(seed, batch)
        known = fuse(known, maps, features(maps, seed), CELL, cap=cap, budget=budget)
    assert known is not None
    return known


def brute(seeds: list[int]) -> dict[int, tuple[float, Tensor, Tensor]]:
    """Weight, centre and feature by voxel, by sums over all that fell in it."""
    cells: dict[int, list[tuple[float, Tensor, Tensor]]] = {}
    for seed in seeds:
        maps = drawn(seed)
        for row in range(maps.centres.shape[1]):
            edge, level = CELL, 0
            width = float(maps.scales[0, row].max()) / 0.6 * 0.7
            while width > edge:
                edge, level = edge * 2, level + 1
            key = level
            for x in maps.centres[0, row]:
                key = key * 2**17 + int(torch.floor(x / edge)) + 2**16
            one = float(maps.confidence[0, row]), maps.centres[0, row], features(maps, seed)[0, row]
            cells.setdefault(key, []).append(one)
    out = {}
    for key, rows in cells.items():
        total = sum(c for c, _, _ in rows)
        out[key] = (total, *(sum(r[0] * r[i] for r in rows) / total for i in (1, 2)))
    return out  # type: ignore[return-value]


def test_voxels_and_means_are_those_of_brute_force() -> None:
    known, truth = fused(1, 2, 3), brute([1, 2, 3])
    assert known.keys.tolist() == sorted(truth)
    assert len(truth) < 180
    for row, key in enumerate(known.keys.tolist()):
        weight, centre, feature = truth[key]
        assert float(known.weight[row]) == pytest.approx(weight)
        assert torch.allclose(known.values[row, :3], centre)
        assert torch.allclose(known.features[row], feature)


def test_order_does_not_matter_below_the_cap() -> None:
    a, b = fused(1, 2, 3), fused(3, 1, 2)
    assert torch.equal(a.keys, b.keys)
    for x, y in ((a.weight, b.weight), (a.values, b.values), (a.features, b.features)):
        assert torch.allclose(x, y, atol=1e-12)


def test_above_the_cap_the_newest_counts_more() -> None:
    a, b = fused(1, 2, 3, cap=2.0), fused(3, 2, 1, cap=2.0)
    assert float(a.weight.max()) <= 2.0
    assert not torch.allclose(a.values, b.values)


@pytest.mark.parametrize("cap", [1e9, 2.0])
def test_a_picture_seen_twice_moves_nothing(cap: float) -> None:
    once, twice = fused(1, cap=cap), fused(1, 1, cap=cap)
    assert torch.equal(once.keys, twice.keys)
    assert torch.allclose(once.values, twice.values, atol=1e-12)
    assert torch.allclose((2 * once.weight).clamp(max=cap), twice.weight)


def test_budget_is_kept_and_the_least_go() -> None:
    free, held = fused(1, 2, batch=2), fused(1, 2, batch=2, budget=20)
    assert free.counts.min() > 20
    assert held.counts.tolist() == [20, 20]
    only = fuse(None, drawn(1), features(drawn(1)), CELL)
    few = fuse(None, drawn(1), features(drawn(1)), CELL, budget=5)
    scales = only.values[:, 3:6].sort().values
    worth = only.weight * only.values[:, 10] * scales[:, 1] * scales[:, 2]
    assert set(few.keys.tolist()) == set(only.keys[worth.topk(5).indices].tolist())


def test_nothing_joins_nothing() -> None:
    empty = drawn(1, n=0)
    known = fuse(None, empty, features(empty), CELL, budget=4)
    assert known.maps.centres.shape == (1, 0, 3)
    assert Fusion(CONFIG).double()(known).codes.shape == (1, 0, 4)
    some = fuse(known, drawn(2), features(drawn(2)), CELL)
    assert torch.equal(some.keys, fused(2).keys)
    assert torch.equal(fuse(some, empty, features(empty), CELL).values, some.values)


def test_samples_of_a_batch_do_not_mix_and_are_padded() -> None:
    maps = drawn(4, batch=2)
    spread = torch.stack([maps.centres[0], maps.centres[1] * 10])
    maps = replace(maps, centres=spread)
    both = fuse(None, maps, features(maps), CELL)
    assert both.counts[0] < both.counts[1]
    gap = int(both.counts[1] - both.counts[0])
    for sample in range(2):
        parts = Maps(*(getattr(maps, k)[sample : sample + 1] for k in Maps.__slots__))
        alone = fuse(None, parts, features(maps)[sample : sample + 1], CELL)
        n = int(both.counts[sample])
        for name in Maps.__slots__:
            padded = getattr(both.maps, name)[sample, :n]
            assert torch.allclose(padded, getattr(alone.maps, name)[0])
    assert not both.maps.opacities[0, -gap:].any()
    assert not both.maps.confidence[0, -gap:].any()
    assert torch.equal(both.maps.quats[0, -1], torch.eye(4, dtype=torch.float64)[0])
    assert (both.maps.scales > 0).all()
    with pytest.raises(ValueError, match="samples"):
        fuse(both, drawn(1), features(drawn(1)), CELL)


def test_without_cells_all_is_kept() -> None:
    known: Fused | None = None
    for seed in (1, 1, 2):
        known = fuse(known, drawn(seed, 2), features(drawn(seed, 2), seed), 0.0)
    assert known is not None
    together = torch.cat([drawn(seed, 2).centres for seed in (1, 1, 2)], 1)
    assert torch.allclose(known.maps.centres, together, atol=1e-12)


def test_opposite_quaternions_are_one_turn() -> None:
    maps = drawn(1)
    flipped = replace(maps, quats=-maps.quats)
    known = fuse(fuse(None, maps, features(maps), CELL), flipped, features(maps), CELL)
    assert torch.allclose(known.values, fused(1).values, atol=1e-12)


def test_wide_gaussians_have_wide_voxels() -> None:
    centres = torch.tensor([[[0.01, 0.01, 0.01], [0.09, 0.01, 0.01]]])
    near, far = torch.full((1, 2), 0.02), torch.full((1, 2), 0.3)
    a, b = voxels(centres, near, 0.04), voxels(centres, far, 0.04)
    assert a[0, 0] != a[0, 1]
    assert b[0, 0] == b[0, 1]
    assert set(a[0].tolist()).isdisjoint(b[0].tolist())


def test_before_training_the_network_says_the_means() -> None:
    known, model = fused(1, 2, batch=2), Fusion(CONFIG).double()
    said, plain = model(known), known.maps
    for name in Maps.__slots__:
        assert torch.allclose(getattr(said, name), getattr(plain, name), atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    model, base = Fusion(CONFIG).double(), drawn(7, n=4)
    torch.nn.init.normal_(model.mlp.fc2.weight, std=0.3)
    size = torch.full((1, 4), 0.6, dtype=torch.float64)
    start = fuse(None, drawn(8, n=4), features(drawn(8, n=4)), CELL, size=size)

    def through(centres: Tensor, sure: Tensor, scales: Tensor, feature: Tensor) -> Tensor:
        maps = replace(base, centres=centres, confidence=sure, scales=scales)
        out = model(fuse(start, maps, feature, CELL, size=size))
        return torch.cat([out.centres, out.scales, out.quats, out.opacities[..., None],
                          out.codes], -1)  # fmt: skip

    given = (base.centres, base.confidence, base.scales, features(base))
    assert len(start.keys) + 4 > len(fuse(start, base, given[3], CELL, size=size).keys)
    assert torch.autograd.gradcheck(through, [v.clone().requires_grad_() for v in given])


@pytest.mark.parametrize("fusion", [True, False])
def test_the_network_fuses_what_it_says(fusion: bool) -> None:
    torch.manual_seed(0)
    model = OnlineX(OnlineXConfig(side=16, dim=16, heads=2, encoder_depth=1, decoder_dim=16,
                                  decoder_heads=2, decoder_depth=1, anchors=4, head_dim=8,
                                  fusion=fusion))  # fmt: skip
    K = torch.tensor([[12.0, 0, 8], [0, 12, 8], [0, 0, 1]]).expand(2, 3, 3)
    image, state, known = torch.rand(2, 3, 16, 16), model.begin(2), None
    for _ in range(3):
        out, state = model.step(image, K, state)
        known = model.fuse(known, out)
    assert known is not None
    scene = model.scene(known)
    (scene.centres.sum() + scene.codes[..., 0].sum()).backward()
    assert scene.centres.shape[1] < 192 if fusion else scene.centres.shape[1] == 192
    if model.fusion is not None:
        assert model.fusion.mlp.fc2.weight.grad is not None
        assert model.fusion.mlp.fc2.weight.grad.any()
