"""`retain train gdkvm` and `retain eval echo`, in a size that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from retain.apps import evaluation_echo as evaluation
from retain.apps import training
from retain.apps import training_gdkvm as gdkvm
from retain.apps.numbers import records
from retain.models.gdkvm import ablation, weights
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.network import Gdkvm
from retain.pipeline.errors import StateError, UsageError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_run_is_continued_and_leaves_weights_and_curves(tmp_path: Path) -> None:
    options = gdkvm.TrainOptions(
        out=tmp_path / "run", steps=2, clips=2, cache=tmp_path / "cache", threads=1
    )
    assert gdkvm.train(options) == 0
    made = weights.load(tmp_path / "run" / training.WEIGHTS).config
    assert made == GdkvmConfig(objects=("cavity",))
    rows = (tmp_path / "run" / training.CURVE).read_text().splitlines()
    assert rows[0] == "step,loss,learning_rate,seconds"
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2"]
    assert "<polyline" in (tmp_path / "run" / "curve.svg").read_text()
    before = (tmp_path / "run" / training.WEIGHTS).read_bytes()
    assert gdkvm.train(options) == 0  # nothing is left to do
    assert (tmp_path / "run" / training.WEIGHTS).read_bytes() == before
    with pytest.raises(StateError, match="another recipe"):
        gdkvm.train(
            gdkvm.TrainOptions(
                out=tmp_path / "run", steps=2, clips=2, seed=5, cache=tmp_path / "cache"
            )
        )


def test_options_change_the_recipe_they_name() -> None:
    base = gdkvm.TrainOptions(out=Path(), size="base", steps=7, labels="all").recipe()
    assert (base.steps, base.labels, base.model.size) == (7, "all", "base")
    assert base.clips == 2000
    assert base.model.layer == "gated_delta"
    assert gdkvm.TrainOptions(out=Path(), layer="kalman").recipe().model.layer == "kalman"
    with pytest.raises(UsageError, match="Unknown layer"):
        gdkvm.TrainOptions(out=Path(), layer="kalmann").recipe()


def test_the_table_has_a_row_per_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "LONG", 30)
    monkeypatch.setattr(evaluation, "PRESETS", ("default",))
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    weights.save(path, Gdkvm(GdkvmConfig(grid=64)).eval(), {})
    options = evaluation.EvalOptions(weights=str(path), clips=2, json=tmp_path / "rows.json")
    assert evaluation.evaluate(options) == 1  # random weights miss the bars
    (found,) = records.read(tmp_path / "rows.json").measured.values()
    names = [row.name for row in found.rows]
    assert "default: cavity at ED and ES" in names
    assert "frames 4 to 6 of 10 black" in names
    assert any(name.startswith("largest |S|") for name in names)
    assert [row.met for row in found.rows if row.name == names[0]] == [False]
    assert "MISSED" in capsys.readouterr().out


def test_ablation_is_resumed_from_what_is_done(tmp_path: Path) -> None:
    for row, black in (("full", [0.8, 0.9]), ("none", [0.7, 0.8])):
        place = tmp_path / f"{row}-0-{ablation.STEPS}"
        place.mkdir()
        (place / "result.json").write_text(json.dumps({"clean": [0.9, 0.9], "black": black}))
    options = evaluation.EvalOptions(rows=("full", "none"), seeds=1, out=tmp_path)
    rows = {row.name: row for row in evaluation.ablation(options)}
    assert rows["full: frames 4 to 6 black"].value == pytest.approx(0.85)
    (gain,) = [row for name, row in rows.items() if name.startswith("full minus none")]
    assert gain.value == pytest.approx(0.1)
    assert gain.met
    with pytest.raises(UsageError, match="no ablation row 'ful'"):
        list(evaluation.ablation(evaluation.EvalOptions(rows=("ful",), out=tmp_path)))
