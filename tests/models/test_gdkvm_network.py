"""GDKVM as a function of a picture and a state: what it keeps, what its switches change."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from gdkvm_parts import clip, tiny, tiny_config
from shared_data import shared_data
from torch import Tensor

from retain.kernels.gated_delta.op import frame as memory_frame
from retain.models.gdkvm.blocks import Kpff, aggregate
from retain.models.gdkvm.config import GdkvmConfig, Rule
from retain.models.gdkvm.network import Gdkvm, Out, StreamState
from retain.pipeline.errors import UsageError

# Convolutions round differently for different batch sizes; a few frames deep that stays below this.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@torch.no_grad()
def stream(model: Gdkvm, pictures: Tensor) -> tuple[list[Out], StreamState]:
    """Picture by picture, as live: [B, T, 1, H, W]."""
    state = model.start(len(pictures))
    outs = []
    for t in range(pictures.shape[1]):
        out, state = model.step(model.describe(pictures[:, t]), state, first=t == 0)
        outs.append(out)
    return outs, state


@torch.no_grad()
def last(model: Gdkvm, pictures: Tensor, mask_keep: Tensor | None = None) -> Tensor:
    return model(pictures, mask_keep)[-1].logits


def test_fusion_of_keys_and_pixels_equals_the_public_code() -> None:
    with np.load(shared_data("golden/kpff.npz"), allow_pickle=False) as golden:
        arrays = {name: torch.from_numpy(golden[name]) for name in golden.files}
    names = {"layer1": "layer1", "layer2": "layer2", "gate": "gate_layer"}
    fusion = Kpff(256, 64, hidden=8)
    fusion.load_state_dict(
        {
            f"{ours}.{p}": arrays[f"w.{n}.{p}"]
            for ours, n in names.items()
            for p in ("weight", "bias")
        }
    )
    for dtype, suffix, tolerance in ((torch.float32, "f32", 5e-6), (torch.float64, "f64", 1e-12)):
        out = fusion.to(dtype)(arrays["in.key"].to(dtype), arrays["in.pixfeat"].to(dtype))
        torch.testing.assert_close(out, arrays[f"out_{suffix}"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("switches", [{}, {"pixfeat_lag": 1, "kpff": False}])
def test_a_clip_at_once_equals_frame_by_frame(switches: dict[str, int]) -> None:
    model, pictures = tiny(**switches), clip(2, 6)
    outs, _ = stream(model, pictures)
    with torch.no_grad():
        at_once = model(pictures)
    for one, two in zip(outs, at_once, strict=True):
        torch.testing.assert_close(one.logits, two.logits, **ROUNDING)
        assert len(one.aux) == len(two.aux) == 1


def test_recording_gradients_does_not_change_the_answer() -> None:
    model, pictures = tiny(), clip(1, 4)
    torch.testing.assert_close(model(pictures)[-1].logits, last(model, pictures), **ROUNDING)


def test_streams_of_a_batch_do_not_mix() -> None:
    model, pictures = tiny(), clip(3, 5)
    together, state = stream(model, pictures)
    for row in range(3):
        alone, own = stream(model, pictures[row : row + 1])
        torch.testing.assert_close(together[-1].logits[row], alone[-1].logits[0], **ROUNDING)
        torch.testing.assert_close(state.delta[row], own.delta[0], **ROUNDING)


def test_the_state_has_the_same_bytes_after_200_frames() -> None:
    model, state, pictures = tiny(), tiny().start(1), clip(1, 8)
    shapes = [(x.shape, x.dtype) for x in state]
    sizes = []
    with torch.no_grad():
        seen = [model.describe(pictures[:, t]) for t in range(8)]
        for t in range(200):
            _, state = model.step(seen[t % 8], state, first=t == 0)
            sizes.append([x.untyped_storage().nbytes() for x in state])
    assert sizes[-1] == sizes[0]
    assert [(x.shape, x.dtype) for x in state] == shapes
    assert all(x.isfinite().all() for x in state)
    # Erases cannot enlarge the state in mass mode, and what is written is a mean of values.
    assert state.delta.abs().max() < 100


def test_same_seed_same_bits() -> None:
    outs = [stream(tiny(3), clip(1, 4))[0][-1].logits for _ in range(2)]
    assert torch.equal(*outs)
    assert not torch.equal(outs[0], stream(tiny(4), clip(1, 4))[0][-1].logits)


def test_the_first_picture_has_no_past() -> None:
    model, pictures = tiny(pixfeat_lag=1), clip(1, 1)
    seen, state = model.describe(pictures[:, 0]), model.start(1)
    littered = state._replace(delta=state.delta + 7, pixel=state.pixel + 7)
    out, after = model.step(seen, state, first=True)
    again, same = model.step(seen, littered, first=True)
    assert torch.equal(out.logits, again.logits)
    assert torch.equal(after.delta, same.delta)
    later, _ = model.step(seen, littered, first=False)
    assert not torch.equal(out.logits, later.logits)


def test_every_rule_of_the_ablation_answers_differently() -> None:
    pictures = clip(1, 4)
    answers = {rule: last(tiny(rule=rule), pictures) for rule in get_args(Rule)}
    assert all(answer.isfinite().all() for answer in answers.values())
    rules = list(answers)
    for i, one in enumerate(rules):
        for two in rules[i + 1 :]:
            assert not torch.equal(answers[one], answers[two]), (one, two)


def test_alone_the_memory_carries_all_of_the_past() -> None:
    model, pictures = tiny(carry=False), clip(1, 3)
    _, state = stream(model, pictures[:, :2])
    seen = model.describe(pictures[:, 2])
    with torch.no_grad():
        out, _ = model.step(seen, state, first=False)
        littered = state._replace(sensory=state.sensory + 1, mask=1 - state.mask)
        again, _ = model.step(seen, littered, first=False)
        other, _ = model.step(seen, state._replace(delta=state.delta + 1), first=False)
    assert torch.equal(out.logits, again.logits)
    assert not torch.equal(out.logits, other.logits)


def test_lagging_pixel_features_are_those_of_the_picture_before() -> None:
    plain, lagging, pictures = tiny(), tiny(pixfeat_lag=1), clip(1, 3)
    seen = [plain.describe(pictures[:, t]) for t in range(3)]
    state = plain.start(1)
    with torch.no_grad():
        out, state = plain.step(seen[0], state, first=True)
        for t in (1, 2):
            late = seen[t]._replace(pixel=seen[t - 1].pixel)
            value, sensory = plain.write(late, state, first=False)
            delta, memory = memory_frame(state.delta, seen[t].key, value, plain.gates())
            out, state = plain.answer(seen[t], state, value, sensory, memory)
            state = state._replace(delta=delta)
    torch.testing.assert_close(last(lagging, pictures), out.logits, **ROUNDING)
    assert not torch.allclose(last(plain, pictures), out.logits, **ROUNDING)


def test_dropped_masks_are_not_fed_back() -> None:
    model, pictures = tiny(), clip(2, 4)
    kept, dropped = (last(model, pictures, torch.full((2, 4), keep)) for keep in (1.0, 0.0))
    assert torch.equal(kept, last(model, pictures))
    state = model.start(2)
    with torch.no_grad():
        for t in range(4):
            blind = state._replace(mask=torch.zeros_like(state.mask))
            out, state = model.step(model.describe(pictures[:, t]), blind, first=t == 0)
    torch.testing.assert_close(dropped, out.logits, **ROUNDING)
    assert not torch.allclose(kept, dropped, **ROUNDING)


def test_a_gap_in_time_decays_that_stream_further() -> None:
    model, pictures = tiny(rule="alpha"), clip(2, 2)
    pictures[1] = pictures[0]
    with torch.no_grad():
        _, state = model.step(model.describe(pictures[:, 0]), model.start(2), first=True)
        seen = model.describe(pictures[:, 1])
        _, one = model.step(seen, state, first=False)
        _, gap = model.step(seen, state, first=False, dt=torch.tensor([1.0, 1e6]))
        _, replaced = tiny(rule="replace").step(seen, state, first=False)
    torch.testing.assert_close(gap.delta[0], one.delta[0], **ROUNDING)
    # After an age nothing of the past is left, so what was just written is all there is.
    torch.testing.assert_close(gap.delta[1], replaced.delta[1], **ROUNDING)
    assert not torch.allclose(one.delta[1], replaced.delta[1], **ROUNDING)


def test_soft_aggregation_doubles_the_logit_of_a_single_object() -> None:
    logit = torch.linspace(-6, 6, 25).view(1, 1, 5, 5)
    chance = aggregate(logit).softmax(dim=1)[:, 1:]
    torch.testing.assert_close(chance, torch.sigmoid(2 * logit))


def test_soft_aggregation_gives_the_background_what_no_object_wants() -> None:
    logits = torch.tensor([-4.0, -4.0, 4.0, -4.0, 4.0, 4.0]).view(1, 2, 3, 1)
    winner = aggregate(logits).argmax(dim=1).flatten()
    assert winner[:2].tolist() == [0, 2]
    assert winner[2] != 0
    assert aggregate(torch.full((1, 3, 2, 2), 1e4)).isfinite().all()


def test_objects_are_told_apart_without_a_prompt() -> None:
    masks = last(tiny(), clip(1, 1)).softmax(dim=1)[0, 1:]
    assert not torch.allclose(masks[0], masks[1])


@pytest.mark.parametrize("config", [GdkvmConfig(), GdkvmConfig.base(128, rule="sum")])
def test_a_configuration_survives_json(config: GdkvmConfig) -> None:
    assert GdkvmConfig.from_json(config.as_json()) == config


def test_missing_settings_have_their_defaults() -> None:
    assert GdkvmConfig.from_json({}) == GdkvmConfig()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"size": "huge"}, "'mini' or 'base'"),
        ({"grid": 100}, "a multiple of 8"),
        ({"size": "base", "grid": 32}, "at least 64"),
        ({"objects": ()}, "objects"),
        ({"objects": ("cavity", "cavity")}, "different names"),
        ({"heads": 5}, "does not split in 5 heads"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"mode": "masss"}, "Did you mean 'mass'"),
        ({"rule": "all"}, "Unknown rule 'all'"),
        ({"pixfeat_lag": 2}, "0 or 1"),
        ({"summary_decay": 1.5}, "from 0 to 1"),
        ({"gird": 112}, "Unknown GDKVM settings: gird"),
    ],
)
def test_configurations_that_cannot_be_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        GdkvmConfig.from_json(tiny_config().as_json() | wrong)
