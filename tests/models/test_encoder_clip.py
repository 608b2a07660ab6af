"""OpenCLIP: words and pictures in one space, from the cache, a file, or the network when asked."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import numpy as np
import pytest
from clip_parts import CONFIG, tiny_clip

from retain.models.encoders import clip
from retain.models.encoders.base import TextEncoder, create
from retain.pipeline.errors import UsageError

open_clip = pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def name(folder: Path) -> str:
    return tiny_clip(folder)


@pytest.fixture(scope="module")
def encoder(name: str) -> TextEncoder:
    made = create(name, device="cpu")
    assert isinstance(made, TextEncoder)
    return made


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 255, (40, 30 + i, 3), dtype=np.uint8) for i in range(count)]


def test_words_and_pictures_are_unit_rows_of_one_length(encoder: TextEncoder) -> None:
    words = encoder.encode_text(["a dog", "a red car on a street"])
    seen = encoder.encode(pictures(3))
    assert words.shape == (2, 24)
    assert seen.shape == (3, 24)
    assert words.dtype == seen.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(words.astype(np.float64), axis=1), 1, atol=1e-5)
    assert encoder.encode_text([]).shape == (0, 24)
    assert abs(float(words[0] @ words[1])) < 0.999


def test_a_text_does_not_depend_on_its_batch(encoder: TextEncoder) -> None:
    both = encoder.encode_text(["a dog", "a red car on a street"])
    alone = encoder.encode_text(["a red car on a street"])
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_it_is_open_clips_own_answer(name: str, encoder: TextEncoder) -> None:
    import torch

    config, file = name.removeprefix("openclip:").split("@")
    network = open_clip.create_model(Path(config).stem, pretrained=file).eval()
    tokens = open_clip.get_tokenizer(Path(config).stem)(["a dog", "the sea at night"])
    with torch.inference_mode():
        theirs = torch.nn.functional.normalize(network.encode_text(tokens)).numpy()
    np.testing.assert_allclose(
        encoder.encode_text(["a dog", "the sea at night"]), theirs, atol=1e-5
    )


def test_long_texts_lose_their_end_and_say_so(
    encoder: TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = "a dog", "a dog and a cat and " * 8
    assert encoder.fits(short)
    assert not encoder.fits(long)
    with caplog.at_level(logging.WARNING):
        first = encoder.encode_text([long])
        other = encoder.encode_text([long + "one more horse"])
    assert "its end is lost" in caplog.text
    np.testing.assert_array_equal(first, other)


def test_scripts_the_tokenizer_was_not_made_for_are_not_known(encoder: TextEncoder) -> None:
    for text in ("a dog on a kitchen table", "photosynthesis", "a", "ein Hund", "2024"):
        assert encoder.known(text) == 1, text
    for text in ("厨房里的狗", "перед домом стоит собака", "κουζίνα", "كلب", "👍", "", "..."):
        assert encoder.known(text) == 0, text
    assert 0 < encoder.known("a dog 厨房里的狗") < 1


def test_tokenizers_of_many_languages_know_by_their_vocabulary(name: str) -> None:
    from types import SimpleNamespace

    class Inner:
        unk_token_id = 3

        def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
            ids = [3 if part == "☃" else 10 for part in text] + [1] * add_special_tokens
            return SimpleNamespace(input_ids=ids)

    made = create(name, device="cpu")
    assert isinstance(made, clip.OpenClip)
    made.__dict__["_words"] = SimpleNamespace(tokenizer=Inner(), context_length=8)
    assert made.known("厨房里的狗") == 1
    assert made.fits("厨房里的狗")
    assert not made.fits("厨房里的狗和两只猫")


def test_models_whose_words_need_another_package_say_so(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name)
    )
    made = create(name, device="cpu")
    assert isinstance(made, clip.OpenClip)
    made._model = "ViT-B-16-SigLIP"  # pictures need no tokenizer, words this one's
    assert made.encode(pictures(1)).shape == (1, 24)
    with pytest.raises(UsageError, match="cannot read words.*pip install transformers"):
        made.known("a dog")
    file = name.partition("@")[2]
    with pytest.raises(UsageError, match="needs the package 'transformers'"):
        create(f"openclip:roberta-ViT-B-32@{file}", device="cpu")


def test_the_hub_is_offline_unless_it_may_be_asked() -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    with clip._hub(download=False):
        assert constants.HF_HUB_OFFLINE is True
    with clip._hub(download=True):
        assert before == constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE


def test_another_file_is_another_encoder(folder: Path, encoder: TextEncoder) -> None:
    other = create(tiny_clip(folder, seed=1), device="cpu")
    assert isinstance(other, TextEncoder)
    assert other.name != encoder.name
    assert np.abs(other.encode_text(["a dog"]) - encoder.encode_text(["a dog"])).max() > 0.1


def test_the_name_is_whole_wherever_it_is_used(
    name: str, monkeypatch: pytest.MonkeyPatch, encoder: TextEncoder
) -> None:
    config, file = (Path(part) for part in name.removeprefix("openclip:").split("@"))
    monkeypatch.chdir(config.parent)
    assert create(f"openclip:{config.name}@{file.name}", device="cpu").name == encoder.name


def test_torch_files_are_read_by_the_restricted_reader(name: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    config, file = name.removeprefix("openclip:").split("@")
    torch.save(load_file(file), tmp_path / "tiny.pt")
    again = create(f"openclip:{config}@{tmp_path}/tiny.pt", device="cpu")
    assert again.dim == 24

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UsageError, match=r"evil\.pt cannot be read"):
        create(f"openclip:{config}@{tmp_path}/evil.pt", device="cpu")
    assert not (tmp_path / "touched").exists()


def test_files_that_are_wrong_are_refused(name: str, folder: Path, tmp_path: Path) -> None:
    config, file = name.removeprefix("openclip:").split("@")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(Path(file).read_bytes()[:1000])
    empty = tmp_path / "empty.bin"
    empty.write_bytes(b"")
    cases = {
        f"openclip:{config}@{tmp_path}/none.safetensors": "no file of weights",
        f"openclip:{config}@": "no file of weights",
        f"openclip:{config}": "says nothing of the model's weights",
        f"openclip:{config}@{config}": "of a kind that is not read",
        f"openclip:{config}@{cut}": r"cut\.safetensors cannot be read",
        f"openclip:{config}@{empty}": r"empty\.bin cannot be read",
        f"openclip:ViT-B-32/none@{file}": "no weights 'none'",
        f"openclip:ViT-C-32@{file}": r"no model 'ViT-C-32'\. Did you mean",
        "openclip:ViT-B-32": "no weights ''.*laion2b_s34b_b79k",
    }
    for asked, sentence in cases.items():
        with pytest.raises(UsageError, match=sentence):
            create(asked, device="cpu")
    wide = tiny_clip(folder, seed=2, dim=32).partition("@")[0]
    with pytest.raises(UsageError, match="do not fit the model 'tiny-clip-32'"):
        create(f"{wide}@{file}", device="cpu")


def test_configurations_that_are_wrong_are_refused(name: str, tmp_path: Path) -> None:
    file = name.partition("@")[2]
    cases = {
        "broken": ("{", "cannot be read"),
        "deep": ("[" * 100_000, "cannot be read"),
        "list": ("[]", "does not describe a model"),
        "text": (json.dumps({**CONFIG, "text_cfg": 3}), "does not describe a model"),
        "heads": (json.dumps(CONFIG).replace('"heads": 2', '"heads": 7'), "do not fit"),
        "headless": (json.dumps(CONFIG).replace('"heads": 2', '"heads": 0'), "do not fit"),
        "ViT-B-16": (json.dumps(CONFIG), "another model by the name 'ViT-B-16'"),
    }
    for stem, (text, sentence) in cases.items():
        path = tmp_path / f"{stem}.json"
        path.write_text(text)
        with pytest.raises(UsageError, match=sentence):
            create(f"openclip:{path}@{file}", device="cpu")
    with pytest.raises(UsageError, match="cannot be read"):
        create(f"openclip:{tmp_path}/none.json@{file}", device="cpu")


def test_published_weights_come_from_the_cache_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *asked: None)
    with pytest.raises(UsageError, match=r"not found in OpenCLIP's cache.*--download"):
        create("openclip", device="cpu")
    file = tmp_path / "open_clip_model.safetensors"
    held = {("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", file.name): str(file)}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *asked: held.get(asked))
    config = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")
    assert config["hf_hub"] == clip.DEFAULT_HUB
    assert clip._published("openclip", config, download=False) == file
