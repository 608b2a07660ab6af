"""Training: it learns, goes on bit for bit, and every row trains what it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from retain.models.onlinex import study, train, weights
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.losses import Weights
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.scenes import Pool, SceneConfig, open_pool
from retain.models.onlinex.train import PairRun, Recipe, SequenceRun, Stage
from retain.models.training import Progress, Run
from retain.pipeline.errors import StateError, UsageError

MODEL = OnlineXConfig.tiny(
    side=32, dim=32, heads=2, encoder_depth=1, decoder_dim=32, decoder_heads=2, decoder_depth=1,
    director_depth=1, anchors=4, head_dim=8,
)  # fmt: skip
SCENES = SceneConfig(side=32, rooms=2, frames=8)
RECIPE = Recipe(
    MODEL, SCENES, Stage(4, 2, (2, 2)), Stage(2, 1, (2, 4)), Stage(2, 1, (4, 5)), window=3, warm=2
)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return open_pool(SCENES)


def begun(kind: str, pool: Pool, out: Path) -> Run:
    out.mkdir(exist_ok=True)
    return (PairRun if kind == "pairs" else SequenceRun)(RECIPE, pool, out)


def test_it_learns_a_batch(pool: Pool) -> None:
    torch.manual_seed(1)
    net = OnlineX(MODEL)
    batch = pool.draw(1, 2, 5)
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    seen = []
    for _ in range(30):
        loss = train.sequence_loss(net, batch, Weights(), targets=[0, 2], window=8, fused=True)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seen.append(loss.item())
    assert seen[-1] < 0.5 * seen[0], seen


@pytest.mark.parametrize("kind", ["pairs", "sequences"])
def test_a_run_goes_on_bit_for_bit(kind: str, pool: Pool, tmp_path: Path) -> None:
    whole = begun(kind, pool, tmp_path / "whole")
    whole.train(lambda progress: None)

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begun(kind, pool, tmp_path / "parts").train(stop)
    rest = begun(kind, pool, tmp_path / "parts")
    assert rest.load()
    assert rest.step == 3
    rest.train(lambda progress: None)
    for name, value in whole.average.items():
        assert torch.equal(value, rest.average[name]), name


def test_rows_share_their_pairs(pool: Pool, tmp_path: Path) -> None:
    heard: list[str] = []
    for row in ("full", "no anchor"):
        study.network(row, RECIPE, pool, tmp_path, "cpu", lambda what, *_: heard.append(what))
    assert heard.count("pairs") == RECIPE.pairs.steps  # once for all
    assert heard.count("full") == heard.count("no anchor") == 4


def test_rows_may_begin_with_another_runs_pairs(pool: Pool, tmp_path: Path) -> None:
    first = begun("pairs", pool, tmp_path / "pairs")
    first.train(lambda progress: None)
    study.init(tmp_path / "out", tmp_path / "pairs")
    study.init(tmp_path / "out", tmp_path / "pairs")  # as before
    found = study.pairs(RECIPE, pool, tmp_path / "out", "cpu", lambda *_: pytest.fail("trained"))
    assert all(torch.equal(found[name], value) for name, value in first.average.items())
    first.average["encoder.norm.bias"] += 1
    first.save()
    with pytest.raises(StateError, match="another relative part"):
        study.init(tmp_path / "out", tmp_path / "pairs")
    with pytest.raises(UsageError, match="no file"):
        study.init(tmp_path / "out", tmp_path)


@pytest.mark.parametrize("row", list(study.ROWS))
def test_every_row_begins_with_the_relative_part(row: str, pool: Pool, tmp_path: Path) -> None:
    first = PairRun(RECIPE, pool, tmp_path)
    own = replace(RECIPE, model=study.model(row, MODEL))
    run = SequenceRun(own, pool, tmp_path)
    run.begin_from(first.average)
    begun = run.net.state_dict()
    assert all(torch.equal(begun[name], value) for name, value in first.average.items())
    assert len(begun) >= len(first.average)
    run.loss(0).backward()  # type: ignore[no-untyped-call]
    idle = [n for n, p in run.net.named_parameters() if p.grad is None]
    assert all(n.startswith("fusion") for n in idle), idle  # that begins with longer sequences


def test_windows_end_gradients(pool: Pool) -> None:
    """What a frame past the window is told of the first one, it cannot teach it."""
    torch.manual_seed(0)
    net = OnlineX(MODEL)
    batch = pool.draw(1, 4, 2)
    only = replace(Weights(), relative=0.0, depth=0.0, confidence=0.0, render=0.0, language=0.0)

    def told(window: int) -> float:
        net.zero_grad()
        loss = train.sequence_loss(net, batch, only, targets=[0], window=window, fused=False)
        loss.backward()  # type: ignore[no-untyped-call]
        director = net.director
        assert director is not None
        assert director.start.grad is not None
        return float(director.start.grad.abs().sum())

    assert told(8) != told(2)


def test_a_run_is_as_long_as_it_was_told(pool: Pool, tmp_path: Path) -> None:
    timed = train.timed(RECIPE, pool, 0.05)
    assert timed.pairs.steps != RECIPE.pairs.steps
    assert timed.middle.frames == RECIPE.middle.frames
    known = study.lasting(timed, tmp_path, None, tmp_path, "cpu", lambda *_: None)
    assert known == timed
    again = study.lasting(RECIPE, tmp_path, 99.0, tmp_path, "cpu", lambda *_: None)
    assert again == timed  # as it began, whatever is asked now


def test_recipes_that_cannot_work_are_refused() -> None:
    with pytest.raises(UsageError, match="two frames"):
        replace(RECIPE, long=Stage(1, 1, (1, 3)))
    with pytest.raises(UsageError, match="sees 32 pixels"):
        replace(RECIPE, scenes=SceneConfig(side=64))
    with pytest.raises(UsageError, match="no row"):
        study.model("no anchr", MODEL)
    with pytest.raises(UsageError, match="no size"):
        train.recipe("large")


def test_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = OnlineX(MODEL)
    weights.save(tmp_path / "w.safetensors", net, {"note": 1})
    found = weights.opened(tmp_path / "w.safetensors")
    assert found.net.config == MODEL
    assert found.head["note"] == 1
    for name, value in net.state_dict().items():
        assert torch.equal(found.net.state_dict()[name], value.half().float()), name
    with pytest.raises(UsageError, match="no weights called"):
        weights.load("tny")
    path = tmp_path / "other.safetensors"
    blob = bytearray((tmp_path / "w.safetensors").read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    with pytest.raises(StateError, match="altered or damaged"):
        weights.load(path)
