"""Training: the same bits however often it is interrupted."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from gdkvm_parts import random_cache, tiny_config

from retain.models.gdkvm import data, train, weights
from retain.models.gdkvm.train import Recipe, Trainer, base_recipe
from retain.models.training import CHECKPOINT
from retain.pipeline.errors import StateError, UsageError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {"model": tiny_config(), "steps": 6, "batch": 2, "length": 3}
    return Recipe(**(values | changes))


def trainer(out: Path, **changes: Any) -> Trainer:
    return Trainer(recipe(**changes), random_cache(), out, "cpu")


def silent(progress: train.Progress) -> None:
    """Tells nobody."""


def everything(run: Trainer) -> dict[str, torch.Tensor]:
    run.save()
    return weights.read(run.out / CHECKPOINT)[0]


@pytest.mark.parametrize("changes", [{}, {"labels": "ends", "points": 200}])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = trainer(tmp_path / "whole", **changes)
    losses: list[float] = []
    whole.train(lambda progress: losses.append(progress.loss))
    assert len(losses) == 6

    def interrupt(progress: train.Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "parts", **changes).train(interrupt)
    later = trainer(tmp_path / "parts", **changes)
    assert later.load()
    assert later.step == 3
    rest: list[float] = []
    later.train(lambda progress: rest.append(progress.loss))
    assert rest == losses[3:]
    one, two = everything(whole), everything(later)
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert any(key.startswith("adam/") for key in one)


@pytest.mark.parametrize(
    ("changes", "recorded"),
    [
        ({}, [5.703857, 5.227252, 3.490429]),
        ({"labels": "ends", "points": 200}, [5.024766, 5.185389, 3.960815]),
        ({"model": tiny_config(aux_last_only=True)}, [5.679317, 5.200931, 3.472376]),
    ],
)
def test_the_first_losses_are_those_of_earlier_versions(
    tmp_path: Path, changes: dict[str, Any], recorded: list[float]
) -> None:
    """Recorded before this trainer shared its loop with the others; it goes on from their files."""
    run, losses = trainer(tmp_path, steps=4, batch=4, **changes), list[float]()

    def tell(progress: train.Progress) -> None:
        losses.append(progress.loss)
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.train(tell)
    assert losses == pytest.approx(recorded, rel=1e-4)


def test_ctrl_c_waits_for_the_end_of_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, batch = trainer(tmp_path), data.batch

    def pressed(*args: Any, **options: Any) -> data.Batch:
        if run.step == 2:
            signal.raise_signal(signal.SIGINT)
        return batch(*args, **options)

    monkeypatch.setattr(data, "batch", pressed)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.train(silent)
    assert run.step == 3
    assert weights.read(tmp_path / CHECKPOINT)[1]["step"] == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_step_that_failed_halfway_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, follow = trainer(tmp_path), Trainer._follow

    def fail(self: Trainer) -> None:
        if self.step == 4:
            raise RuntimeError("out of memory")
        follow(self)

    monkeypatch.setattr(Trainer, "_follow", fail)
    run.save_every = 3
    with pytest.raises(RuntimeError, match="out of memory"):
        run.train(silent)
    assert weights.read(tmp_path / CHECKPOINT)[1]["step"] == 3


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).save()
    with pytest.raises(StateError, match="another recipe"):
        trainer(tmp_path, lr=1e-3).load()
    assert not trainer(tmp_path / "empty").load()


def test_training_lowers_the_loss_and_keeps_the_average(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=16, corruption=0.0, mask_dropout=0.0, average=0.9)
    losses: list[float] = []
    run.train(lambda progress: losses.append(progress.loss))
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    kept = run.averaged()
    assert not kept.training
    for name, value in kept.state_dict().items():
        assert torch.equal(value, run.average[name])
    assert not torch.equal(kept.to_logit.weight, run.model.to_logit.weight)


def test_a_run_ends_in_weights_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "phantoms", lambda *_: random_cache())
    model = train.run(recipe(steps=2), tmp_path / "out", tmp_path / "cache")
    loaded = weights.load(tmp_path / "out" / "weights.safetensors", recipe().model)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    again = train.run(
        recipe(steps=1), tmp_path / "more", tmp_path, init=tmp_path / "out" / "weights.safetensors"
    )
    assert not torch.equal(again.to_logit.weight, model.to_logit.weight)


def test_the_rate_rises_and_falls() -> None:
    rates = [recipe(steps=100).rate(step) for step in range(100)]
    top = rates.index(max(rates))
    assert 9 <= top <= 10
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == recipe().lr
    assert 0 < rates[-1] < 0.01 * max(rates)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"length": 1}, "2 to 24 frames"),
        ({"length": 25}, "2 to 24 frames"),
        ({"labels": "some"}, "'all' or 'ends'"),
        ({"model": tiny_config(objects=("cavity", "valve"))}, "no valve"),
    ],
)
def test_recipes_that_cannot_work_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        recipe(**wrong)


def test_the_paper_s_recipe_supervises_the_ends_of_ten_frames() -> None:
    assert (base_recipe().length, base_recipe().labels) == (10, "ends")
