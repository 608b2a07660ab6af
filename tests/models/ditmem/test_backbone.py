"""The video transformer and its memory rows: identities that must hold for any weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from retain.models.ditmem.backbone import VideoDit
from retain.models.ditmem.config import DitConfig, EncoderConfig
from retain.models.ditmem.inject import (
    Attention,
    CrossAttention,
    MemoryRows,
    RowPairs,
    add_lora,
    rotate,
    turns,
)
from retain.pipeline.errors import UsageError

CONFIG = DitConfig(side=8, frames=4, dim=32, depth=2, heads=2)


@pytest.fixture
def model() -> VideoDit:
    torch.manual_seed(0)
    made = VideoDit(CONFIG).eval()
    torch.nn.init.normal_(made.head.weight)  # it starts by answering zero
    return made


def drawn(batch: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    noisy = torch.randn(batch, 4, 1, 8, 8, generator=g)
    clean = torch.randn(batch, 4, 1, 8, 8, generator=g)
    given = torch.tensor([True, True, False, False]).expand(batch, -1)
    return noisy, torch.rand(batch, generator=g), clean, given


def rows(batch: int = 3, count: int = 5) -> MemoryRows:
    g = torch.Generator().manual_seed(2)
    return MemoryRows(torch.randn(batch, count, CONFIG.dim, generator=g))


def test_what_is_not_given_is_not_read_and_what_is_given_is_not_noise(model: VideoDit) -> None:
    noisy, s, clean, given = drawn()
    out = model(noisy, s, clean, given)
    assert out.shape == noisy.shape
    hidden = torch.where(given[:, :, None, None, None], clean, clean + 9)
    other = torch.where(given[:, :, None, None, None], noisy - 9, noisy)
    assert torch.equal(out, model(other, s, hidden, given))
    assert not torch.allclose(out, model(noisy, s, -clean, given))
    assert not torch.allclose(out, model(noisy, s, clean, torch.zeros_like(given)))


def test_patches_come_back_as_they_were(model: VideoDit) -> None:
    picture = torch.arange(2 * 4 * 64.0).reshape(2, 4, 1, 8, 8)
    assert torch.equal(model._pictures(model._patches(picture)), picture)


def test_a_memory_of_nothing_changes_no_bit(model: VideoDit) -> None:
    args = drawn()
    plain = model(*args)
    empty = MemoryRows(torch.zeros(3, 0, CONFIG.dim))
    masked = replace(rows(), valid=torch.zeros(3, 5, dtype=torch.bool))
    assert torch.equal(plain, model(*args, empty))
    assert torch.equal(plain, model(*args, masked))
    assert not torch.allclose(plain, model(*args, rows()))


def test_rows_that_are_not_valid_are_as_if_absent(model: VideoDit) -> None:
    args, memory = drawn(), rows()
    valid = torch.tensor([True, False, True, False, False]).expand(3, -1)
    short = MemoryRows(memory.tokens[:, [0, 2]])
    torch.testing.assert_close(
        model(*args, replace(memory, valid=valid)), model(*args, short), atol=1e-5, rtol=0
    )
    mixed = model(*args, memory.drop(torch.tensor([True, False, True])))
    torch.testing.assert_close(mixed[1], model(*args)[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed[0], model(*args, memory)[0], atol=1e-5, rtol=0)


def test_equal_rows_are_one_row_with_the_log_of_their_number(model: VideoDit) -> None:
    args = drawn()
    one = rows(count=1)
    many = MemoryRows(one.tokens.expand(-1, 7, -1))
    biased = replace(one, bias=torch.full((CONFIG.depth,), 7.0).log())
    torch.testing.assert_close(model(*args, many), model(*args, biased), atol=1e-5, rtol=0)


def test_the_order_of_rows_does_not_matter(model: VideoDit) -> None:
    args, memory = drawn(), rows()
    other = MemoryRows(memory.tokens.flip(1))
    torch.testing.assert_close(model(*args, memory), model(*args, other), atol=1e-5, rtol=0)


def test_keys_and_values_alone_equal_the_published_sequence() -> None:
    torch.manual_seed(3)
    attention, turn = Attention(32, 2).double(), turns(3, 2, 2, 16).to(torch.complex128)
    x, memory = torch.randn(2, 12, 32).double(), torch.randn(2, 5, 32).double()
    ours = attention(x, turn, attention.pair(memory))
    torch.testing.assert_close(ours, attention.full_sequence(x, memory, turn), atol=1e-12, rtol=0)
    assert not torch.allclose(ours, attention(x, turn))


def test_static_rows_are_the_same_cached_or_not(model: VideoDit) -> None:
    args, memory = drawn(), replace(rows(), static_time=0.0)
    cached = model.cached(memory)
    assert cached.kept is not None
    assert len(cached.kept) == CONFIG.depth
    still = (args[0], torch.zeros(3), *args[2:])
    torch.testing.assert_close(model(*still, cached), model(*still, rows()), atol=1e-6, rtol=0)
    torch.testing.assert_close(model(*args, cached), model(*args, memory), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="static"):
        model.cached(rows())


def test_lora_and_cross_attention_start_by_changing_nothing(model: VideoDit) -> None:
    args = drawn()
    plain = model(*args)
    adapted = replace(rows(), adapter=CrossAttention(CONFIG.dim, CONFIG.depth, CONFIG.heads))
    assert torch.equal(model(*args, adapted), plain)
    new = add_lora(model, 4)
    assert torch.equal(model(*args), plain)
    assert sum(p.numel() for p in new) == CONFIG.depth * 4 * 2 * 4 * CONFIG.dim
    with pytest.raises(ValueError, match="already"):
        add_lora(model, 4)


def test_cross_attention_is_silent_where_nothing_is_valid(model: VideoDit) -> None:
    adapter = CrossAttention(CONFIG.dim, CONFIG.depth, CONFIG.heads)
    for block in adapter.blocks:
        torch.nn.init.normal_(block.o.weight)
    args, memory = drawn(), replace(rows(), adapter=adapter)
    mixed = model(*args, memory.drop(torch.tensor([True, False, True])))
    torch.testing.assert_close(mixed[1], model(*args)[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed[0], model(*args, memory)[0], atol=1e-5, rtol=0)
    assert not torch.allclose(mixed[0], model(*args)[0])


def test_a_frozen_backbone_gets_no_gradient_and_the_rows_do(model: VideoDit) -> None:
    model.requires_grad_(False)
    memory = rows()
    tokens = memory.tokens.requires_grad_()
    model(*drawn(), memory).square().mean().backward()
    assert tokens.grad is not None
    assert float(tokens.grad.abs().sum()) > 0
    assert all(p.grad is None for p in model.parameters())


def test_rotation_depends_on_how_far_apart_two_places_are() -> None:
    turn = turns(4, 3, 3, 20).to(torch.complex128)
    assert turn.shape == (36, 10)
    torch.manual_seed(4)
    q, k = torch.randn(20).double(), torch.randn(20).double()

    def dot(i: int, j: int) -> float:
        a = rotate(q.expand(1, 1, 1, 20), turn[i : i + 1])
        return float((a * rotate(k.expand(1, 1, 1, 20), turn[j : j + 1])).sum())

    step = 3 * 3 + 3 + 1  # one frame, one row and one column on
    assert dot(0, step) == pytest.approx(dot(step, 2 * step))
    assert dot(0, step) != pytest.approx(dot(0, 2 * step))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"side": 10}, "patches"),
        ({"frames": 2}, "3 frames"),
        ({"heads": 3}, "heads"),
        ({"depth": 0}, "at least 1"),
    ],
)
def test_a_backbone_that_cannot_be_is_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DitConfig(**values)


def test_an_encoder_configuration_survives_json() -> None:
    config = EncoderConfig(bands=("low",), wide=(16, 24))
    assert (
        EncoderConfig.from_json(config.as_json() | {"bands": ["low"], "wide": [16, 24]}) == config
    )
    with pytest.raises(UsageError, match="paper"):
        EncoderConfig(mode="papr")  # type: ignore[arg-type]


def test_keys_of_their_own_start_as_the_backbones_without_a_time(model: VideoDit) -> None:
    args, memory = drawn(), rows()
    pairs = RowPairs(model)
    for block, made in zip(model.stack(), pairs(memory.tokens), strict=True):
        plain = block.rows(memory.tokens, -block.table)  # no shift, no scale
        for one, other in zip(made, plain, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    before = model(*args, replace(memory, kept=pairs(memory.tokens)))
    with torch.no_grad():
        for value in pairs.v:
            value.weight.neg_()
    assert not torch.allclose(before, model(*args, replace(memory, kept=pairs(memory.tokens))))
    assert not torch.allclose(before, model(*args))


def test_rows_of_one_sample_serve_many(model: VideoDit) -> None:
    args, memory = drawn(), rows()
    one = MemoryRows(memory.tokens[:1], torch.ones(1, 5, dtype=torch.bool))
    for few in (one, replace(one, kept=RowPairs(model)(one.tokens))):
        many = few.expand(3)
        alone = [model(*(x[k : k + 1] for x in args), few) for k in range(3)]
        torch.testing.assert_close(model(*args, many), torch.cat(alone), atol=1e-5, rtol=0)
