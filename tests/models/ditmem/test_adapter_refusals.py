"""What a memory in a transformer of diffusers is refused for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from adapter_parts import INSTALL, Family, make_ltx

from retain.models.ditmem.adapters import base, ltx, sana, wan
from retain.models.ditmem.inject import MemoryRows
from retain.pipeline.errors import MissingExtra, UsageError


@pytest.fixture(params=["wan", "ltx", "sana"])
def family(request: pytest.FixtureRequest) -> Family:
    return Family(request.param)


def test_what_cannot_be_is_refused(family: Family) -> None:
    handle = family.install(family.model)
    rows = MemoryRows(family.rows)
    with pytest.raises(UsageError, match="has a memory already"):
        family.install(family.model)
    for bad, match in (
        (MemoryRows(family.rows[..., :32]), "reads rows of 64 values"),
        (MemoryRows(family.rows, torch.ones(2, 4, dtype=torch.bool)), "valid must be"),
        (MemoryRows(family.rows, bias=torch.zeros(3)), "each of 2 blocks"),
        (replace(rows, kept=()), "belong to VideoDit"),
    ):
        with pytest.raises(UsageError, match=match):
            handle.set_memory(bad)
    handle.set_memory(MemoryRows(family.rows.repeat(2, 1, 1)))
    with pytest.raises(UsageError, match="for 4 videos, and 2 are being made"):
        family()
    handle.set_memory(rows)
    attn = family.blocks[1].attn1
    mine = attn.processor
    attn.set_processor(mine.plain)
    with pytest.raises(UsageError, match="replaced after the memory was installed"):
        family()
    attn.set_processor(mine)
    handle.remove()
    for layers in ([], [2], [-1], "some"):
        with pytest.raises(UsageError, match="layers"):
            family.install(family.model, layers)
    attn.set_processor(family.blocks[1].attn2.processor.__class__.__new__(Other))
    with pytest.raises(UsageError, match="Block 1 attends with a Other"):
        family.install(family.model)
    assert not family.blocks[0]._forward_pre_hooks


class Other:
    """No processor that is known."""


def test_a_block_without_its_hooks_is_refused(family: Family) -> None:
    family.install(family.model).set_memory(MemoryRows(family.rows))
    family()
    with pytest.raises(UsageError, match="Block 1 was run past its hooks"):
        family.blocks[1].attn1(torch.zeros(2, 12, 64))


def test_parallelism_is_refused(family: Family) -> None:
    handle = family.install(family.model)
    handle.set_memory(MemoryRows(family.rows))
    family.model._parallel_config = object()
    with pytest.raises(UsageError, match="context or tensor parallelism"):
        family()
    handle.remove()
    with pytest.raises(UsageError, match="context or tensor parallelism"):
        family.install(family.model)


def test_the_wrong_model_is_named() -> None:
    with pytest.raises(UsageError, match="WanTransformer3DModel, not a LTXVideoTransformer3DModel"):
        wan.install(make_ltx())
    for install in (ltx.install, sana.install):
        with pytest.raises(UsageError, match="Transformer3DModel, not a Linear"):
            install(torch.nn.Linear(1, 1))


def test_without_diffusers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base.importlib.util, "find_spec", lambda name: None)
    for install in INSTALL.values():
        with pytest.raises(MissingExtra, match=r"pip install 'retain\[imagine\]'"):
            install(None)
