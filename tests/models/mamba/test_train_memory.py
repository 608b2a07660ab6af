"""Training a read-out without labels: what is drawn, what is aimed at, going on, what it learns."""

from __future__ import annotations

import itertools
from pathlib import Path

import mamba_parts as parts
import numpy as np
import pytest
import torch
from mamba_parts import HOST

from retain.models.mamba import distil, train, weights
from retain.models.mamba.distil import Episodes, Material
from retain.models.mamba.host import Predicted
from retain.models.mamba.train import Recipe, Told, Trainer
from retain.models.mamba.windows import LENGTH, of_videos, varied
from retain.models.training import Progress
from retain.pipeline.errors import SourceError, StateError, UsageError

MATERIAL = Material(episodes=8, seed=3)
SHORT = Recipe(rounds=4, batch=2, judge_every=2, spoilt=0.5)


@pytest.fixture(autouse=True)
def _squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil, "of_objects", parts.windows)
    monkeypatch.setattr(distil, "degrade", lambda image, *rest: parts.dulled(image))


@pytest.fixture
def episodes(tmp_path: Path) -> Episodes:
    return distil.draw(HOST, MATERIAL, tmp_path / "cache", lambda done, of: None)


def test_episodes_are_drawn_once_and_missing_ones_again(tmp_path: Path) -> None:
    told: list[int] = []
    for _ in range(2):
        made = distil.draw(HOST, MATERIAL, tmp_path, lambda done, of: told.append(done))
    assert told == list(range(1, 9))
    assert len(made) == 8
    before = [made[k].whole[3].rows for k in range(8)]
    next(iter(tmp_path.glob("*/00005.safetensors"))).unlink()
    again = distil.draw(HOST, MATERIAL, tmp_path, lambda done, of: None)
    assert all(torch.equal(a, again[k].whole[3].rows) for k, a in enumerate(before))


def test_an_episode_holds_frames_whole_and_spoilt(episodes: Episodes) -> None:
    one = episodes[0]
    assert len(one.whole) == len(one.spoilt) == len(one.seconds) == LENGTH
    best = [
        float(HOST.predict(c.rows, c).scores.max()) for c in itertools.chain(one.whole, one.spoilt)
    ]
    assert min(best[:LENGTH]) > 0.5
    assert max(best[LENGTH:]) < 0.1


def test_windows_that_show_nothing_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(count: int, seed: int) -> object:
        for window in parts.windows(count, seed):
            window.images[:] = [parts.dulled(image) for image in window.images]
            yield window

    monkeypatch.setattr(distil, "of_objects", empty)
    with pytest.raises(UsageError, match="next to nothing"):
        distil.draw(HOST, MATERIAL, tmp_path, lambda done, of: None)


def test_aims_are_the_surest_of_the_neighbours() -> None:
    cells = HOST.describe([parts.picture(32)])[0]
    wanted = HOST.predict(cells.rows, cells)
    scores = wanted.objectness.sigmoid() * wanted.classes.sigmoid().amax(1)
    assert int((scores > 0.5).sum()) == 4
    every = torch.arange(len(scores))
    aim = distil.aims(wanted, cells, every)
    sure = aim.objectness.sigmoid() * aim.classes.sigmoid().amax(1) > 0.5
    assert int(sure.sum()) == 16  # two by two cells and those around them
    assert (aim.objectness >= wanted.objectness - 1e-6).all()
    assert torch.equal(aim.boxes[~sure], wanted.boxes[~sure])


def test_the_loss_is_least_for_what_is_wanted() -> None:
    cells = HOST.describe([parts.picture(32)])[0]
    wanted = HOST.predict(cells.rows, cells)
    least = float(distil.loss(wanted, wanted))
    for change in (
        {"objectness": wanted.objectness - 1},
        {"classes": wanted.classes.flip(1)},
        {"boxes": wanted.boxes + 4},
    ):
        names = ("objectness", "classes", "boxes")
        other = Predicted(**({n: getattr(wanted, n) for n in names} | change))
        assert float(distil.loss(other, wanted)) > least


@pytest.mark.parametrize("kind", train.KINDS)
def test_every_kind_trains_and_goes_on_bit_for_bit(
    kind: train.Kind, episodes: Episodes, tmp_path: Path
) -> None:
    recipe = Recipe(kind, rounds=3, batch=1, judge_every=2)
    whole = Trainer(recipe, HOST, episodes, tmp_path / "a")
    whole.train(lambda told: None)

    def stop(told: Progress) -> None:
        if told.step == 2:
            first.save()
            raise KeyboardInterrupt

    first = Trainer(recipe, HOST, episodes, tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        first.train(stop)
    second = Trainer(recipe, HOST, episodes, tmp_path / "b")
    assert second.load()
    assert second.step == 2
    second.train(lambda told: None)
    for name, value in whole.result().state_dict().items():
        assert torch.equal(value, second.result().state_dict()[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(episodes: Episodes, tmp_path: Path) -> None:
    Trainer(SHORT, HOST, episodes, tmp_path).save()
    with pytest.raises(StateError):
        Trainer(Recipe(rounds=5, batch=2), HOST, episodes, tmp_path).load()


def test_it_learns_to_remember_and_writes_what_can_be_loaded(tmp_path: Path) -> None:
    told: list[Told] = []
    recipe = Recipe(rounds=4, batch=2, judge_every=4, spoilt=0.5, lr=1e-2, average=0.9)
    path = train.run(
        {"gated": recipe}, HOST, MATERIAL, tmp_path / "out", tmp_path / "cache", tell=told.append
    )
    assert [t.round for t in told] == [1, 2, 3, 4]
    assert told[-1].held_out > 0
    readout = weights.load_readout(path, HOST)
    from retain.models.mamba.memory import Memory, MemoryOptions

    memory = Memory(HOST, readout, MemoryOptions())
    images = [parts.picture(40 + 2 * k, seed=99) for k in range(10)]
    for k, image in enumerate(images[:8]):
        memory.look(image, k, k / 24)
    seen = memory.look(parts.dulled(images[8]), 8, 8 / 24)
    assert seen.plain.scores.max(initial=0) < 0.05
    assert seen.boxes.scores[0] > 0.3
    assert seen.boxes.labels[0] == 0


def test_weights_of_another_host_or_damaged_are_refused(tmp_path: Path) -> None:
    class Other(parts.Colours):
        digest = "others"

    path = tmp_path / "w.safetensors"
    weights.save(path, {"gated": parts.gated(), "paper": parts.paper()}, HOST, {"note": 1})
    assert weights.kinds(path) == ["gated", "paper"]
    for kind, made in (("gated", parts.gated()), ("paper", parts.paper())):
        loaded = weights.load_readout(path, HOST, kind).state_dict()
        assert all(torch.equal(v, loaded[k]) for k, v in made.state_dict().items())
    with pytest.raises(StateError, match="another detector"):
        weights.load_readout(path, Other())
    with pytest.raises(UsageError, match="control"):
        weights.load_readout(path, HOST, "control")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateError, match="damaged"):
        weights.load_readout(path, HOST)
    with pytest.raises(UsageError):
        weights.load_readout("nobody", HOST)
    assert weights.shipped_for(HOST) is None


def test_windows_of_a_video_are_of_its_frames(tmp_path: Path) -> None:
    from media import write_video

    path = write_video(tmp_path / "v.mp4", 40)
    made = list(of_videos([str(path)], 5, 0))
    assert len(made) == 5
    for window in made:
        assert len(window.images) == LENGTH
        assert window.images[0].shape == (48, 64, 3)
        steps = np.diff(window.seconds)
        np.testing.assert_allclose(steps, steps[0])
    short = write_video(tmp_path / "short.mp4", LENGTH - 1)
    with pytest.raises(SourceError, match="at least"):
        list(of_videos([str(short)], 1, 0))


def test_a_window_is_varied_the_same_way_in_all_frames() -> None:
    image = parts.picture(40)
    for seed in range(5):
        out = varied([image] * 4, np.random.default_rng(seed))
        assert all(one.shape == image.shape and one.dtype == np.uint8 for one in out)
        apart = [np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise(out)]
        assert max(apart) < 40


def test_recipes_that_cannot_work_are_told() -> None:
    for values in ({"kind": "other"}, {"rounds": 0}, {"spoilt": 1.0}, {"foreign": 2.0}):
        with pytest.raises(UsageError):
            Recipe(**values)  # type: ignore[arg-type]
