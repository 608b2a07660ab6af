"""GDKVM with another memory layer in the place of the gated-delta matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pydicom.data
import pytest
import torch
from gdkvm_parts import clip, random_cache, tiny, tiny_config

from retain.models.gdkvm import weights
from retain.models.gdkvm.config import GdkvmConfig, Layer
from retain.models.gdkvm.network import Gdkvm
from retain.models.gdkvm.stage import HOLD, Segment
from retain.models.gdkvm.train import Recipe, Trainer
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks
from retain.pipeline.sources.dicom import DicomSource

OTHER = [name for name in get_args(Layer) if name != "gated_delta"]
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=OTHER)
def layer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@torch.no_grad()
def test_a_clip_at_once_equals_frame_by_frame_in_constant_bytes(layer: str) -> None:
    model, pictures = tiny(layer=layer), clip(2, 11)
    at_once, state = model(pictures), model.start(2)
    shape = state.delta.shape
    for t in range(11):
        out, state = model.step(model.describe(pictures[:, t]), state, first=t == 0)
        torch.testing.assert_close(out.logits, at_once[t].logits, rtol=1e-3, atol=1e-4)
        assert state.delta.shape == shape
        assert state.delta.isfinite().all()


@torch.no_grad()
def test_streams_of_a_batch_and_objects_do_not_mix(layer: str) -> None:
    model, pictures = tiny(layer=layer), clip(3, 5)
    together = model(pictures)[-1].logits
    for row in range(3):
        alone = model(pictures[row : row + 1])[-1].logits
        torch.testing.assert_close(together[row], alone[0], **ROUNDING)
    layered = model.layered
    assert layered is not None
    seen = model.describe(pictures[:, 0])
    state = model.start(3)
    value = torch.randn(3, 3, 16, 16)
    other = value.clone()
    other[:, 1] += 1
    (one, read), (two, again) = (
        layered(state.delta, seen.key, v, model.gates(), None) for v in (value, other)
    )
    for n, untouched in enumerate([True, False, True]):
        assert torch.equal(one[:, n], two[:, n]) == untouched
        assert torch.equal(read[:, n], again[:, n]) == untouched


def test_every_layer_learns_and_its_gates_too(layer: str) -> None:
    model, pictures = tiny(layer=layer).train(), clip(1, 4)
    model(pictures)[-1].logits.square().mean().backward()
    gates = {name: p.grad for name, p in model.gates.named_parameters()}
    assert gates["beta.weight"] is not None
    assert gates["beta.weight"].any()
    fades = layer != "block_linear"
    for name in ("alpha.weight", "a_log", "dt_bias"):
        grad = gates[name]
        assert (grad is not None and bool(grad.any())) == fades, name
    for name, p in model.named_parameters():
        assert p.grad is None or p.grad.isfinite().all(), name
    if model.layered is not None and model.layered.router is not None:
        assert model.layered.router.grad is not None


def test_a_training_step_runs(layer: str, tmp_path: Path) -> None:
    recipe = Recipe(model=tiny_config(layer=layer), steps=1, batch=2, length=3)
    run = Trainer(recipe, random_cache(), tmp_path, "cpu")
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    run.train(lambda progress: None)
    moved = [name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])]
    assert "gates.beta.weight" in moved


@torch.no_grad()
def test_every_layer_answers_differently() -> None:
    pictures = clip(1, 10)  # longer than a cached segment
    answers = [tiny(layer=name)(pictures)[-1].logits for name in get_args(Layer)]
    for i, one in enumerate(answers):
        assert one.isfinite().all()
        assert not any(torch.equal(one, two) for two in answers[:i])


@torch.no_grad()
def test_without_its_memory_a_network_of_any_layer_answers_alike(layer: str) -> None:
    pictures, model = clip(1, 4), tiny(layer=layer)
    blind, plain = tiny(layer=layer, rule="none"), tiny(rule="none")
    blind.load_state_dict(model.state_dict())
    plain.load_state_dict(model.state_dict(), strict=False)
    wanted = plain(pictures)[-1].logits
    torch.testing.assert_close(blind(pictures)[-1].logits, wanted, **ROUNDING)
    assert not torch.allclose(model(pictures)[-1].logits, wanted, **ROUNDING)


@torch.no_grad()
def test_the_base_size_takes_other_layers_too() -> None:
    torch.manual_seed(0)
    sizes = {"value_dim": 16, "pixel_dim": 16, "sensory_dim": 8, "heads": 2}
    model = Gdkvm(GdkvmConfig.base(64, layer="frame_delta", **sizes)).eval()
    outs = model(clip(1, 2, grid=64))
    assert outs[-1].logits.isfinite().all()


@torch.no_grad()
def test_a_gap_fades_what_is_held() -> None:
    model = tiny(layer="frame_delta")
    assert model.layered is not None
    key = torch.rand(1, 8, 16).softmax(1)
    state = torch.randn(1, 3, model.layered.floats)
    nothing = torch.zeros(1, 3, 16, 16)
    short, long = (
        model.layered(state, key, nothing, model.gates(), torch.tensor([dt]))[0]
        for dt in (1.0, 30.0)
    )
    assert long.norm() < short.norm()


def test_weights_fit_every_layer_that_adds_none(tmp_path: Path) -> None:
    """Gates are the same parameters; only a mixture has more."""
    plain = tiny().state_dict()
    for name in OTHER:
        model = tiny(layer=name)
        more = set(model.state_dict()) - set(plain)
        assert more == ({"layered.router"} if name == "mixture" else set())
        path = tmp_path / f"{name}.safetensors"
        weights.save(path, model, {})
        assert weights.load(path).config.layer == name
    with pytest.raises(StateError, match="another network"):
        weights.load(tmp_path / "kalman.safetensors", tiny_config())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"layer": "frame_dleta"}, "Unknown layer"),
        ({"layer": "kalman", "rule": "sum"}, "mean nothing"),
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        tiny_config(**wrong)


def planes(stage: Segment, frames: list[Frame]) -> list[bytes]:
    packets = [packet for frame in frames for packet in stage.process(Packet(frame))]
    return [packet.get("masks", Masks).probability.tobytes() for packet in packets]


def test_a_stage_with_another_layer_continues_bit_for_bit(layer: str, tmp_path: Path) -> None:
    source = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
    echo = list(DicomSource(str(source)).frames())[: HOLD + 10]
    config = GdkvmConfig(grid=64, objects=("cavity",), layer=layer)  # type: ignore[arg-type]
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        paths.append(str(tmp_path / f"{seed}.safetensors"))
        weights.save(paths[-1], Gdkvm(config).eval(), {})
    state = str(tmp_path / "state")
    stage = Segment(weights=paths[0])
    planes(stage, echo[: HOLD + 4])
    stage.save(state)
    rest = planes(stage, echo[HOLD + 4 :])
    assert len(rest) == 6
    stats = stage.stats()
    assert stats["memory_bytes"] == stats["budget_bytes"]
    assert planes(Segment(weights=paths[0], resume=state), echo[HOLD + 4 :]) == rest
    with pytest.raises(StateError):
        planes(Segment(weights=paths[1], resume=state), echo[HOLD + 4 :])
