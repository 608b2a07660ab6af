"""The memory in small random Wan, LTX and SANA-Video transformers of diffusers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_parts import ROWS, TOKENS, VIDEOS, Family, close, gap
from safetensors.torch import load_file
from torch import Tensor

from retain.models.ditmem.inject import MemoryRows
from retain.pipeline.errors import UsageError

with_contexts = pytest.mark.parametrize("family", ["wan", "ltx"], indirect=True)


@pytest.fixture(params=["wan", "ltx", "sana"])
def family(request: pytest.FixtureRequest) -> Family:
    return Family(request.param)


def test_without_rows_no_bit_changes_and_remove_restores(family: Family) -> None:
    before = family.model.attn_processors
    plain = family()
    handle = family.install(family.model)
    assert torch.equal(family(), plain)
    handle.set_memory(MemoryRows(family.rows, torch.zeros(VIDEOS, ROWS, dtype=torch.bool)))
    assert torch.equal(family(), plain)
    handle.set_memory(MemoryRows(family.rows))
    assert gap(family(), plain) > 0.01
    handle.set_memory(None)
    assert torch.equal(family(), plain)
    handle.set_memory(MemoryRows(family.rows))
    handle.remove()
    handle.remove()
    assert family.model.attn_processors == before
    assert torch.equal(family(), plain)
    assert not any(b._forward_pre_hooks for b in family.blocks)
    with pytest.raises(UsageError, match="was removed"):
        handle.set_memory(None)


def test_keys_and_values_are_as_good_as_rows_in_the_sequence(family: Family) -> None:
    with family.published(family.rows):
        truth = family(700.0)
    family.install(family.model).set_memory(MemoryRows(family.rows))
    close(family(700.0), truth)
    assert gap(family(100.0), family(700.0)) > 0.01  # and they follow the time


@pytest.mark.parametrize("noised", [4, 7])
def test_tokens_with_times_of_their_own(family: Family, noised: int) -> None:
    times = torch.zeros(VIDEOS, TOKENS)
    times[:, noised] = 600.0
    with family.published(family.rows, noised):
        truth = family(times)
    with family.published(family.rows, 0):
        clean = family(times)
    family.install(family.model).set_memory(MemoryRows(family.rows))
    close(family(times), truth)
    assert gap(clean, truth) > 1e-3


def test_fused_projections() -> None:
    family = Family("wan")
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows))
    apart = family()
    family.model.fuse_qkv_projections()
    close(family(), apart)
    handle.set_memory(None)
    fused = family()
    handle.remove()
    assert torch.equal(family(), fused)


def test_chosen_layers_only(family: Family) -> None:
    last = family.install(family.model, [1])
    last.set_memory(MemoryRows(family.rows))
    seen: list[Tensor] = []
    hook = family.blocks[0].register_forward_hook(lambda b, args, out: seen.append(out))
    one = family()
    last.set_memory(None)
    none = family()
    hook.remove()
    assert torch.equal(seen[0], seen[1])
    assert gap(one, none) > 1e-3


def test_masked_rows_are_absent(family: Family) -> None:
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows[:, :3]))
    few = family()
    there = torch.arange(ROWS).expand(VIDEOS, -1) < 3
    handle.set_memory(MemoryRows(family.rows, there))
    assert torch.equal(family(), few)
    uneven = there.clone()
    uneven[1] = False  # a mask proper: other samples have other rows, the second none
    handle.set_memory(MemoryRows(family.rows, uneven))
    found = family()
    handle.set_memory(None)
    close(found, torch.stack([few[0], family()[1]]))


def test_the_order_of_rows_says_nothing_and_one_set_serves_all(family: Family) -> None:
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows))
    straight = family()
    handle.set_memory(MemoryRows(family.rows.flip(1)))
    close(family(), straight)
    handle.set_memory(MemoryRows(family.rows[:1]))
    alike = family()
    handle.set_memory(MemoryRows(family.rows[:1].expand(VIDEOS, -1, -1)))
    assert torch.equal(family(), alike)


def test_bias_is_a_weight_of_the_rows(family: Family) -> None:
    handle = family.install(family.model)
    doubled = family.rows.repeat(1, 2, 1)
    handle.set_memory(MemoryRows(doubled))
    twice = family()
    handle.set_memory(MemoryRows(family.rows, bias=torch.full((2,), 2.0).log()))
    close(family(), twice)  # n equal rows are one row and ln n
    handle.set_memory(MemoryRows(family.rows, bias=torch.full((2,), -40.0)))
    faint = family()
    handle.set_memory(None)
    close(faint, family())


def test_rows_of_a_static_time_are_kept_and_the_same_as_made_anew(family: Family) -> None:
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows))
    moving = family(300.0)
    handle.set_memory(MemoryRows(family.rows, static_time=0.3))
    with torch.no_grad():
        close(family(300.0), moving)
        kept = family(900.0)
    assert len(handle.kept) == 2  # blocks
    fresh = family(900.0)  # with gradients nothing is kept or taken
    assert torch.equal(kept, fresh)
    handle.set_memory(MemoryRows(family.rows))
    assert gap(family(900.0), fresh) > 1e-3
    handle.set_memory(MemoryRows(family.rows.flip(2), static_time=0.3))
    with torch.no_grad():
        assert gap(family(900.0), kept) > 1e-3  # of other rows


def test_static_rows_are_made_once() -> None:
    family = Family("wan")
    calls: list[int] = []
    family.blocks[0].norm1.register_forward_hook(lambda m, a, out: calls.append(out.shape[1]))
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows, static_time=0.0))
    with torch.no_grad():
        for step in (900.0, 500.0, 100.0):
            family(step)
    assert calls.count(ROWS) == 1
    assert calls.count(TOKENS) == 3


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("static_time", [None, 0.2])
def test_gradients_reach_tokens_and_bias_and_nothing_else(
    family: Family, checkpointing: bool, static_time: float | None
) -> None:
    if checkpointing:
        family.model.train().enable_gradient_checkpointing()
    tokens = family.rows.clone().requires_grad_()
    bias = torch.zeros(2, requires_grad=True)
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(tokens, bias=bias, static_time=static_time))
    for _ in range(2):  # a second step meets no graph of the first
        family().square().mean().backward()
    assert tokens.grad is not None
    assert bool((tokens.grad.abs().sum(-1) > 0).all())
    assert bias.grad is not None
    assert bool((bias.grad != 0).all())
    assert all(p.grad is None for p in family.model.parameters())


def test_checkpointing_remembers_the_rows_of_each_call(family: Family) -> None:
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            family.model.train().enable_gradient_checkpointing()
        right = family.rows.clone().requires_grad_()
        wrong = family.rows.flip(1, 2).requires_grad_()
        handle = family.install(family.model)
        outs = []
        for rows in (right, wrong, None):
            handle.set_memory(None if rows is None else MemoryRows(rows))
            outs.append(family(400.0))
        ((outs[0] - outs[1]).square().mean() + outs[2].mean()).backward()
        handle.remove()
        found.append((right.grad, wrong.grad))
    torch.testing.assert_close(found[0], found[1], atol=1e-7, rtol=1e-4)
    assert "Again" not in type(family.model._gradient_checkpointing_func).__name__


def test_half_precision(family: Family) -> None:
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows, torch.rand(VIDEOS, ROWS) < 0.5))
    exact = family()
    family.model.to(torch.bfloat16)
    family.noisy, family.text = family.noisy.bfloat16(), family.text.bfloat16()
    found = family()
    assert found.dtype == torch.bfloat16
    close(found.float(), exact, 0.1)


def test_sana_makes_both_passes_at_once() -> None:
    family = Family("sana")
    plain = family()
    handle = family.install(family.model, memory_in_uncond=False)
    handle.set_memory(MemoryRows(family.rows))
    told = family()
    close(family(copies=2), torch.cat([plain, told]))
    assert gap(plain, told) > 0.01


@with_contexts
def test_pass_without_prompt(family: Family) -> None:
    handle = family.install(family.model, memory_in_uncond=False)
    plain = family()
    handle.set_memory(MemoryRows(family.rows))
    with family.model.cache_context("cond"):
        cond = family()
    with family.model.cache_context("uncond"):
        assert torch.equal(family(), plain)
    with family.model.cache_context("cond_uncond"):
        both = family(copies=2)  # LTX: one batch, without prompt first
        alone = family()  # no guidance
    close(both, torch.cat([plain, cond]))
    assert torch.equal(alone, cond)
    assert gap(plain, cond) > 0.01
    with pytest.raises(UsageError, match="memory_in_uncond=False needs to know"):
        family()
    handle.remove()
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows))
    for name in ("cond", "uncond"):
        with family.model.cache_context(name):
            assert torch.equal(family(), cond)
    with family.model.cache_context("cond_uncond"):
        close(family(copies=2), torch.cat([cond, cond]))
    assert torch.equal(family(), cond)


def test_saved_and_loaded(family: Family, tmp_path: Path) -> None:
    names = list(family.model.state_dict())
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows, static_time=0.5))
    with torch.no_grad():
        told = family()
    assert list(family.model.state_dict()) == names
    family.model.save_pretrained(tmp_path)
    kind = type(family.model)  # from_pretrained of Wan would need accelerate
    family.model = kind.from_config(kind.load_config(tmp_path)).eval()
    family.model.load_state_dict(load_file(tmp_path / "diffusion_pytorch_model.safetensors"))
    family.install(family.model).set_memory(MemoryRows(family.rows, static_time=0.5))
    with torch.no_grad():
        assert torch.equal(family(), told)


@with_contexts
def test_the_attention_backend_is_taken_over_and_left(family: Family) -> None:
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows))
    before = family()
    family.model.set_attention_backend("_native_math")
    close(family(), before)
    handle.remove()
    assert family.blocks[0].attn1.processor._attention_backend == "_native_math"
