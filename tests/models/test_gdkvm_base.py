"""The base size and its object transformer, on the smallest grid it takes."""

from __future__ import annotations

import pytest
import torch

from retain.models.gdkvm.blocks import aggregate
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.network import Gdkvm
from retain.models.gdkvm.transformer import ObjectTransformer, allowed, places


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def transformer() -> ObjectTransformer:
    return ObjectTransformer(32, 0.9).eval()


@pytest.fixture(scope="module")
def model() -> Gdkvm:
    return Gdkvm(GdkvmConfig.base(64, objects=("cavity", "atrium"))).eval()


def test_it_has_the_papers_size(model: Gdkvm) -> None:
    # The paper says 35.2 M; its checkpoint has 35.1 M. The grid and the objects hardly matter.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(35.1e6, rel=0.01)


def test_a_step_in_half_precision_keeps_its_state_in_single(model: Gdkvm) -> None:
    picture, state = torch.rand(1, 1, 64, 64) * 2 - 1, model.start(1)
    shapes = [x.shape for x in state]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        seen = model.describe(picture)
        for t in range(2):
            out, state = model.step(seen, state, first=t == 0)
    assert out.logits.shape == (1, 3, 64, 64)
    assert [x.shape for x in out.aux] == [(1, 3, 4, 4)] * 5
    assert [x.shape for x in state] == shapes
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in (*state, out.logits))
    assert state.summaries[..., -1].min() > 0


def test_maps_keep_their_shape_and_objects_do_not_mix(transformer: ObjectTransformer) -> None:
    x, summaries = torch.randn(2, 3, 32, 4, 6), torch.rand(2, 3, *transformer.summary_shape)
    out, aux = transformer(x, summaries)
    assert out.shape == x.shape
    assert [a.shape for a in aux] == [(2, 4, 4, 6)] * 4
    alone, _ = transformer(x[1:], summaries[1:])
    torch.testing.assert_close(out[1:], alone, rtol=1e-4, atol=1e-5)


def test_summaries_matter_from_the_second_frame_on(transformer: ObjectTransformer) -> None:
    x = torch.randn(1, 1, 32, 4, 4)
    empty = torch.zeros(1, 1, *transformer.summary_shape)
    some = transformer.summarise(torch.randn(1, 1, 32, 4, 4), torch.rand(1, 1, 16, 16), empty)
    assert not torch.allclose(transformer(x, empty)[0], transformer(x, some)[0])


def test_half_of_the_summaries_see_the_object_half_the_rest(
    transformer: ObjectTransformer,
) -> None:
    empty = torch.zeros(1, 1, *transformer.summary_shape)
    values = torch.randn(1, 1, 32, 4, 4)
    whole = transformer.summarise(values, torch.ones(1, 1, 16, 16), empty)
    assert (whole[..., :8, -1] > 0).all()
    assert not whole[..., 8:, :].any()
    nothing = transformer.summarise(values, torch.zeros(1, 1, 16, 16), empty)
    assert not nothing[..., :8, :].any()


def test_summaries_stay_bounded_and_keep_their_ratio(transformer: ObjectTransformer) -> None:
    values, mask = torch.randn(1, 2, 32, 4, 4), torch.rand(1, 2, 16, 16)
    with torch.no_grad():
        one = transformer.summarise(values, mask, torch.zeros(1, 2, *transformer.summary_shape))
        many = one
        for _ in range(300):
            many = transformer.summarise(values, mask, many)
    # A geometric series: 1 / (1 - 0.9).
    torch.testing.assert_close(many, 10 * one, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(many[..., :-1] / many[..., -1:], one[..., :-1] / one[..., -1:])


def test_without_decay_summaries_sum_for_ever_as_in_the_public_code() -> None:
    transformer = ObjectTransformer(32, 1.0)
    values, mask = torch.randn(1, 1, 32, 4, 4), torch.rand(1, 1, 16, 16)
    one = transformer.summarise(values, mask, torch.zeros(1, 1, *transformer.summary_shape))
    torch.testing.assert_close(transformer.summarise(values, mask, one), 2 * one)


def test_queries_look_where_their_object_wins_or_everywhere() -> None:
    logits = torch.full((1, 2, 2, 2), -5.0)
    logits[0, 0, 0, 1] = 5.0  # object 0 wins one cell, object 1 none
    seen = allowed(aggregate(logits))
    assert seen.shape == (2, 16, 4)
    assert seen[0, 0].tolist() == [False, True, False, False]
    assert seen[0, 8].tolist() == [True, False, True, True]
    assert seen[1].all()


def test_every_cell_has_a_place_of_its_own() -> None:
    rows = places(16, 16, 256, torch.device("cpu"))
    assert rows.shape == (256, 256)
    distance = torch.cdist(rows, rows) + 1e3 * torch.eye(256)
    assert distance.min() > 1
    assert distance.argmin(dim=1).sub(torch.arange(256)).abs().le(17).all()
