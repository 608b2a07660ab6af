"""Learning to read: from references, without looking at the answer, and to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rcnn_parts import NAMES, clip, same, tiny_base, tiny_model
from torch import Tensor

from retain.datasets.detect.base import CROWD, IGNORE, truth_of
from retain.datasets.detect.objects import ObjectVideos
from retain.models.mamba.rcnn import examples, train
from retain.models.mamba.rcnn.network import PIXEL, MambaRCNN
from retain.models.mamba.rcnn.train import Recipe, Trainer, losses, reference_keys, train_rcnn
from retain.models.training import Progress
from retain.pipeline.errors import StateError, UsageError

CPU = torch.device("cpu")


def recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {"steps": 4, "batch": 1, "proposals": 20, "pixel_keys": 50, "lr": 1e-2}
    return Recipe(**(values | changes))


def clips(count: int = 2) -> ObjectVideos:
    return ObjectVideos(count, 5, 6, 128, 96)


def state(model: MambaRCNN) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def example(k: int = 2) -> examples.Example:
    return examples.draw(clips(), np.random.default_rng(k), 2, 0.5, "strong")


def the_loss(model: MambaRCNN, k: int = 2, seed: int = 1) -> Tensor:
    own = example(k)
    keys = reference_keys(model, own.references, recipe(), seed)
    torch.manual_seed(7)
    return torch.stack(
        [*losses(model, own.key, examples.target(own.truth, range(1, 9), CPU), keys).values()]
    ).sum()


@pytest.mark.parametrize("form", ["paper", "released_2022"])
def test_the_first_step_moves_the_last_linears_alone(tmp_path: Path, form: Any) -> None:
    model = tiny_model(trained=False, form=form)
    before = state(model)
    Trainer(model, clips(), recipe(steps=1, weight_decay=0.0), tmp_path).train(
        lambda progress: None
    )
    moved = {k for k, v in state(model).items() if not torch.equal(v, before[k])}
    last = "out" if form == "paper" else "value"
    assert moved == {f"geo.{p}.{last}.{e}" for p in model.geo for e in ("weight", "bias")}


def test_later_steps_move_all_layers_and_never_a_frozen_detector(tmp_path: Path) -> None:
    model = tiny_model(trained=False)
    before = state(model)
    train_rcnn(model, clips(), recipe(), tmp_path)
    after = state(model)
    assert all(p.grad is None for k, p in model.named_parameters() if "geo." not in k)
    assert not model.training
    assert not model.rpn.training
    for name, value in after.items():
        if not name.startswith("geo."):
            assert torch.equal(value, before[name]), name
        elif "key.bias" not in name:  # the softmax does not feel it
            assert not torch.equal(value, before[name]), name


@pytest.mark.parametrize("head", ["two", "conv"])
def test_an_unfrozen_detector_learns_and_its_statistics_do_not(tmp_path: Path, head: str) -> None:
    model = tiny_model(head, trained=False)
    before = state(model)
    train_rcnn(model, clips(), recipe(freeze=False, steps=2), tmp_path)
    moved = {k for k, v in state(model).items() if not torch.equal(v, before[k])}
    for part in ("backbone.body", "rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"):
        assert any(name.startswith(part) for name in moved), part
    assert not any("running" in name or "tracked" in name for name in moved)


@pytest.mark.parametrize("freeze", [True, False])
def test_the_loss_falls(tmp_path: Path, freeze: bool) -> None:
    few = ObjectVideos(1, 5, 3, 128, 96)
    how = recipe(steps=12, freeze=freeze, lr=3e-3 if freeze else 1e-3, share=0.0)
    run = Trainer(tiny_model(trained=False), few, how, tmp_path)

    def loss() -> float:
        torch.manual_seed(0)
        return float(sum(run.loss(step) for step in range(3)).detach())

    before = loss()
    run.train(lambda progress: None)
    assert loss() < 0.8 * before


def test_gradients_go_through_the_references() -> None:
    model = tiny_model()
    own = example()
    keys = reference_keys(model, own.references, recipe(), 0)
    assert {k: len(v) for k, v in keys.items()} == {
        (PIXEL, 0): 50,
        (PIXEL, 1): 50,
        ("fc6", 0): 40,
        ("fc7", 0): 40,
    }
    assert all(rows.requires_grad for rows in keys.values())
    the_loss(model).backward()
    for place in model.geo:
        for name, p in model.layer(place).named_parameters():
            assert p.grad is not None
            assert (p.grad != 0).any() or name == "key.bias", (place, name)


class Spied:
    """Rows that each layer was given to read, in order."""

    def __init__(self, model: MambaRCNN) -> None:
        self.rows = list[Tensor]()
        for place in model.geo:
            model.geo[place].register_forward_pre_hook(
                lambda module, given: self.rows.append(given[1].detach().clone())
            )


def test_labels_of_the_key_do_not_choose_what_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remembered(name: str) -> list[Tensor]:
        model = tiny_model(trained=False)
        spied = Spied(model)
        Trainer(model, clips(), recipe(steps=1, batch=2), tmp_path / name).loss(3)
        return spied.rows

    one, draw = remembered("one"), examples.draw

    def elsewhere(*given: Any) -> examples.Example:
        own = draw(*given)
        boxes = [[1, 1, 30, 30], [60, 40, 90, 80], [5, 50, 20, 90]]
        return replace(own, truth=truth_of(own.truth.size, boxes, [0, 1, 2], [0, 1, 2], [0] * 3))

    monkeypatch.setattr(examples, "draw", elsewhere)
    two = remembered("two")
    assert len(one) == len(two) == 2 * 4
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_every_cell_is_as_likely() -> None:
    rows = torch.arange(40.0)[:, None]
    count = torch.zeros(40)
    for seed in range(400):
        some = train._some(rows, 20, torch.Generator().manual_seed(seed))[:, 0].long()
        assert len(set(some.tolist())) == 20
        count[some] += 1
    assert 140 < count.min() < count.max() < 260


def test_keys_are_spoilt_and_references_are_not() -> None:
    many, spoilt = clips(), 0
    clean = [[many[c][k].image for k in range(6)] for c in range(2)]
    flat = [image.tobytes() for one in clean for image in one]
    rng = np.random.default_rng(0)
    for _ in range(30):
        own = examples.draw(many, rng, 2, 0.5, "strong")
        assert all(image.tobytes() in flat for image in own.references)
        where = {flat.index(image.tobytes()) // 6 for image in own.references}
        assert len(where) == 1
        if own.key.tobytes() in flat:
            assert flat.index(own.key.tobytes()) // 6 in where
            assert all(image.tobytes() != own.key.tobytes() for image in own.references)
        else:
            spoilt += 1
    assert 8 <= spoilt <= 22


def test_references_stay_in_the_scene() -> None:
    video = clip(9)
    video.cuts = (3, 4)
    assert [list(examples.scene(video, k)) for k in (0, 3, 8)] == [
        [0, 1, 2],
        [3],
        [4, 5, 6, 7, 8],
    ]


def test_only_what_is_to_be_found_is_a_target() -> None:
    boxes = [[-5, 3, 20, 30], [0, 0, 9, 9], [0, 0, 9, 9], [127.5, 0, 140, 50], [40, 40, 60, 60]]
    truth = truth_of((128, 96), boxes, [0, 1, 1, 2, 2], [0] * 5, [0, CROWD, IGNORE, 0, 0])
    got = examples.target(truth, examples.numbers(("snail", "car", "dog"), NAMES), CPU)
    assert got["boxes"].tolist() == [[0, 3, 20, 30], [40, 40, 60, 60]]
    assert got["labels"].tolist() == [8, 5]


def test_a_frame_without_objects_is_learned_from_too() -> None:
    model, own = tiny_model(), example()
    target = examples.target(truth_of((128, 96)), range(1, 9), CPU)
    keys = reference_keys(model, own.references, recipe(), 0)
    got = losses(model, own.key, target, keys)
    assert all(value.isfinite() for value in got.values())
    assert set(got) == {
        "loss_classifier",
        "loss_box_reg",
        "loss_objectness",
        "loss_rpn_box_reg",
    }


@pytest.mark.parametrize("freeze", [True, False])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, freeze: bool) -> None:
    how = recipe(freeze=freeze)
    whole, parts, later = (tiny_model(trained=False) for _ in range(3))
    train_rcnn(whole, clips(), how, tmp_path / "whole")

    def interrupt(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_rcnn(parts, clips(), how, tmp_path / "parts", tell=interrupt)
    steps: list[int] = []
    train_rcnn(later, clips(), how, tmp_path / "parts", tell=lambda p: steps.append(p.step))
    assert steps == [3, 4]
    one, two = state(whole), state(later)
    assert all(torch.equal(v, two[k]) for k, v in one.items())


def test_a_run_of_another_recipe_or_detector_is_refused(tmp_path: Path) -> None:
    train_rcnn(tiny_model(trained=False), clips(), recipe(steps=1), tmp_path)
    with pytest.raises(StateError, match="another recipe"):
        train_rcnn(tiny_model(trained=False), clips(), recipe(steps=2), tmp_path)
    with pytest.raises(StateError, match="another recipe"):
        train_rcnn(tiny_model(trained=False, seed=1), clips(), recipe(steps=1), tmp_path)


def test_trained_weights_find_their_detector_again(tmp_path: Path) -> None:
    model = tiny_model()
    for layers_only in (True, False):
        path = tmp_path / f"{layers_only}.safetensors"
        train.save(path, model, layers_only)
        again = tiny_model(trained=False)
        train.load(path, again)
        assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    stranger = tiny_model(trained=False, seed=5)
    with pytest.raises(StateError, match="in detector"):
        train.load(tmp_path / "True.safetensors", stranger)
    train.load(tmp_path / "False.safetensors", stranger)
    image = clip()[0].image
    assert same([stranger.detect(image).found], [model.detect(image).found])
    with pytest.raises(StateError, match="in forms"):
        train.load(
            tmp_path / "True.safetensors",
            MambaRCNN(tiny_base(), NAMES, form="released_2022", heads=8),
        )


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    for bad in ({"steps": 0}, {"share": 1.2}, {"degraded": "awful"}, {"references": 0}):
        with pytest.raises(UsageError):
            recipe(**bad)
    model = MambaRCNN(tiny_base(), [f"class_{k}" for k in range(8)], heads=8)
    with pytest.raises(UsageError, match="knows no car, person"):
        Trainer(model, clips(), recipe(), tmp_path)
