"""Weights of other networks: tiny random files in the public layouts."""

from __future__ import annotations

import argparse
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from retain.models.onlinex.checkpoint import Loaded, config_of, kind_of, load_into, read
from retain.models.onlinex.network import OnlineX
from retain.pipeline.errors import StateError, UsageError

WIDE, NARROW, PATCH, DEPTH, DEEP = 128, 64, 8, 2, 3


def layer(name: str, *shape: int) -> dict[str, Tensor]:
    weight = torch.randn(*shape) / math.sqrt(math.prod(shape[1:]))
    return {f"{name}.weight": weight, f"{name}.bias": 0.1 * torch.randn(shape[0])}


def block(name: str, dim: int, cross: bool) -> dict[str, Tensor]:
    values = layer(f"{name}.attn.qkv", 3 * dim, dim) | layer(f"{name}.attn.proj", dim, dim)
    values |= layer(f"{name}.mlp.fc1", 4 * dim, dim) | layer(f"{name}.mlp.fc2", dim, 4 * dim)
    norms = ("norm1", "norm2", "norm3", "norm_y") if cross else ("norm1", "norm2")
    for norm in norms:
        values |= layer(f"{name}.{norm}", dim)
    for proj in ("projq", "projk", "projv", "proj") if cross else ():
        values |= layer(f"{name}.cross_attn.{proj}", dim, dim)
    return values


def layout(kind: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    values = layer("patch_embed.proj", WIDE, 3, PATCH, PATCH) | layer("enc_norm", WIDE)
    for i in range(DEEP):
        values |= block(f"enc_blocks.{i}", WIDE, False)
    values |= layer("decoder_embed", NARROW, WIDE) | layer("dec_norm", NARROW)
    decoders = {"croco": ["dec_blocks"], "dust3r": ["dec_blocks", "dec_blocks2"],
                "cut3r": ["dec_blocks", "dec_blocks_state"]}[kind]  # fmt: skip
    for name in decoders:
        for i in range(DEPTH):
            values |= block(f"{name}.{i}", NARROW, True)
    if kind == "cut3r":
        values |= layer("decoder_embed_state", NARROW, WIDE) | layer("dec_norm_state", NARROW)
        values["register_tokens.weight"] = torch.randn(12, WIDE)
        values["pose_token"] = torch.randn(1, 1, NARROW)
        values |= block("enc_blocks_ray_map.0", WIDE, False)
    values |= layer("downstream_head1.proj", 4, NARROW)
    return values


def written(path: Path, values: dict[str, Tensor], **more: object) -> Path:
    if path.suffix == ".safetensors":
        save_file(values, path)
    else:
        torch.save({"model": values, **more}, path)
    return path


def built(kind: str, **changes: object) -> tuple[OnlineX, Loaded, dict[str, Tensor]]:
    values = layout(kind)
    torch.manual_seed(2)
    model = OnlineX(config_of(values, side=32, head_dim=8, **changes)).eval()
    return model, load_into(model, values), values


@pytest.mark.parametrize("kind", ["croco", "dust3r", "cut3r"])
def test_all_of_encoder_and_decoders_is_taken(kind: str) -> None:
    model, loaded, values = built(kind)
    assert loaded.kind == kind_of(values) == kind
    own = model.state_dict()
    assert torch.equal(
        own["encoder.blocks.2.attn.qkv.weight"], values["enc_blocks.2.attn.qkv.weight"]
    )
    second = "dec_blocks2" if kind == "dust3r" else "dec_blocks"
    for ours, theirs in (("first", "dec_blocks"), ("second", second)):
        for part in ("cross_attn.projk.weight", "norm_y.bias", "mlp.fc2.weight"):
            mine = own[f"relative.decoder.{ours}.1.{part}"]
            assert torch.equal(mine, values[f"{theirs}.1.{part}"])
    heads = [k for k in values if k.startswith(("downstream", "enc_blocks_ray_map"))]
    assert sorted(loaded.unused) == sorted(heads)
    assert set(loaded.taken) | set(loaded.fresh) == set(own)
    assert not set(loaded.taken) & set(loaded.fresh)
    assert any(name.startswith("global_pose") for name in loaded.fresh)
    K = torch.tensor([[25.0, 0, 16], [0, 25, 16], [0, 0, 1]])[None]
    state = model.begin(1)
    for _ in range(2):
        out, state = model.step(torch.rand(1, 3, 32, 32), K, state)
    assert out.global_.centres.isfinite().all()


def test_state_tokens_of_cut3r_start_a_single_director() -> None:
    model, _, values = built("cut3r")
    assert model.config.director == "single"
    assert model.director is not None
    start = values["register_tokens.weight"] @ values["decoder_embed_state.weight"].T
    start += values["decoder_embed_state.bias"]
    assert torch.allclose(model.director.start, start, atol=1e-5)
    assert torch.equal(model.relative.token, values["pose_token"])
    second = model.state_dict()["director.decoder.second.0.attn.proj.weight"]
    assert torch.equal(second, values["dec_blocks_state.0.attn.proj.weight"])


def test_an_anchor_director_is_left_as_it_was() -> None:
    _, loaded, _ = built("cut3r", director="anchor", anchors=5, director_depth=1)
    assert all(not name.startswith("director") for name in loaded.taken)
    assert "register_tokens.weight" in loaded.unused


def test_the_encoder_computes_what_the_layout_means() -> None:
    """Against plain arithmetic in float64: complex rotations, attention by softmax, no modules."""
    model, _, values = built("dust3r")
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    K = torch.tensor([[25.0, 0, 16], [0, 25, 16], [0, 0, 1]])[None]
    v = {k: t.double() for k, t in values.items()}

    def affine(name: str, x: Tensor) -> Tensor:
        return x @ v[f"{name}.weight"].T + v[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return x * v[f"{name}.weight"] + v[f"{name}.bias"]

    pixels = (2 * image.double() - 1).reshape(3, 4, PATCH, 4, PATCH).permute(1, 3, 0, 2, 4)
    kernel = v["patch_embed.proj.weight"].flatten(1)
    x = pixels.reshape(16, -1) @ kernel.T + v["patch_embed.proj.bias"]
    place = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)).double()
    width = 64
    speed = 100.0 ** -(torch.arange(width // 4).double() / (width // 4))
    turn = torch.polar(torch.ones(16, 2, width // 4).double(), place[:, :, None] * speed)

    def rotate(t: Tensor) -> Tensor:
        pairs = t.reshape(16, 2, 2, width // 4)
        spun = torch.complex(pairs[:, :, 0], pairs[:, :, 1]) * turn
        return torch.stack([spun.real, spun.imag], 2).reshape(16, width)

    for i in range(DEEP):
        name = f"enc_blocks.{i}"
        q, k, val = affine(f"{name}.attn.qkv", norm(f"{name}.norm1", x)).chunk(3, -1)
        seen = []
        for head in range(WIDE // width):
            part = slice(head * width, (head + 1) * width)
            score = rotate(q[:, part]) @ rotate(k[:, part]).T / math.sqrt(width)
            seen.append(score.softmax(-1) @ val[:, part])
        x = x + affine(f"{name}.attn.proj", torch.cat(seen, -1))
        hidden = affine(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + affine(f"{name}.mlp.fc2", hidden)
    with torch.no_grad():
        ours = model.encoder(image, K)[0]
    assert torch.allclose(ours.double(), norm("enc_norm", x), atol=1e-4)


def test_safetensors_and_pth_are_read_alike(tmp_path: Path) -> None:
    values = layout("dust3r")
    a = read(written(tmp_path / "a.safetensors", values))
    wrapped = {f"module.{k}": t for k, t in values.items()}
    b = read(written(tmp_path / "b.pth", wrapped, args=argparse.Namespace(lr=1e-4)))
    assert a.keys() == b.keys() == values.keys()
    assert all(torch.equal(a[k], b[k]) for k in values)


class Danger:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must not be run",))


@pytest.mark.parametrize("plain", [False, True])
def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, plain: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pth"
    if plain:
        path.write_bytes(pickle.dumps({"model": Danger()}, protocol=2))
    else:
        written(path, layout("croco"), args=Danger())
    with pytest.raises(StateError, match="run code"):
        read(path)
    assert "must not" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, layout("croco"))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StateError, match="damaged"):
        read(path)
    with pytest.raises(UsageError, match="no file"):
        read(tmp_path / f"none{path.suffix}")


def test_tensors_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"layer4\.bias"):
        config_of(read(written(tmp_path / "a.pth", layer("layer4", 3, 3))))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(StateError, match="no checkpoint"):
        read(tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda v: v.pop("dec_blocks2.1.cross_attn.projk.weight"), "projk.weight is missing"),
        (lambda v: v.update(enc_norm=v.pop("enc_norm.bias")), "enc_norm.bias is missing"),
        (lambda v: v.update({"decoder_embed.bias": torch.zeros(3)}), r"is \(3,\), not \(64,\)"),
        (lambda v: v.update(block("enc_blocks.3", WIDE, False)), "4 enc_blocks, not 3"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_clear_error_and_changes_nothing(spoil: object, word: str) -> None:
    values = layout("dust3r")
    model = OnlineX(config_of(values, side=32, head_dim=8))
    before = {k: t.clone() for k, t in model.state_dict().items()}
    spoil(values)  # type: ignore[operator]
    with pytest.raises(StateError, match=word):
        load_into(model, values)
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())


def test_another_size_says_a_few_of_many() -> None:
    model = OnlineX(config_of(layout("dust3r"), side=32, head_dim=8, dim=64, heads=1))
    with pytest.raises(StateError, match="and .* more"):
        load_into(model, layout("dust3r"))


def test_a_checkpoint_with_holes_has_no_configuration() -> None:
    values = layout("dust3r")
    del values["decoder_embed.weight"]
    with pytest.raises(StateError, match="not whole"):
        config_of(values)
