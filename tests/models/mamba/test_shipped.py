"""The read-outs that come with the package: what they hold, and that the memory is worth more than
the control without one on clips that nothing was trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retain.datasets.detect.open import open_clips
from retain.models.mamba import evaluate as judge
from retain.models.mamba import weights
from retain.models.mamba.hosts.open import open_host

YOLOX = Path(__file__).parents[4] / "shared" / "data" / "yolox_nano_416x416.onnx"
DAVIS = YOLOX.parent / "davis_dev"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", sorted(weights.SHIPPED))
def test_a_file_is_small_and_says_how_it_was_made(name: str) -> None:
    path = weights.locate(name)
    assert path.stat().st_size < 5_000_000
    _, head = weights.read(path)
    held = weights.kinds(path)
    assert "gated" in held
    assert sorted(head["recipes"]) == sorted(head["held_out_loss"]) == held
    assert all(head["recipes"][kind]["kind"] == kind for kind in held)


def test_the_small_detectors_memory_repairs_spoilt_frames() -> None:
    host = open_host("small", "cpu")
    assert weights.shipped_for(host) == "small"
    clip = open_clips("objects://?seed=2000003&clips=1&frames=30")[0]
    seen = judge.describe(host, clip, "strong", 0)
    bank = weights.load_readout("small", host)
    ways = judge.ways(bank, None, None)
    wanted = ("plain", "bank")
    scores = {way.name: judge.run(host, way, [seen], cuts=False) for way in ways
              if way.name in wanted}  # fmt: skip
    assert scores["bank"].deg > scores["plain"].deg + 0.1
    assert scores["bank"].cln > scores["plain"].cln - 0.02


@pytest.mark.skipif(not YOLOX.exists() or not DAVIS.exists(), reason="the developers' data")
def test_a_real_detectors_memory_is_worth_more_than_its_control() -> None:
    host = open_host(str(YOLOX), "cpu")
    name = weights.shipped_for(host)
    assert name == "yolox-nano"
    clips = open_clips(str(DAVIS))
    clip = next(clips[k] for k in range(len(clips)) if clips[k].name == "drift-straight")
    seen = judge.describe(host, clip, "strong", 3)
    made = {kind: weights.load_readout(name, host, kind) for kind in weights.kinds(name)}
    ways = judge.ways(made["gated"], made["control"], None)
    wanted = ("no-memory control", "bank", "bank + carry")
    scores = {way.name: judge.run(host, way, [seen], cuts=False) for way in ways
              if way.name in wanted}  # fmt: skip
    assert scores["bank"].deg > scores["no-memory control"].deg + 0.1
    assert scores["bank + carry"].deg > scores["bank"].deg
