"""The encoder of reference clips: what its repairs promise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from retain.models.ditmem.config import DitConfig, EncoderConfig
from retain.models.ditmem.encoder import MemoryEncoder

CLIP = DitConfig()


@pytest.fixture
def encoder() -> MemoryEncoder:
    torch.manual_seed(0)
    return MemoryEncoder(EncoderConfig(), CLIP).eval()


def clips(count: int = 3, batch: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.rand(batch, count, CLIP.frames, 1, CLIP.side, CLIP.side, generator=g)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_tokens_of_one_clip_differ_from_each_other(encoder: MemoryEncoder) -> None:
    own = encoder.branch(clips())
    assert own.shape == (2, 3, encoder.tokens_per_clip, CLIP.dim)
    rows = own.detach().flatten(0, 1)
    apart = torch.cdist(rows, rows)
    same = torch.eye(encoder.tokens_per_clip, dtype=torch.bool)
    assert float(apart.masked_fill(same, 9).min()) > 1e-2


def test_the_published_mode_copies_one_token_per_band() -> None:
    torch.manual_seed(0)
    published = MemoryEncoder(EncoderConfig(mode="paper"), CLIP)
    own = published.branch(clips()).detach().reshape(2, 3, 2, CLIP.frames // 2, CLIP.dim)
    close(own, own[:, :, :, :1].expand_as(own))
    assert float((own[:, :, 0] - own[:, :, 1]).abs().max()) > 1e-2


def test_the_order_of_references_moves_their_tokens_along(encoder: MemoryEncoder) -> None:
    order = torch.tensor([2, 0, 1])
    tokens, valid = encoder(clips())
    moved, _ = encoder(clips()[:, order])
    close(moved.reshape(2, 3, -1, CLIP.dim), tokens.reshape(2, 3, -1, CLIP.dim)[:, order])
    assert bool(valid.all())


def test_order_within_a_clip_is_seen(encoder: MemoryEncoder) -> None:
    forward, back = encoder.branch(clips()).detach(), encoder.branch(clips().flip(2)).detach()
    assert float((forward.mean(2) - back.mean(2)).abs().max()) > 1e-3


def test_a_clip_has_the_same_tokens_in_any_company(encoder: MemoryEncoder) -> None:
    many = encoder.branch(clips())
    close(encoder.branch(clips()[:1, 1:2])[0, 0], many[0, 1])
    close(encoder.descriptor(clips()[:1, 1:2])[0, 0], encoder.descriptor(clips())[0, 1])


def test_masked_references_are_as_if_absent(encoder: MemoryEncoder) -> None:
    valid = torch.tensor([[True, False, True], [True, False, True]])
    tokens, there = encoder(clips(), valid)
    short, _ = encoder(clips()[:, [0, 2]])
    close(tokens[there].reshape(2, -1, CLIP.dim), short)
    none, there = encoder(clips(), torch.zeros(2, 3, dtype=torch.bool))
    assert bool(none.isfinite().all())
    assert not bool(there.any())


def test_saved_and_loaded_gives_the_same_bits(encoder: MemoryEncoder) -> None:
    tokens, _ = encoder(clips())
    torch.manual_seed(9)
    other = MemoryEncoder(EncoderConfig(), CLIP).eval()
    other.load_state_dict(copy.deepcopy(encoder.state_dict()))
    assert torch.equal(other(clips())[0], tokens)
    assert torch.equal(encoder.train()(clips())[0], tokens)  # nothing acts otherwise in training


def test_descriptors_have_unit_length_and_one_band_is_enough() -> None:
    torch.manual_seed(0)
    one = MemoryEncoder(EncoderConfig(bands=("low",)), CLIP)
    found = one.descriptor(clips())
    close(found.norm(dim=-1), torch.ones(2, 3))
    assert one.tokens_per_clip == CLIP.frames // 2
