"""Weights on disk: bit-equal or refused with a sentence, and never a pickle."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from gdkvm_parts import clip, tiny, tiny_config
from safetensors import safe_open

from retain.models import tensors
from retain.models.gdkvm import weights
from retain.pipeline.errors import StateError, UsageError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    path = tmp_path / "w.safetensors"
    weights.save(path, tiny(), {"made": "in a test"})
    return path


def test_what_is_loaded_is_what_was_saved(saved: Path) -> None:
    model, loaded = tiny(), weights.load(saved, tiny_config())
    assert loaded.config == model.config
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    with torch.no_grad():
        assert torch.equal(loaded(clip())[-1].logits, model(clip())[-1].logits)


def test_the_file_is_safetensors_with_a_readable_header(saved: Path) -> None:
    with safe_open(saved, "pt") as file:
        assert '"made": "in a test"' in file.metadata()["retain"]
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_the_start_of_a_file_is_refused(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(StateError, match="is not a file of ours, or is damaged"):
        weights.load(saved)


def test_a_single_altered_bit_is_refused(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-100] ^= 4
    saved.write_bytes(data)
    with pytest.raises(StateError, match="altered or damaged"):
        weights.load(saved)


def test_an_altered_description_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes().replace(b"in a test", b"in a rush"))
    with pytest.raises(StateError, match="altered or damaged"):
        weights.load(saved)


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    with pytest.raises(StateError, match="weights of another network"):
        weights.load(saved, tiny_config(key_dim=16))


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ({}, "does not say what network"),
        ({"config": tiny_config(value_dim=32).as_json()}, "does not fit its own description"),
        ({"schema": "other/2"}, "has schema 'other/2'"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, head: dict[str, object], sentence: str
) -> None:
    path = tmp_path / "w.safetensors"
    tensors.write(path, tiny().state_dict(), head, str(head.pop("schema", weights.SCHEMA)))
    with pytest.raises(StateError, match=sentence):
        weights.load(path)


def test_unknown_names_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weights called 'minni'.*Did you mean 'mini'"):
        weights.load("minni")
    with pytest.raises(UsageError, match="There is no file"):
        weights.load(tmp_path / "none.safetensors")


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self.path), "w"))


def test_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    path, sprung = tmp_path / "w.safetensors", tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(StateError, match="not a file of ours"):
        weights.load(path)
    assert not sprung.exists()


def test_a_write_that_fails_leaves_the_old_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        weights.save(saved, tiny(1), {})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_network_starts_from_weights_of_more_structures(tmp_path: Path) -> None:
    whole = tiny(objects=("cavity", "myocardium"), placed_keys=False)
    weights.save(tmp_path / "whole", whole, {})
    part = tiny(objects=("myocardium",), placed_keys=True)
    weights.take_over(part, tmp_path / "whole")
    assert torch.equal(part.object, whole.object[1:])
    assert torch.equal(part.to_logit.weight, whole.to_logit.weight)
    assert part.to_place is not None
    assert not part.to_place.weight.any()
    with pytest.raises(StateError, match="knows no atrium"):
        weights.take_over(tiny(objects=("atrium",)), tmp_path / "whole")
    with pytest.raises(StateError, match="another network"):
        weights.take_over(
            tiny(objects=("cavity",), key_dim=16, placed_keys=False),
            tmp_path / "whole",
        )
