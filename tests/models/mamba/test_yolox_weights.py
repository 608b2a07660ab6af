"""YOLOX's weights from files, against the authors' form of the network in float64."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from yolox_parts import BN, NANO, TINY, Reference, official

from retain.models.mamba.hosts.yolox_net import KINDS, Plan, YoloxNet
from retain.models.mamba.hosts.yolox_weights import from_state, load
from retain.pipeline.errors import RetainError, SourceError, UsageError


def decided(network: YoloxNet, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        parts = [network.head.decide(k, rows) for k, rows in enumerate(network(x))]
    return torch.cat([torch.cat((place, obj[:, None], cls), 1) for cls, obj, place in parts])


@pytest.mark.parametrize(
    "plan",
    [NANO, TINY, Plan(8, 2, False, 3), Plan(8, 3, False, 1), Plan(16, 4, True, 20)],
    ids=lambda plan: f"{plan.base}-{plan.depth}-{plan.depthwise}-{plan.classes}",
)
def test_a_checkpoint_computes_what_its_batch_norms_say(plan: Plan, tmp_path: Path) -> None:
    state = official(plan)
    torch.save(
        {"start_epoch": 300, "model": state, "best_ap": np.float64(0.25)}, tmp_path / "a.pth"
    )
    network = load(tmp_path / "a.pth")
    assert network.plan == plan
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 255
    expected = Reference(state)(x)
    assert expected.shape == (8 * 12 + 4 * 6 + 2 * 3, 5 + plan.classes)
    size = expected.abs().max()
    assert size > 1
    torch.testing.assert_close(
        decided(network, x).double(), expected, rtol=0, atol=2e-5 * float(size)
    )


def test_folding_is_done_in_double_precision() -> None:
    state = official(NANO)
    exact = {k: v.double() for k, v in state.items()}
    network = from_state(state)
    name = "backbone.C3_n4.conv3"
    weight, scale, shift, mean, var = (
        exact[f"{name}.{end}"] for end in ("conv.weight", *(f"bn.{e}" for e in BN[:4]))
    )
    factor = scale / (var + 1e-3).sqrt()
    own = network.state_dict()
    assert torch.equal(own[f"{name}.weight"], (weight * factor[:, None, None, None]).float())
    assert torch.equal(own[f"{name}.bias"], (shift - mean * factor).float())


@pytest.mark.parametrize(
    ("key", "millions"),
    list(zip(KINDS, (0.91, 5.06, 8.97, 25.3, 54.2, 99.1), strict=True)),
    ids=KINDS.values(),
)
def test_sizes_are_those_that_were_published(key: tuple[int, int, bool], millions: float) -> None:
    with torch.device("meta"):
        network = YoloxNet(Plan(*key, 80))
        norms = sum(len(m.bias) for m in network.modules() if isinstance(m, torch.nn.Conv2d))
        count = sum(p.numel() for p in network.parameters()) + norms
        rows = network(torch.empty(1, 3, 64, 128))
    assert count / 1e6 == pytest.approx(millions, rel=0.01)
    assert [tuple(part.shape) for part in rows] == [(n, 8 * key[0]) for n in (128, 32, 8)]
    assert network.plan.kind == KINDS[key]


def test_layers_are_listed_once_each_by_the_order_of_work() -> None:
    with torch.device("meta"):
        network = YoloxNet(TINY)
        seen: list[torch.nn.Module] = []
        for module in network.modules():
            module.register_forward_hook(lambda m, _a, _b: seen.append(m))
        for level, rows in enumerate(network(torch.empty(1, 3, 32, 32))):
            network.head.decide(level, rows)
    listed = [module for _, module in network.in_order()]
    assert {id(m) for m in listed} == {id(m) for m in network.modules() if hasattr(m, "weight")}
    body = [m for m in seen if m in listed and isinstance(m, torch.nn.Conv2d)]
    own = [m for m in listed if isinstance(m, torch.nn.Conv2d)]
    backbone = len([k for k, _ in network.in_order() if k.startswith("backbone.")])
    assert body[:backbone] == own[:backbone]


def test_safetensors_hold_either_form(tmp_path: Path) -> None:
    state = official(NANO)
    save_file(state, tmp_path / "a.safetensors")
    network = load(tmp_path / "a.safetensors")
    save_file(network.state_dict(), tmp_path / "b.safetensors")
    again = load(tmp_path / "b.safetensors")
    assert again.plan == network.plan == NANO
    own = again.state_dict()
    assert all(torch.equal(own[k], v) for k, v in network.state_dict().items())


def without(key: str) -> dict[str, torch.Tensor]:
    state = official(NANO)
    del state[key]
    return state


def changed(key: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**official(NANO), key: value}


@pytest.mark.parametrize(
    ("saved", "kind", "says"),
    [
        ({"conv1.weight": torch.zeros(2, 3, 7, 7)}, UsageError, "is not a YOLOX: it has no"),
        (without("head.obj_preds.2.bias"), UsageError, "head.obj_preds.2.bias"),
        (without("backbone.C3_p3.conv3.bn.running_var"), UsageError, "C3_p3.conv3"),
        (without("backbone.C3_p3.conv3.conv.weight"), UsageError, "C3_p3.conv3"),
        (changed("head.extra", torch.zeros(1)), UsageError, "head.extra"),
        (changed("head.stems.0.conv.weight", torch.zeros(2, 2, 1, 1)), UsageError, "stems.0"),
        (changed("head.cls_preds.0.bias", torch.tensor(1.0)), UsageError, "single numbers"),
        (
            changed("head.obj_preds.0.bias", torch.tensor([torch.nan])),
            SourceError,
            "not all finite",
        ),
        ([1, 2, 3], UsageError, "no tensors by name"),
        ({"model": {"a": 1}}, UsageError, "no tensors by name"),
        ({"model": Path("a")}, SourceError, "could run code"),
    ],
)
def test_other_checkpoints_are_refused_with_a_sentence(
    saved: object, kind: type[RetainError], says: str, tmp_path: Path
) -> None:
    torch.save(saved, tmp_path / "other.pth")
    with pytest.raises(kind, match=says) as caught:
        load(tmp_path / "other.pth")
    assert "other.pth" in str(caught.value)


def test_plain_pickles_are_refused_unread_and_without_warnings(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "read",)

    for protocol in (2, 4):
        (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(), protocol))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with pytest.raises(SourceError, match="UnpicklingError"):
                load(tmp_path / "bomb.pth")
        assert not said
    assert not (tmp_path / "read").exists()


def test_another_kind_of_detector_is_told_how_it_is_given(tmp_path: Path) -> None:
    torch.save({"backbone.body.conv1.weight": torch.zeros(1)}, tmp_path / "rcnn.pth")
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "rcnn.pth")
    assert "ARCHITECTURE:WEIGHTS.pth" in str(caught.value.hint)


@pytest.mark.parametrize("suffix", [".pth", ".onnx", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello " * 50, bytes(range(256)) * 4])
def test_files_of_no_sense_are_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=f"a{suffix}"):
        load(path)


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": official(NANO)}, path)
    whole = path.read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 1000):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match="cannot be read"):
            load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="There is no weights file"):
        load(tmp_path / "a.pth")
