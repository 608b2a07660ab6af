"""Clips cut from streams, files and kept frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_parts import bare, features, feed

from retain.memory.clips.clip import Window
from retain.memory.clips.config import ClipShape, WindowConfig
from retain.memory.clips.windows import Seen, Windows, cut, fitted, from_entries
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.memory.router import RouterConfig
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import SYNTHETIC, Frame

CONFIG = WindowConfig(ClipShape(4, 2, 3), stride=2)


def frame(seq: int, **changes: object) -> Frame:
    """Its grey is its number."""
    image = np.full((4, 6, 3), seq % 256, np.uint8)
    made = Frame("cam", seq, seq, Fraction(1, 10), image)
    return replace(made, **changes)  # type: ignore[arg-type]


def run(seqs: Iterable[int], config: WindowConfig = CONFIG) -> list[Window]:
    windows = Windows(config)
    out = [windows.write("s", Seen(frame(seq), seq / 8)) for seq in seqs]
    return [window for window in out if window is not None]


def spans(found: list[Window]) -> list[tuple[int, int]]:
    return [(w.span.first, w.span.last) for w in found]


def test_a_window_every_stride() -> None:
    found = run(range(10))
    assert spans(found) == [(0, 3), (2, 5), (4, 7), (6, 9)]
    assert found[1].frames[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert (found[1].span.stream, found[1].start_s, found[1].end_s) == ("cam", 0.2, 0.5)
    assert found[1].score == 5 / 8


def test_a_gap_starts_anew() -> None:
    assert spans(run([0, 1, 2, 4, 5, 6, 7])) == [(4, 7)]
    assert spans(run([0, 1, 2, 4], replace(CONFIG, slack=1))) == [(0, 4)]
    assert spans(run([5, 6, 7, 0, 1, 2, 3])) == [(0, 3)]
    windows = Windows(CONFIG)
    out = [windows.write("s", Seen(frame(i, discontinuity=i == 2))) for i in range(6)]
    assert [w is not None for w in out] == [False] * 5 + [True]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), max_size=60), st.integers(1, 3), st.integers(0, 2),
    st.integers(1, 4),
)  # fmt: skip
def test_no_window_spans_a_gap(steps: list[int], every: int, slack: int, stride: int) -> None:
    config = WindowConfig(ClipShape(3, 2, 2), stride, every, slack)
    for window in run(np.cumsum([0, *steps]).tolist(), config):
        taken = np.diff(window.frames[:, 0, 0, 0].astype(int))
        assert ((taken >= every) & (taken <= every + slack)).all()


def test_a_gate_scales_the_score_and_shuts() -> None:
    windows = Windows(replace(CONFIG, stride=1))
    found = [windows.write("s", Seen(frame(i), 2.0), gate=0.25) for i in range(4)]
    assert found[3] is not None
    assert found[3].score == 0.5
    assert windows.write("s", Seen(frame(4)), gate=0.0) is None
    assert windows.write("s", Seen(frame(5))) is None  # after a gap


def test_every_other_frame() -> None:
    assert spans(run(range(12), WindowConfig(ClipShape(3, 2, 2), stride=1, every=2))) == [
        (0, 4), (2, 6), (4, 8), (6, 10),
    ]  # fmt: skip


def test_made_frames_are_refused() -> None:
    windows = Windows(CONFIG)
    for i in range(3):
        windows.write("s", Seen(frame(i)))
    before = windows.snapshot("s").tensors["rows.seq"]
    with pytest.raises(UsageError, match="made by a model"):
        windows.write("s", Seen(frame(3, meta={SYNTHETIC: True})))
    assert (windows.snapshot("s").tensors["rows.seq"] == before).all()


def test_time_running_backwards_starts_anew() -> None:
    windows = Windows(CONFIG)
    for i in range(3):
        windows.write("s", Seen(frame(i)))
    assert windows.write("s", Seen(frame(3, pts=1))) is None
    assert windows.stats("s")["frames"] == 1


def test_kept_frames_without_pictures_are_no_clips() -> None:
    memory = bare(policy="recent")
    feed(memory, features(20))
    assert from_entries(memory.read("s"), CONFIG, "cam") == []


def test_what_is_held_can_be_read() -> None:
    windows = Windows(CONFIG)
    assert windows.read("s") is None
    for i in range(3):
        windows.write("s", Seen(frame(i)))
    held = windows.read("s")
    assert held is not None
    assert held.frames.shape == (3, 2, 3, 1)


def test_a_short_file_is_refused() -> None:
    with pytest.raises(UsageError, match="has 3 frames, but a clip needs 4"):
        cut((frame(i) for i in range(3)), CONFIG)
    assert spans(cut((frame(i) for i in range(4)), CONFIG)) == [(0, 3)]


def test_kept_frames_make_clips_where_they_follow_each_other() -> None:
    config = FrameMemoryConfig(
        dim=32, policy="recent", max_entries=11, router=RouterConfig(mode="robust")
    )
    memory = FrameMemory(config)
    for i, row in enumerate(features(30)):
        if i != 21:
            memory.observe("s", frame(i), row)
    kept = memory.read("s")
    assert [entry.seq for entry in kept] == [18, 19, 20, *range(22, 30)]
    found = from_entries(kept, CONFIG, "cam")
    assert spans(found) == [(22, 25), (24, 27), (26, 29)]
    assert abs(found[0].frames[:, 0, 0, 0].astype(int) - [22, 23, 24, 25]).max() <= 2
    assert found[0].start_s == 2.2
    assert from_entries(kept[::2], CONFIG, "cam") == []


def test_pictures_are_fitted() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = (255, 0, 0)
    small = fitted(image, ClipShape(1, 2, 2, 3))
    assert small[0].tolist() == [[0, 0, 0], [255, 0, 0]]
    grey = fitted(image, ClipShape(1, 2, 2, 1))
    assert grey.shape == (2, 2, 1)
    assert grey[0, 1, 0] == 76  # 0.299 of 255


@pytest.mark.parametrize(
    ("name", "values"), [("seq", [3, 2, 1]), ("seconds", [0, np.nan, 1]), ("score", [0, 0, np.inf])]
)
def test_impossible_frames_are_refused(name: str, values: list[float]) -> None:
    windows = Windows(CONFIG)
    for i in range(3):
        windows.write("s", Seen(frame(i)))
    saved = windows.snapshot("s")
    forged = {f"rows.{name}": np.array(values, saved.tensors[f"rows.{name}"].dtype)}
    with pytest.raises(StateError, match="order"):
        windows.restore("s", replace(saved, tensors={**saved.tensors, **forged}))
    with pytest.raises(StateError, match="header"):
        windows.restore("s", replace(saved, header={"due": 2}))


@pytest.mark.parametrize("values", [{"stride": 0}, {"every": 0}, {"slack": -1}])
def test_windows_that_cannot_be(values: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        replace(CONFIG, **values)
    with pytest.raises(UsageError):
        ClipShape(4, 4, 4, channels=2)
