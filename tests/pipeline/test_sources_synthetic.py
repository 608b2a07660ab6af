"""SyntheticSource: the address alone decides pixels and times; faults come when asked for."""

from __future__ import annotations

import threading
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.sources.scenes import SCENES
from retain.pipeline.sources.synthetic import SyntheticSource, parse


def read(address: str, **options: float) -> list[Frame]:
    source = SyntheticSource(address, **options)
    source.open()
    return list(source.frames())


def seconds(frames: list[Frame]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


@pytest.mark.parametrize("name", SCENES)
def test_an_address_decides_everything(name: str) -> None:
    address = f"synthetic://{name}?size=48x32&frames=60&seed=5&cut=1"
    one, two = read(address), read(address)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))
    other = read(address.replace("seed=5", "seed=6"))
    assert not np.array_equal(one[0].image, other[0].image)
    assert {frame.image.shape for frame in one} == {(32, 48, 3)}


@pytest.mark.parametrize(("name", "moves"), [("still", False), ("pan", True), ("bounce", True)])
def test_what_moves(name: str, moves: bool) -> None:
    frames = read(f"synthetic://{name}?frames=26")
    assert np.array_equal(frames[0].image, frames[25].image) != moves


def test_scenes_cut_where_asked() -> None:
    frames = read("synthetic://scenes?size=64x48&cut=2&rate=10&seconds=8")
    change = [np.abs(a.image.astype(int) - b.image).mean() for a, b in pairwise(frames)]
    assert [k + 1 for k in range(len(change)) if change[k] > 25] == [20, 40, 60]


@pytest.mark.parametrize("name", SCENES)
def test_any_size_works(name: str) -> None:
    for size in ("1x1", "2x7", "101x3"):
        assert len(read(f"synthetic://{name}?size={size}&frames=3")) == 3


def test_times_are_exact() -> None:
    frames = read("synthetic://still?rate=30000/1001&frames=100")
    assert seconds(frames) == [k * Fraction(1001, 30000) for k in range(100)]
    assert len(read("synthetic://still?seconds=2")) == 50


def test_pause_leaves_a_hole_in_time() -> None:
    frames = read("synthetic://still?rate=10&frames=50&pause=1:2&pause=4:0.5")
    gone = {Fraction(k, 10) for k in [*range(10, 30), *range(40, 45)]}
    assert seconds(frames) == [t for k in range(50) if (t := Fraction(k, 10)) not in gone]
    assert [frame.seq for frame in frames] == list(range(25))


def test_repeat_freezes_the_picture_and_flash_whitens_it() -> None:
    frames = read("synthetic://pan?rate=10&frames=40&repeat=1:1&flash=3:0.2")
    plain = read("synthetic://pan?rate=10&frames=40")
    assert all(np.array_equal(frames[k].image, plain[10].image) for k in range(10, 20))
    assert np.array_equal(frames[20].image, plain[20].image)
    assert [k for k in range(40) if frames[k].image.min() == 255] == [30, 31]


def test_corrupt_breaks_after_the_last_good_frame() -> None:
    source = SyntheticSource("synthetic://still?rate=10&corrupt=1.5")
    source.open()
    frames: list[Frame] = []
    with pytest.raises(SourceError, match="broke at 1.5 s") as caught:
        frames.extend(source.frames())
    assert len(frames) == 15
    assert caught.value.fault == SourceFault.BROKEN
    assert caught.value.decoded == 15


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), jitter=st.sampled_from(["0.1", "0.3", "0.49"]))
def test_jitter_keeps_times_rising(seed: int, jitter: str) -> None:
    address = f"synthetic://still?size=4x4&frames=200&jitter={jitter}&seed={seed}"
    frames = read(address)
    assert all(b.pts > a.pts for a, b in pairwise(frames))
    assert len({b.pts - a.pts for a, b in pairwise(frames)}) > 50
    assert [f.pts for f in frames] == [f.pts for f in read(address)]


def test_sampling_and_limit() -> None:
    frames = read("synthetic://still?rate=30&frames=90", fps=10.0)
    assert seconds(frames) == [Fraction(k, 10) for k in range(30)]
    assert len(read("synthetic://still?frames=0", limit=12)) == 12


def test_live_streams_are_endless_and_obey_close() -> None:
    source = SyntheticSource("synthetic://still?live=1&rate=200&size=8x8&burst=4")
    info = source.open()
    assert (info.kind, info.declared_frames) == ("live", 0)
    frames = source.frames()
    assert [next(frames).seq for _ in range(20)] == list(range(20))
    source.close()
    assert list(frames) == []


def test_a_stall_without_end_is_ended_by_close() -> None:
    source = SyntheticSource("synthetic://still?rate=10&frames=30&stall=1:inf")
    source.open()
    frames: list[Frame] = []
    reader = threading.Thread(target=lambda: frames.extend(source.frames()))
    reader.start()
    reader.join(0.3)
    assert reader.is_alive()
    source.close()
    reader.join(20)
    assert len(frames) == 10


def test_a_live_stall_loses_the_frames_of_its_time() -> None:
    frames = []
    source = SyntheticSource("synthetic://still?live=1&rate=100&size=8x8&stall=0.1:0.2")
    source.open()
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == 20:
            break
    gaps = [b.pts - a.pts for a, b in pairwise(frames)]
    assert max(gaps) >= 15 * 1000
    assert [frame.seq for frame in frames] == list(range(20))


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("synthetic://bouncy", "Did you mean 'bounce'"),
        ("synthetic://", "not a synthetic stream"),
        ("synthetic://still?sized=4x4", "no knob 'sized'. Did you mean 'size'"),
        ("synthetic://still?size=4", "size='4' .* makes no sense. Write it like size=320x240"),
        ("synthetic://still?size=0x4", "makes no sense"),
        ("synthetic://still?rate=0", "makes no sense"),
        ("synthetic://still?rate=1/0", "makes no sense"),
        ("synthetic://still?pause=4", "Write it like pause=4:2"),
        ("synthetic://still?live=maybe", "makes no sense"),
        ("synthetic://still?jitter=0.6", "makes no sense"),
        ("synthetic://still?frames=9&seconds=1", "not both"),
        ("synthetic://still?burst=3", "needs live=1"),
    ],
)
def test_mistakes_are_named(address: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        parse(address)
