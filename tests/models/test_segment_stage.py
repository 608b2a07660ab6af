"""The segment stage: holding back, fans that come and go, snapshots, refusals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
import torch

from retain.datasets.echo.sector import NoSector
from retain.memory.snapshot import load
from retain.models.gdkvm import weights
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.network import Gdkvm
from retain.models.gdkvm.stage import HOLD, Segment, one_cavity
from retain.pipeline.errors import RetainError, StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks
from retain.pipeline.sources.dicom import DicomSource


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights of a network with two objects."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    weights.save(path, Gdkvm(GdkvmConfig(grid=64, objects=("cavity", "atrium"))).eval(), {})
    return str(path)


@pytest.fixture(scope="module")
def echo() -> list[Frame]:
    """Thirty frames of a real apical view."""
    path = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
    return list(DicomSource(str(path)).frames())


def grey(seq: int, picture: np.ndarray) -> Frame:
    return Frame("main", seq, seq, Fraction(1, 30), np.ascontiguousarray(picture, np.uint8))


def feed(stage: Segment, frames: Iterable[Frame], flush: bool = False) -> list[Packet]:
    out = [packet for frame in frames for packet in stage.process(Packet(frame))]
    return [*out, *stage.flush()] if flush else out


def planes(packets: Iterable[Packet]) -> list[bytes]:
    return [p.get("masks", Masks).probability.tobytes() for p in packets]


def test_frames_are_held_until_the_fan_is_found_and_leave_in_order(
    small: str, echo: list[Frame]
) -> None:
    stage = Segment(weights=small, structures="all")
    assert feed(stage, echo[: HOLD - 1]) == []
    out = feed(stage, echo[HOLD - 1 : 12])
    assert [p.frame.seq for p in out] == list(range(12))
    masks = out[0].get("masks", Masks)
    assert masks.probability.shape == (2, 64, 64)
    assert masks.probability.dtype == np.uint8
    assert masks.labels == ("cavity", "atrium")
    assert len(feed(Segment(weights=small), echo[:3], flush=True)) == 3


def test_the_state_has_one_size_and_continues_bit_for_bit(
    small: str, echo: list[Frame], tmp_path: Path
) -> None:
    whole = Segment(weights=small)
    out = feed(whole, echo)
    first = Segment(weights=small)
    feed(first, echo[:17])
    before = first.stats()["memory_bytes"]
    first.save(str(tmp_path / "state"))
    second = Segment(weights=small, resume=str(tmp_path / "state"))
    rest = feed(second, echo[10:])  # what was seen is passed over
    assert [p.frame.seq for p in rest] == list(range(17, 30))
    assert planes(rest) == planes(out[17:])
    assert second.stats()["memory_bytes"] == before == whole.stats()["memory_bytes"]
    loaded = Segment(weights=small)
    loaded.load(str(tmp_path / "state"))
    assert planes(feed(loaded, echo)) == planes(out[17:])


def test_a_state_that_does_not_fit_is_refused(
    small: str, echo: list[Frame], tmp_path: Path
) -> None:
    stage = Segment(weights=small)
    with pytest.raises(StateError, match="no frame was segmented yet"):
        stage.save(str(tmp_path / "state"))
    feed(stage, echo[:10])
    stage.save(str(tmp_path / "state"))
    wide = grey(10, np.zeros((240, 400, 3)))
    with pytest.raises(StateError, match="320x240"):
        feed(Segment(weights=small, resume=str(tmp_path / "state")), [wide])
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    config = GdkvmConfig(grid=64, objects=("cavity", "atrium"))
    weights.save(other, Gdkvm(config).eval(), {})
    with pytest.raises(StateError, match="gates"):
        feed(Segment(weights=str(other), resume=str(tmp_path / "state")), echo[10:11])
    data = (tmp_path / "state").read_bytes()
    (tmp_path / "cut").write_bytes(data[:-100])
    with pytest.raises(StateError):
        Segment(weights=small, resume=str(tmp_path / "cut"))
    assert set(load(tmp_path / "state").memories) == {"delta", "carry"}


def test_a_stream_without_a_fan_is_an_error_in_the_end(small: str) -> None:
    rng = np.random.default_rng(0)
    photo = [grey(i, rng.integers(0, 256, (120, 160, 3))) for i in range(HOLD + 2)]
    stage = Segment(weights=small)
    out = feed(stage, photo)
    assert [p.get("masks", Masks).flags for p in out] == [("no-sector",)] * HOLD
    assert not any(p.get("masks", Masks).probability.any() for p in out)
    with pytest.raises(NoSector, match="No ultrasound fan was found"):
        list(stage.flush())


def test_a_fan_may_come_later(small: str, echo: list[Frame]) -> None:
    black = [grey(i, np.zeros((240, 320, 3))) for i in range(HOLD)]
    later = [replace(frame, seq=frame.seq + HOLD) for frame in echo[:HOLD]]
    out = feed(Segment(weights=small), [*black, *later], flush=True)
    flags = [p.get("masks", Masks).flags for p in out]
    assert all("no-sector" in f for f in flags[:HOLD])
    assert not any("no-sector" in f for f in flags[HOLD:])
    assert [p.frame.seq for p in out] == list(range(2 * HOLD))


def test_colour_doppler_gets_no_mask_and_says_why(small: str, echo: list[Frame]) -> None:
    image = echo[10].image.copy()
    image[100:160, 130:200] = (200, 40, 20)
    out = feed(Segment(weights=small), [*echo[:10], grey(10, image), echo[11]])
    doppler = out[10].get("masks", Masks)
    assert "colour-doppler" in doppler.flags
    assert not doppler.probability.any()
    assert "colour-doppler" not in out[11].get("masks", Masks).flags


def test_a_whole_number_of_looks_without_a_fan_is_an_error_too(small: str) -> None:
    stage = Segment(weights=small)
    feed(stage, [grey(i, np.zeros((64, 64, 3))) for i in range(2 * HOLD)])
    with pytest.raises(NoSector):
        list(stage.flush())


@pytest.mark.parametrize("cut", ["discontinuity", "size"])
def test_the_past_ends_at_a_cut(small: str, echo: list[Frame], cut: str) -> None:
    again = [replace(f, seq=f.seq + 12) for f in echo[:10]]
    if cut == "discontinuity":
        again[0] = replace(again[0], discontinuity=True)
    else:
        again = [
            replace(f, image=np.ascontiguousarray(np.pad(f.image, ((0, 9), (0, 0), (0, 0)))))
            for f in again
        ]
    out = feed(Segment(weights=small), [*echo[:12], *again])
    alone = feed(Segment(weights=small), again)
    assert planes(out[12:]) == planes(alone)


def test_a_gap_is_told_to_the_memory(small: str, echo: list[Frame]) -> None:
    late = [replace(f, seq=f.seq + (40 if i >= 12 else 0)) for i, f in enumerate(echo[:16])]
    near = planes(feed(Segment(weights=small), echo[:16]))
    far = planes(feed(Segment(weights=small), late))
    assert near[:12] == far[:12]
    assert near[12] != far[12]


def test_wrong_use_is_named(small: str, echo: list[Frame]) -> None:
    with pytest.raises(UsageError, match="cavity or all"):
        Segment(weights=small, structures="ventricle")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no weights called 'mimi'"):
        Segment(weights="mimi")
    stage = Segment(weights=small)
    feed(stage, echo[:9])
    with pytest.raises(UsageError, match="stage of its own"):
        feed(stage, [replace(echo[9], stream="other")])
    assert issubclass(NoSector, RetainError)


def test_one_cavity_without_holes() -> None:
    cavity = np.zeros((40, 40), np.float32)
    cavity[8:28, 10:26] = 0.9
    cavity[15:18, 15:18] = 0.1  # a papillary muscle
    cavity[33:36, 30:34] = 0.8  # a stray blob
    kept, sure = one_cavity(np.stack([1 - cavity, cavity]))
    found = kept.argmax(axis=0) == 1
    assert found[8:28, 10:26].all()
    assert found.sum() == 20 * 16
    assert 0.8 < sure < 0.9
    np.testing.assert_allclose(kept.sum(axis=0), 1, atol=1e-6)
    nothing, doubt = one_cavity(
        np.stack([np.ones((8, 8), np.float32), np.zeros((8, 8), np.float32)])
    )
    assert doubt == 0
    assert not (nothing.argmax(axis=0) == 1).any()
