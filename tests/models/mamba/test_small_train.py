"""Training the small detector: who answers for what, what it costs, and going on after a break."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retain.apps import training_detector
from retain.apps.training import CURVE, Stopped
from retain.datasets.detect.base import CROWD, IGNORE, OCCLUDED, Sample, truth_of
from retain.datasets.detect.objects_kinds import NAMES
from retain.models import tensors
from retain.models.mamba.small import data, evaluate, weights
from retain.models.mamba.small.network import Network, pretrained
from retain.models.mamba.small.train import WEIGHTS, Recipe, Trainer, run
from retain.models.training import CHECKPOINT, Progress, Run, cosine
from retain.pipeline.errors import StateError, UsageError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_folding_changes_nothing_but_rounding() -> None:
    torch.manual_seed(0)
    network = Network(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    network.eval()
    small = weights.folded(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    pixels = 255 * torch.rand(1, 3, 60, 100, dtype=torch.float64)
    with torch.no_grad():
        one, two = network.double()(pixels), small.double()(pixels)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_the_backbone_is_the_one_of_the_encoder() -> None:
    """Its last features, through the encoder's own blocks, are the same."""
    from retain.models.encoders.base import read_weights
    from retain.models.encoders.mobile import InvertedResiduals, MobileNetV2
    from retain.pipeline.installed import find_file

    network = Network(2)
    pretrained(network.backbone)
    path = find_file(MobileNetV2.PACKAGE, MobileNetV2.ENDING)
    assert path is not None
    whole = InvertedResiduals(
        read_weights(path, ""), MobileNetV2.ROWS, eps=1e-5, same=False, side=64, device="cpu"
    )
    whole.blocks = whole.blocks[:-1]
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        fine, middle, coarse = network.backbone.late(network.backbone.early(pixels))
        torch.testing.assert_close(coarse.mean((2, 3)), whole(pixels), atol=1e-4, rtol=1e-4)
    assert (fine.shape, middle.shape) == ((1, 32, 8, 8), (1, 96, 4, 4))


def test_targets_know_what_does_not_count_and_mirror() -> None:
    boxes = [[0, 10, 30, 40], [50, 20, 90, 60], [100, 0, 320, 50], [7, 7, 9, 9]]
    truth = truth_of((320, 240), boxes, [0, 1, 2, 3], [0, 1, 2, 3], [0, IGNORE, CROWD, OCCLUDED])
    target = data.target_of(truth)
    assert target.boxes.tolist() == [boxes[0], boxes[3]]
    assert target.labels.tolist() == [0, 3]
    assert target.ignored.tolist() == boxes[1:3]
    mirrored = data.target_of(truth, flip=True)
    assert mirrored.boxes.tolist() == [[290, 10, 320, 40], [311, 7, 313, 9]]


def test_a_batch_depends_on_its_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = data.batch(4, seed=1, size=2), data.batch(4, seed=1, size=2)
    assert torch.equal(one.pixels, two.pixels)
    assert one.pixels.shape == (2, 3, 240, 320)
    assert not torch.equal(one.pixels, data.batch(5, seed=1, size=2).pixels)
    seeds: list[int] = []

    class Video(data.ObjectVideo):
        def __init__(self, seed: int, frames: int) -> None:
            seeds.append(seed)
            super().__init__(seed % 10, frames)

    monkeypatch.setattr(data, "ObjectVideo", Video)
    for step in (0, 10, 900_000):
        data.batch(step, seed=3, size=2)
    assert len(set(seeds)) == 3
    assert max(seeds) < data.HELD_OUT


def test_pasted_objects_are_whole_and_cover_what_they_cover() -> None:
    """Two squares of one colour: where the pasted one lies, its colour is and its box fits it."""
    base, other = np.full((240, 320, 3), 50, np.uint8), np.full((240, 320, 3), 50, np.uint8)
    mask, mask_other = np.zeros((240, 320), np.uint8), np.zeros((240, 320), np.uint8)
    base[115:119, 150:154], mask[115:119, 150:154] = 90, 3
    other[40:140, 60:260], mask_other[40:140, 60:260] = 200, 1
    other[0:30, 0:30], mask_other[0:30, 0:30] = 240, 2  # touches the edge: not whole
    small, large = [150, 115, 154, 119], [60, 40, 260, 140]
    onto = Sample(0, 0.0, base, truth_of((320, 240), [small], [2], [2], [OCCLUDED]), mask)
    boxes = [large, [0, 0, 30, 30], [5, 150, 50, 190]]
    there = Sample(
        0, 0.0, other, truth_of((320, 240), boxes, [5, 6, 7], [0, 1, 2], [0, 0, IGNORE]), mask_other
    )
    covered = 0
    for seed in range(12):
        image, truth = data.paste(onto, there, np.random.default_rng(seed))
        assert truth.labels.tolist() == [2, 5]
        assert truth.boxes[0].tolist() == small
        x0, y0, x1, y1 = truth.boxes[1].astype(int)
        assert (x1 - x0, y1 - y0) == (200, 100)
        bright = image[..., 0] > 125
        assert bright[y0:y1, x0:x1].all()
        assert bright.sum() == 200 * 100
        hidden = bool(y0 <= 115 and y1 >= 119)  # it is too wide to lie beside
        covered += hidden
        beside = y0 >= 119 or y1 <= 115
        if hidden or beside:
            assert truth.flags.tolist() == [OCCLUDED | (IGNORE if hidden else 0), 0]
    assert 0 < covered < 12
    assert (onto.image == base).all()
    assert onto.mask is mask
    assert set(np.unique(mask)) == {0, 3}


class Tiny(Run):
    """A line through noisy points: everything a run does, in a moment."""

    def __init__(self, out: Path, steps: int = 6, **recipe: Any) -> None:
        torch.manual_seed(0)
        line = nn.Linear(3, 1)
        groups = [{"params": [line.weight]}, {"params": [line.bias], "scale": 0.1}]
        super().__init__(
            line, groups, recipe, out, steps=steps, seed=1, average=0.9, clip_norm=5.0,
            rate=lambda step: cosine(step, steps, 0.1),
        )  # fmt: skip
        self.press = -1

    def loss(self, step: int) -> Tensor:
        if step == self.press:
            signal.raise_signal(signal.SIGINT)
        x = torch.randn(16, 3)
        return (self.model(x) - x.sum(1, keepdim=True)).square().mean()


def silent(progress: Progress) -> None:
    """Tells nobody."""


def everything(one: Run) -> dict[str, Tensor]:
    one.save()
    return dict(tensors.read(one.out / CHECKPOINT, "retain-training/1", "")[0])


def assert_same(one: Run, two: Run) -> None:
    a, b = everything(one), everything(two)
    assert a.keys() == b.keys()
    assert any(key.startswith("adam/") for key in a)
    assert all(torch.equal(value, b[key]) for key, value in a.items())


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, part = Tiny(tmp_path / "whole"), Tiny(tmp_path / "part")
    whole.train(silent)
    before = signal.getsignal(signal.SIGINT)
    part.press = 2
    with pytest.raises(KeyboardInterrupt):
        part.train(silent)
    assert part.step == 3  # the step in which it came was finished
    assert signal.getsignal(signal.SIGINT) is before
    later = Tiny(tmp_path / "part")
    assert later.load()
    assert later.step == 3
    later.train(silent)
    assert_same(whole, later)


def test_a_step_that_failed_halfway_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, follow = Tiny(tmp_path), Run._follow

    def fail(self: Run) -> None:
        if self.step == 4:
            raise RuntimeError("out of memory")
        follow(self)

    monkeypatch.setattr(Run, "_follow", fail)
    one.save_every = 3
    with pytest.raises(RuntimeError, match="out of memory"):
        one.train(silent)
    assert tensors.read(tmp_path / CHECKPOINT, "retain-training/1", "")[1]["step"] == 3


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    Tiny(tmp_path, size=1).save()
    with pytest.raises(StateError, match="another recipe"):
        Tiny(tmp_path, size=2).load()
    assert not Tiny(tmp_path / "empty").load()


def test_the_rate_rises_and_falls() -> None:
    rates = [cosine(step, 100, 0.5) for step in range(100)]
    top = rates.index(max(rates))
    assert 9 <= top <= 10
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == 0.5
    assert 0 < rates[-1] < 0.005


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of the real thing, the second one interrupted."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run")
    options = training_detector.TrainOptions(out=out, steps=3, clips=0, threads=1, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            training_detector.TrainOptions, "recipe", lambda self: Recipe(steps=3, batch=2)
        )
        real, pressed = data.batch, []

        def press(step: int, **options: Any) -> data.Batch:
            if step == 1 and not pressed:
                pressed.append(step)
                signal.raise_signal(signal.SIGINT)
            return real(step, **options)

        patch.setattr(data, "batch", press)
        with pytest.raises(Stopped, match="the same command goes on") as stopped:
            training_detector.train(options)
        assert stopped.value.exit_code == 130
        assert not (out / WEIGHTS).exists()
        assert training_detector.train(options) == 0
    return out


def test_a_run_that_was_stopped_ends_as_one_that_was_not(small_run: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    run(Recipe(steps=3, batch=2), tmp_path, tell=lambda progress: losses.append(progress.loss))
    rows = (small_run / CURVE).read_text().splitlines()[1:]
    assert [float(row.split(",")[1]) for row in rows] == pytest.approx(losses, abs=1e-5)
    one, names, head = weights.load(small_run / WEIGHTS)
    two, _, _ = weights.load(tmp_path / WEIGHTS)
    assert names == NAMES
    assert head["recipe"]["batch"] == 2
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key])


def test_early_blocks_stay_as_imagenet_left_them(small_run: Path) -> None:
    network, _, _ = weights.load(small_run / WEIGHTS)
    fresh = Network(2)
    pretrained(fresh.backbone)
    one, two = network.backbone.state_dict(), fresh.backbone.state_dict()
    same = {key: torch.equal(value, two[key].half().float()) for key, value in one.items()}
    frozen = {key for key in same if int(key.split(".")[1]) < 4}
    assert all(same[key] for key in frozen)
    assert not any(same[key] for key in same.keys() - frozen if key.endswith("weight"))


def test_a_run_may_start_from_another(small_run: Path, tmp_path: Path) -> None:
    one = Trainer(Recipe(steps=1, batch=2, lr=0.0), tmp_path)
    from retain.models.training import averaged

    start = averaged(small_run)
    one.start_from(start)
    one.train(silent)
    assert torch.equal(one.average["to_kind.weight"], start["to_kind.weight"])
    with pytest.raises(UsageError, match="no file"):
        averaged(tmp_path / "nowhere")


def test_files_that_are_not_weights_are_refused(small_run: Path, tmp_path: Path) -> None:
    whole = (small_run / WEIGHTS).read_bytes()
    broken = tmp_path / "broken.safetensors"
    for blob in (b"", whole[:1000], whole[:-1] + bytes([whole[-1] ^ 1])):
        broken.write_bytes(blob)
        with pytest.raises(StateError):
            weights.load(broken)
    with pytest.raises(StateError, match="schema"):
        weights.load(small_run / CHECKPOINT)
    with pytest.raises(UsageError, match="no weights called 'smal'"):
        weights.load("smal")
    with pytest.raises(UsageError, match="no file"):
        weights.load(tmp_path / "nowhere.safetensors")
    other = tmp_path / "other.safetensors"
    tensors.write(other, {"x": torch.zeros(2)}, {"names": ["a"]}, weights.SCHEMA)
    with pytest.raises(StateError, match="another network"):
        weights.load(other)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 1}])
def test_recipes_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="steps are from 1"):
        Recipe(**wrong)


def test_the_end_of_a_run_is_a_table(
    small_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "EVERY", 20)
    training_detector.judge(small_run / WEIGHTS, 1, "cpu")
    out = capsys.readouterr().out
    assert all(word in out for word in ("clean", "mild", "strong", "fast", "all"))
