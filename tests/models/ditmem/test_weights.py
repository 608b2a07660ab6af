"""Guided backbones on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import imagine_parts as parts
import pytest
import torch

from retain.models import tensors
from retain.models.ditmem.config import EncoderConfig
from retain.models.ditmem.weights import SCHEMA, digest, load, opened, save
from retain.pipeline.errors import StateError, UsageError


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    made = parts.guided(replace(parts.CONFIG, training="lora", params=4)).eval()
    scale = torch.arange(4.0), 1 + torch.arange(4.0)
    save(tmp_path / "w.safetensors", made, scale=scale, head={"steps": 7})
    found = opened(tmp_path / "w.safetensors")
    assert found.guided.config == made.config
    assert not found.guided.training
    for name, value in made.state_dict().items():
        assert torch.equal(found.guided.state_dict()[name], value), name
    assert found.scale is not None
    assert all(map(torch.equal, found.scale, scale))
    assert (found.name, found.head["steps"]) == ("w", 7)
    clips = torch.rand(1, 2, 8, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(found.guided.encoder(clips)[0], made.encoder(clips)[0])


def test_the_digest_is_of_the_encoder_alone() -> None:
    one, other = parts.guided(), parts.guided()
    assert digest(one) == digest(other)
    torch.nn.init.zeros_(other.dit.head.weight)
    assert digest(one) == digest(other)
    torch.nn.init.zeros_(other.encoder.when)
    assert digest(one) != digest(other)
    paper = parts.guided(
        replace(parts.CONFIG, encoder=EncoderConfig("paper", wide=(8, 8), heads=2))
    )
    assert digest(one) != digest(paper)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weights called 'bal-12'.*'ball-12'"):
        load("bal-12")
    with pytest.raises(UsageError, match="no file"):
        load(tmp_path / "none.safetensors")
    path = Path(parts.weights(tmp_path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(StateError, match="damaged"):
        load(path)
    path.write_bytes(whole[:-3] + bytes(3))
    with pytest.raises(StateError, match="altered"):
        load(path)


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    values, head = tensors.read(Path(parts.weights(tmp_path)), SCHEMA, "")
    del head["schema"]
    wrong = {
        "config": {**head["config"], "rank": 0},
        "encoder": "0" * 64,
    }
    for name, value in wrong.items():
        tensors.write(tmp_path / "w.safetensors", values, {**head, name: value}, SCHEMA)
        with pytest.raises(StateError, match="does not fit its own description"):
            load(tmp_path / "w.safetensors")
    tensors.write(tmp_path / "w.safetensors", values, {"encoder": head["encoder"]}, SCHEMA)
    with pytest.raises(StateError, match="does not fit"):
        load(tmp_path / "w.safetensors")
    values.popitem()
    tensors.write(tmp_path / "w.safetensors", values, head, SCHEMA)
    with pytest.raises(StateError, match="does not fit"):
        load(tmp_path / "w.safetensors")


def test_the_shipped_weights_guide_worlds_of_their_size() -> None:
    found = opened("auto")
    assert (found.name, found.encoder) == ("ball-12", "ditmem-repaired")
    assert (found.guided.config.dit.side, found.guided.config.source) == (12, "references")
    assert found.scale is not None
    assert not any(p.requires_grad for p in found.guided.parameters())
