"""Clip: the same pictures by number as in sequence, whichever library delivers them."""

from __future__ import annotations

import logging
from pathlib import Path

import media
import numpy as np
import pytest

from retain.datasets.clips import Clip
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.sources.video import VideoSource


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int, tuple]]:
    return media.healthy(tmp_path_factory.mktemp("healthy"))


NAMES = (
    *("b-frames", "h264 avi", "avi with b-frames", "avi with gaps"),
    *("variable rate", "trimmed", "webm", "transport stream"),
)
ODD = ("raw h264", "gif", "1x1", "odd size", "10 bit", "grey 16", "alpha", "rotated", "wide pixels")


@pytest.mark.parametrize("name", NAMES + ODD)
def test_numbers_and_sequence_agree(healthy, name: str) -> None:
    path, count, shape = healthy[name]
    source = VideoSource(str(path))
    source.open()
    sequence = list(source.frames())
    with Clip(path) as clip:
        assert len(clip) == count
        assert clip.times.tolist() == [f.pts for f in sequence]
        assert clip.time_base == sequence[0].time_base
        wanted = [count - 1, 0, count // 2, 0]
        batch = clip.frames(wanted)
        assert batch.shape == (4, *shape, 3)
        assert batch.dtype == np.uint8
        for got, index in zip(batch, wanted, strict=True):
            assert np.abs(got.astype(int) - sequence[index].image).mean() <= 3


def test_decord_serves_plain_files_and_pyav_the_others(healthy, caplog) -> None:
    decord = pytest.importorskip("decord", reason="decord has no wheel here")
    assert decord
    with caplog.at_level(logging.WARNING), Clip(healthy["b-frames"][0]) as clip:
        assert clip.backend == "decord"
    assert not caplog.records
    with caplog.at_level(logging.WARNING), Clip(healthy["rotated"][0]) as clip:
        assert clip.backend == "pyav"
        clip.frames([0])
        clip.frames([1])
    assert len([r for r in caplog.records if "instead" in r.message]) == 1


def test_a_failure_of_decord_falls_back_loudly(healthy, caplog) -> None:
    path = healthy["b-frames"][0]

    class Failing:
        def get_batch(self, indices: list[int]) -> None:
            raise RuntimeError

    with caplog.at_level(logging.WARNING), Clip(path) as clip:
        expected = clip.frames([3, 7])
        clip._decord = Failing()
        assert np.abs(clip.frames([3, 7]).astype(int) - expected).mean() < 3
        assert clip.backend == "pyav"
    assert "decord failed while reading (RuntimeError)" in caplog.text


def test_numbers_are_checked(healthy) -> None:
    with Clip(healthy["b-frames"][0]) as clip:
        assert clip.frames([]).shape == (0, 48, 64, 3)
        for bad in (-1, 30):
            with pytest.raises(IndexError, match="it has 0..29"):
                clip.frames([0, bad])


def test_damage_is_never_filled_with_neighbours(tmp_path: Path) -> None:
    whole = media.write_video(
        tmp_path / "w.mp4", 60, options={"g": "15", "bf": "0"}, draw=media.noisy
    )
    path = media.scramble(tmp_path / "bad.mp4", whole, 900)
    with pytest.raises(SourceError, match="is damaged") as caught:
        Clip(path, verify=True)
    assert caught.value.fault == SourceFault.BROKEN
    cut = media.cut(tmp_path / "cut.mp4", media.faststart(tmp_path / "front.mp4", whole), 0.6)
    with Clip(cut) as clip:
        assert clip.backend == "pyav"
        assert len(clip) < 60
        assert media.bar_of(clip.frames([5])[0]) == 5


@pytest.mark.parametrize("name", ["missing", "empty", "audio only", "zero frames mp4"])
def test_faults_are_those_of_the_video_source(tmp_path: Path, name: str) -> None:
    path, fault = media.broken(tmp_path)[name]
    with pytest.raises(SourceError) as caught:
        Clip(path)
    assert caught.value.fault == fault
