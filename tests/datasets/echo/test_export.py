"""The phantom through the real formats and back, and what the writers refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from echo_clips import drawn

from retain.datasets.echo import metrics, volumes
from retain.datasets.echo.camus import Camus
from retain.datasets.echo.clip import CAVITY, EchoClip
from retain.datasets.echo.echonet import EchoNet
from retain.datasets.echo.export import Fault, write_camus, write_echonet
from retain.datasets.echo.phantom import make_clip
from retain.pipeline.errors import UsageError


@pytest.fixture(scope="module")
def phantom() -> list[EchoClip]:
    return [replace(make_clip(seed), split="test") for seed in (3, 4)]


def test_a_phantom_goes_through_camus_unchanged(phantom: list[EchoClip], tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    write_camus(tmp_path, phantom)
    reader = Camus(tmp_path)
    for read, made in zip(reader.clips("test"), phantom, strict=True):
        assert (read.frames == made.frames).all()
        assert (read.masks == made.masks).all()
        assert (read.ef, read.fps) == (made.ef, made.fps)
    assert reader.problems == []


def test_a_phantom_goes_through_echonet_but_for_its_border(
    phantom: list[EchoClip], tmp_path: Path
) -> None:
    write_echonet(tmp_path, phantom)
    reader = EchoNet(tmp_path)
    for read, made in zip(reader.clips("test"), phantom, strict=True):
        assert np.abs(read.frames.astype(int) - made.frames).mean() < 3  # Motion JPEG of speckle
        assert (read.ed, read.es) == (made.ed, made.es)
        for index in (made.ed, made.es):
            ours, theirs = read.masks[index] == CAVITY, made.masks[index] == CAVITY
            # The outline is written to 1e-4 pixel and filled after rounding.
            distances = metrics.distances(ours, theirs)
            assert distances is not None
            assert distances.hd <= 1.5
    assert reader.problems == []


def test_volumes_of_the_masks_find_the_phantoms_ejection_fraction(phantom: list[EchoClip]) -> None:
    for clip in phantom:
        for measure in (volumes.area_length, volumes.disks):
            edv, esv = (
                measure(clip.masks[index] == CAVITY, clip.spacing_mm).volume
                for index in (clip.ed, clip.es)
            )
            assert volumes.ejection_fraction(edv, esv) == pytest.approx(clip.ef, abs=2)
            assert edv == pytest.approx(clip.edv_ml, rel=0.07)  # pixels are 4 % of the width


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'labels 255' cannot be planted here.*no tracing"):
        write_echonet(tmp_path, [drawn("a")], {"a": Fault.LABELS_255})
    with pytest.raises(UsageError, match="cannot be planted here"):
        write_camus(tmp_path, [drawn("a")], faults={"a": Fault.BEYOND})
    with pytest.raises(UsageError, match="does not go from end-diastole to end-systole"):
        write_camus(tmp_path, [replace(drawn("a"), ed=3)])
