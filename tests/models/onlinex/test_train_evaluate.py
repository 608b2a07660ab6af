"""What rows are judged by: errors of made-up paths, levels without a network, tables and bars."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retain.apps import plot_onlinex, training_onlinex
from retain.kernels.geometry import rigid
from retain.models.onlinex import evaluate
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.evaluate import Result
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.scenes import Batch, Pool, SceneConfig, open_pool

MODEL = OnlineXConfig.tiny(
    side=32, dim=32, heads=2, encoder_depth=1, decoder_dim=32, decoder_heads=2, decoder_depth=1,
    director_depth=1, anchors=4, head_dim=8,
)  # fmt: skip
SCENES = SceneConfig(side=32, rooms=2, frames=6, split="test")


@pytest.fixture(scope="module")
def pool() -> Pool:
    return open_pool(SCENES)


@pytest.fixture
def batch(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Batch:
    monkeypatch.setattr(evaluate, "AT", (1, 3, 5))
    return pool.whole(np.array([0, 1]), 6)


def test_errors_are_those_that_were_made(batch: Batch) -> None:
    off = torch.from_numpy(rigid.exp([0, 0, np.radians(10), 0, 0, 0])).float()
    off[:3, 3] = torch.tensor([0.3, 0.0, 0.4])
    found = evaluate.measured(batch, batch.c2w @ off, evaluate.motions(batch.c2w), [], [])
    assert np.allclose(found.translation, 0.5, atol=1e-5)
    assert np.allclose(found.rotation, 10, atol=1e-3)
    assert np.allclose(found.step_translation, 0, atol=1e-5)
    assert np.allclose(found.step_rotation, 0, atol=0.1)  # single precision near no turn
    # Aligned, only what a camera's own turn does to the shift is left: nothing, without a turn.
    moved = evaluate.measured(
        batch,
        torch.from_numpy(rigid.exp([0, 0.4, 0, 1, 2, 3])).float() @ batch.c2w,
        batch.c2w,
        [],
        [],
    )
    assert np.allclose(moved.ate, 0, atol=1e-4)
    assert min(np.ravel(moved.translation)) > 1


def test_the_copy_is_judged_where_the_views_are(batch: Batch) -> None:
    level = evaluate.constant_pose(batch)
    assert np.asarray(level.psnr).shape == (2, 3)
    wanted = evaluate.psnr(batch.clean[:, 3], batch.between.images[:, 2])
    assert np.allclose(np.asarray(level.psnr)[:, 1], wanted)
    assert np.allclose(level.translation, batch.c2w[..., :3, 3].norm(dim=-1))


def test_a_network_is_judged_frame_by_frame(batch: Batch) -> None:
    torch.manual_seed(0)
    net = OnlineX(MODEL).eval()
    heard: list[int] = []
    found = evaluate.judge(net, batch, lambda done, of: heard.append(done))
    assert heard == [1, 2, 3, 4, 5, 6]
    assert np.asarray(found.translation).shape == (2, 6)
    assert np.asarray(found.psnr).shape == (2, 3)
    assert found.translation[0][0] < 1e-6  # the first camera is the origin
    placed = evaluate.true_poses(net, batch)
    assert np.allclose(placed.translation, 0)
    alone = evaluate.judge(net, Batch(*(first(getattr(batch, n)) for n in Batch.__slots__)))
    assert np.allclose(alone.translation[0], found.translation[0], atol=1e-4)
    assert np.allclose(alone.psnr[0], found.psnr[0], atol=0.05)


def first(part: object) -> object:
    """The first sequence of a batch's part."""
    if isinstance(part, torch.Tensor):
        return part[:1]
    return replace(part, **{n: getattr(part, n)[:1] for n in type(part).__slots__})  # type: ignore[attr-defined, type-var]


def test_every_frame_of_a_long_stream_has_a_cost(batch: Batch) -> None:
    took = evaluate.frame_cost(OnlineX(MODEL).eval(), batch, 9)
    assert took.shape == (9,)
    assert (took > 0).all()


def made(seed: int, error: float) -> Result:
    rng = np.random.default_rng(seed)
    grow = np.linspace(0, error, evaluate.FRAMES) * rng.uniform(0.9, 1.1, (8, 1))
    views = 25 - 10 * grow[:, list(evaluate.AT)]
    values = grow.tolist()
    return Result(values, values, values, values, values, views.tolist(), grow[:, -1].tolist())


def test_bars_ask_for_more_than_chance() -> None:
    better, worse = made(1, 0.3), made(2, 0.6)
    rows = training_onlinex.bars({"full": better, "no anchor": worse, "damped": worse})
    promised = [row for row in rows if row.met is not None]
    assert [row.met for row in promised] == [True] * 3
    assert all("no anchor" in row.name for row in promised)
    assert next(row for row in promised if "translation" in row.name).unit == "cm"
    equal = training_onlinex.bars({"full": better, "no anchor": made(1, 0.3)})
    assert not any(row.met for row in equal)
    assert training_onlinex.bars({"no anchor": worse}) == []


def test_tables_and_curves_show_every_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"full": made(1, 0.3), "no anchor": made(2, 0.6)}
    training_onlinex.show(found, "translation", "distance, cm", 1)
    out = capsys.readouterr().out
    assert "full" in out
    assert "no anchor" in out
    assert "32 to 63" in out
    plot_onlinex.plot(found, tmp_path / "curves.webp", 15)
    with Image.open(tmp_path / "curves.webp") as picture:
        assert picture.size == (plot_onlinex.WIDTH, plot_onlinex.HEIGHT)
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((31, 95, 168), (200, 62, 50)):
        assert (np.abs(seen - colour).sum(1) < 60).sum() > 30
