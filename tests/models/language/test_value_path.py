"""The value path of OpenCLIP's towers and CLIP-DINOiser's wiring, with small random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retain.models.language import dinoiser, query, teacher
from retain.models.language.value_path import ValuePath, last_block, positions
from retain.pipeline.errors import UsageError

open_clip = pytest.importorskip("open_clip")

WIDTH, PATCH, EMBED = 32, 8, 24


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vit") / "tiny-patches.json"
    vision = {"image_size": 32, "layers": 4, "width": WIDTH, "head_width": 8, "patch_size": PATCH}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    path.write_text(json.dumps({"embed_dim": EMBED, "vision_cfg": vision, "text_cfg": text}))
    return path


@pytest.fixture(scope="module")
def name(config: Path) -> str:
    from safetensors.torch import save_file

    open_clip.add_model_config(config)
    torch.manual_seed(3)
    network = open_clip.create_model(config.stem)
    file = config.with_suffix(".safetensors")
    weights = {
        key: torch.randn(value.shape) * (0.3 if value.ndim > 1 else 0.05) + ("ln" in key)
        for key, value in network.state_dict().items()
    }
    save_file(weights, file)
    return f"openclip:{config}@{file}"


@pytest.fixture(scope="module")
def visual(name: str) -> Any:
    from retain.models.encoders.clip import OpenClip

    return OpenClip(name.partition(":")[2], "cpu").visual


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the authors' checkpoint is laid out."""
    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("dinoiser") / "last.pt"
    state = dinoiser.Dinoiser(WIDTH, 12).state_dict()
    torch.save({"epoch": 3, "model_state_dict": state}, path)
    return path


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_the_value_path_is_the_block_where_tokens_attend_to_themselves(visual: Any) -> None:
    block = visual.transformer.resblocks[-1]
    torch.manual_seed(0)
    tokens = torch.randn(2, 7, WIDTH)
    alone = torch.full((7, 7), float("-inf")).fill_diagonal_(0)
    with torch.inference_mode():
        full = block(tokens, attn_mask=alone)
        torch.testing.assert_close(last_block(block, tokens), full, rtol=1e-4, atol=1e-5)
        assert (block(tokens) - full).abs().max() > 1e-3  # attention does something here


def test_all_but_the_last_block_is_open_clips_own_forward(visual: Any) -> None:
    """With the last block's attention being the identity, features are OpenCLIP's tokens."""
    torch.manual_seed(0)
    pictures = torch.randn(2, 3, 32, 32)
    count = (32 // PATCH) ** 2 + 1
    alone = torch.full((count, count), float("-inf")).fill_diagonal_(0)
    with torch.inference_mode():
        tokens = visual._embeds(pictures)
        for block in visual.transformer.resblocks[:-1]:
            tokens = block(tokens)
        tokens = visual.ln_post(visual.transformer.resblocks[-1](tokens, attn_mask=alone))
        wanted = (tokens[:, 1:] @ visual.proj).mT.unflatten(2, (4, 4))
        found = ValuePath(visual)(pictures)
    torch.testing.assert_close(found.values, wanted, rtol=1e-4, atol=1e-4)


def test_patches_are_compared_after_the_second_norm_of_the_third_last_block(visual: Any) -> None:
    heard = []
    block = visual.transformer.resblocks[-3]
    handle = block.ln_2.register_forward_hook(lambda module, given, out: heard.append(out))
    with torch.inference_mode():
        pictures = torch.randn(1, 3, 32, 32)
        visual(pictures)
        local = ValuePath(visual)(pictures).local
    handle.remove()
    assert local is not None
    torch.testing.assert_close(local, heard[0][:, 1:].mT.unflatten(2, (4, 4)))


def test_positions_are_the_models_own_at_its_size_and_interpolated_at_others() -> None:
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    table = torch.cat([torch.tensor([[7.0, 9.0]]), torch.stack([y.ravel(), x.ravel()], 1)])
    assert positions(table, (4, 4), (4, 4)) is table
    wide = positions(table, (4, 4), (8, 12))
    assert wide.shape == (97, 2)
    assert wide[0].tolist() == [7.0, 9.0]
    middle = wide[1:].reshape(8, 12, 2)[3:5, 4:8]
    torch.testing.assert_close(
        middle[:, :, 0].mean(1), torch.tensor([1.25, 1.75]), atol=0.05, rtol=0
    )


def test_a_teacher_sees_whole_pictures_of_any_shape(name: str) -> None:
    made = teacher.make(name, side=32, device="cpu")
    found = made.dense(picture())
    assert found.shape == (4, 6, EMBED)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-5)
    np.testing.assert_array_equal(found, made.dense(picture()))
    assert made.dense(picture(2000, 20)).shape[:2] == (12, 4)
    words = made.text(["a cat", "red car"])
    assert words.shape == (2, EMBED)
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, atol=1e-5)
    assert made.text([]).shape == (0, EMBED)
    np.testing.assert_allclose(made.text(["red car"])[0], words[1], atol=1e-5)


def test_with_a_checkpoint_patches_are_pooled_and_objects_known(name: str, weights: Path) -> None:
    plain = teacher.clip(name, side=32, device="cpu")
    pooled = teacher.clip(name, side=32, device="cpu", dinoiser=str(weights))
    look = pooled.look(picture())
    assert plain.look(picture()).objects is None
    assert look.objects is not None
    assert look.objects.shape == (4, 6)
    assert 0 < look.objects.min() < look.objects.max() < 1
    assert np.abs(look.features - plain.dense(picture())).max() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(look.features, axis=2), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"model_state_dict": {}}, "obj_proj.weight"),
        ([1, 2], "is missing or of another shape"),
        (dinoiser.Dinoiser(WIDTH + 1, 12).state_dict(), "of another shape"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    tmp_path: Path, state: object, said: str
) -> None:
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(UsageError, match=said):
        dinoiser.load(tmp_path / "x.pt", WIDTH)


def test_a_damaged_or_missing_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(UsageError, match="cannot be read"):
        dinoiser.load(tmp_path / "x.pt", WIDTH)
    with pytest.raises(UsageError, match="There is no file"):
        teacher.clip(name, side=32, dinoiser=str(tmp_path / "none.pt"))


def test_the_authors_shapes_are_the_default() -> None:
    network = dinoiser.Dinoiser()
    assert sum(value.numel() for value in network.parameters()) == 1_770_497 + 0
    assert set(network.state_dict()) == {
        f"{part}.{kind}" for part in ("obj_proj", "bkg_decoder") for kind in ("weight", "bias")
    }


def test_towers_that_are_no_plain_transformer_are_refused() -> None:
    with pytest.raises(UsageError, match="no plain vision transformer"):
        ValuePath(torch.nn.Linear(3, 3), "RN50")


@pytest.mark.parametrize("given", ["mobilenetv2", "clap", "classes:no"])
def test_other_names_are_refused(given: str) -> None:
    with pytest.raises(UsageError):
        teacher.make(given)


def test_without_weights_it_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="--download, or name a file") as caught:
        teacher.make("clip")
    assert "were not found" in caught.value.what


def test_text_of_a_teacher_is_the_mean_over_phrases(name: str) -> None:
    made = teacher.clip(name, side=32, device="cpu")
    rows = made._encoder.encode_text([phrase.format("dog") for phrase in query.PHRASES])
    mean = rows.mean(axis=0)
    np.testing.assert_allclose(made.text(["dog"])[0], mean / np.linalg.norm(mean), atol=1e-5)
