"""What pooling by affinity does, whatever the weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.models.language.dinoiser import Dinoiser, affinity, pool, weights_of


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(1, 5), st.integers(1, 5), st.floats(-0.5, 0.9))
def test_rows_sum_to_one_and_constants_stay(seed: int, h: int, w: int, gamma: float) -> None:
    found = affinity(random(2, 6, h, w, seed=seed), max(gamma, 0.0))
    assert ((found == 0) | (found >= max(gamma, 0.0))).all()
    torch.testing.assert_close(found, found.mT)
    torch.testing.assert_close(weights_of(found).sum(2), torch.ones(2, h * w).double(), atol=2e-6,
                               rtol=0)  # fmt: skip
    constant = torch.arange(1.0, 4, dtype=torch.float64).view(1, 3, 1, 1).expand(2, 3, h, w)
    torch.testing.assert_close(pool(constant, found), constant, atol=1e-5, rtol=0)


def test_one_affinity_for_all_gives_the_mean_and_none_but_itself_changes_nothing() -> None:
    values = random(1, 3, 4, 5)
    mean = pool(values, torch.ones(1, 20, 20).double())
    torch.testing.assert_close(mean, values.mean((2, 3), keepdim=True).expand_as(values), atol=1e-6,
                               rtol=0)  # fmt: skip
    torch.testing.assert_close(
        pool(values, torch.eye(20).double()[None]), values, atol=1e-5, rtol=0
    )


def test_gamma_above_one_leaves_nothing_and_no_division_by_zero() -> None:
    values = random(1, 3, 4, 5)
    found = affinity(values, 1.01)
    assert not found.any()
    assert not pool(values, found).any()


def test_gamma_just_below_one_keeps_what_is_the_same() -> None:
    features = torch.zeros(1, 2, 1, 4).double()
    features[0, 0, 0, :2] = features[0, 1, 0, 2:] = 1.0
    values = torch.tensor([1.0, 3.0, 10.0, 20.0]).double().view(1, 1, 1, 4)
    pooled = pool(values, affinity(features, 0.99))
    torch.testing.assert_close(pooled.ravel(), torch.tensor([2.0, 2, 15, 15]).double(), atol=1e-4,
                               rtol=0)  # fmt: skip


def test_where_places_have_no_order_permuting_them_permutes_the_result() -> None:
    features, values = random(1, 6, 1, 12), random(1, 3, 1, 12, seed=1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    plain = pool(values, affinity(features, 0.2))
    mixed = pool(values[..., order], affinity(features[..., order], 0.2))
    torch.testing.assert_close(mixed, plain[..., order])


def test_affinity_of_a_picture_of_one_colour_is_one_everywhere() -> None:
    torch.manual_seed(0)
    network = Dinoiser(8, 4)
    local = torch.randn(1, 8, 1, 1).expand(1, 8, 5, 6)
    found = network.affinity(local)  # the border repeats itself, so it is like the middle
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-5, rtol=0)
    objects = network.objectness(local)
    assert objects.shape == (1, 5, 6)
    torch.testing.assert_close(objects, objects[:, :1, :1].expand_as(objects))


@pytest.mark.parametrize("length", [0.1, 1.0, 50.0])
def test_lengths_of_features_do_not_matter(length: float) -> None:
    features = random(1, 6, 2, 3)
    scaled = features * length * torch.linspace(1, 2, 6).view(1, 1, 2, 3)
    torch.testing.assert_close(affinity(scaled, 0.2), affinity(features, 0.2))
