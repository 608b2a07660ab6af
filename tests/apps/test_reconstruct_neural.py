"""`retain reconstruct --profile neural` through the command line, with weights of nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_parts import Retain, exit_code

from retain.apps.reconstruct.run import ReconstructOptions
from retain.models.onlinex import weights
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.network import OnlineX
from retain.models.scene.mapper import read_map
from retain.models.scene.stage import Reconstruct
from retain.pipeline.errors import StateError, UsageError

CONFIG = OnlineXConfig(
    side=32, dim=32, heads=2, encoder_depth=1, decoder_dim=32, decoder_heads=2, decoder_depth=1,
    director_depth=1, anchors=4, head_dim=16, mlp=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("onlinex") / "random.safetensors"
    weights.save(path, OnlineX(CONFIG))
    return path


@pytest.fixture(scope="module")
def done(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("neural")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        (work / "near.safetensors").write_bytes(file.read_bytes())
        # Portrait, and smaller than the network's square.
        code = exit_code(
            patch, "reconstruct", "room://?seed=1&width=24&height=40", "--profile", "neural",
            "--weights", "near.safetensors", "--limit", "10", "--no-page", "--runner", "inline",
            "--out", "out",
        )  # fmt: skip
    assert code == 0
    return work / "out"


def test_what_made_the_map_is_told_and_no_metres_are(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    assert summary["profile"] == "neural"
    assert summary["weights"] == "near.safetensors"
    assert summary["lengths"] == "no unit: the scale is open"
    assert summary["depth_l1_m"] is None
    assert summary["held_out"] == 1
    report = (done / "report.html").read_text()
    assert "near.safetensors" in report
    assert "Depth error" not in report


def test_a_map_is_drawn_from_any_folder_and_when_its_weights_have_moved(
    done: Path, work: Path, retain: Retain
) -> None:
    words = ("render", str(done), "--width", "48", "--path", "along")
    assert retain(*words, "--out", "one.mp4").code == 0
    near = done.parent / "near.safetensors"
    whole = read_map(str(done / "map.safetensors"))[0]
    near.rename(work / "far.safetensors")
    try:
        refused = retain(*words, "--out", "two.mp4")
        assert refused.code == 2
        assert "--weights FILE" in refused.err
        far = ("--weights", "far.safetensors")
        assert retain(*words, *far, "--out", "two.mp4").code == 0
        moved = read_map(str(done / "map.safetensors"), "far.safetensors")[0]
        assert np.array_equal(moved.means, whole.means)
    finally:
        (work / "far.safetensors").rename(near)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"features": "xfeat"}, "--features"),
        ({"cell": 0.02}, "--cell"),
        ({"refine": 3}, "--refine"),
        ({"refine_ms": 5.0}, "--refine-ms"),
        ({"finish": 10}, "--finish"),
        ({"poses": "given"}, "given"),
        ({"language": "clip"}, "language codes"),
        ({"profile": "classic", "weights": "tiny"}, "neural profile"),
    ],
)
def test_options_of_the_other_profile_are_refused(options: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        ReconstructOptions(**{"source": "room://", "profile": "neural", **options})  # type: ignore[arg-type]
    ReconstructOptions(source="room://", profile="neural", finish=0, refine=0, poses="estimated")


def test_a_classic_run_does_not_go_on_from_a_neural_map(done: Path) -> None:
    from fractions import Fraction

    from retain.datasets.scene.room import Room
    from retain.datasets.scene.views import view_of
    from retain.pipeline.frame import Frame
    from retain.pipeline.packet import Packet

    shot = Room(seed=1, frames=2, width=24, height=40)[0]
    packet = Packet(Frame("room", 0, 0, Fraction(1, 30), shot.image), {"view": view_of(shot)})
    state = str(done / "map.safetensors")
    with pytest.raises(StateError, match="memories"):
        Reconstruct(resume=state).process(packet)
    near = str(done.parent / "near.safetensors")
    small = Reconstruct(profile="neural", weights=near, budget_mb=0.1, resume=state)
    with pytest.raises(StateError):
        small.process(packet)
