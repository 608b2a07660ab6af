"""A share of `benchmarks/fuzz.py` for memory files, and one test for each fault it found."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_parts import bare, features, feed, frames

from retain.apps import bench
from retain.memory import pictures
from retain.memory.base import State
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, load_entries
from retain.memory.snapshot import load
from retain.pipeline.errors import StateError

fuzz = bench.load("fuzz")
memories = bench.load("_fuzz_memories")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("good") / "m"
    memories.frames_hub().snapshot(path, 41)
    return memories.File.read(path)


@pytest.mark.parametrize("target", [fuzz.memory_files, fuzz.entries_of_files])
def test_forged_files_are_refused_or_work(target: Callable[[Path], Any], tmp_path: Path) -> None:
    outcome = fuzz.fuzz(target.__name__, target(tmp_path), 400)
    assert not outcome.crashes, f"{outcome} {outcome.first}"
    assert outcome.refused > 250


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
PLACES = ["stream", "seq", "memories", "sha256", "frames", "config", "header", "dtype", "shape"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from([*PLACES, "data_offsets", "seen", "limit"]), value=JSON)
def test_any_json_in_any_place_is_refused_or_works(
    good: Any, tmp_path: Path, place: str, value: object
) -> None:
    file = good.copy()
    frames = file.inner["memories"]["frames"]
    array = file.outer["frames/rows.seq"]
    for holder in (file.inner, file.inner["memories"], frames, frames["header"], array):
        if place in holder:
            holder[place] = value
    path = tmp_path / "m"
    path.write_bytes(file.sealed())
    hub = memories.frames_hub(0)
    try:
        hub.restore(path)
    except StateError:
        return
    memories.used(hub)


def refused(path: Path, data: bytes, why: str) -> None:
    path.write_bytes(data)
    with fuzz.bounded(1 << 28), pytest.raises(StateError, match=why):
        load(path)


def test_a_key_that_stands_twice_is_refused(good: Any, tmp_path: Path) -> None:
    inner = json.dumps(good.inner, separators=(",", ":"))
    outer = json.dumps({"__metadata__": {"retain": inner}, **good.outer})
    extra = f', "frames/rows.seq": {json.dumps(good.outer["frames/rows.seq"])}}}'
    refused(tmp_path / "m", good.sealed(outer=outer[:-1] + extra), "header cannot be read")
    twice = inner[:-1] + ',"seq":7}'
    refused(tmp_path / "m", good.sealed(inner=twice), "header cannot be read")


@pytest.mark.parametrize(
    "change",
    [
        {"seq": math.inf}, {"seq": 1 << 80}, {"seq": "41"}, {"stream": ["cam"]},
        {"memories": {"frames": {"config": [], "config_sha256": "", "header": {}}}},
        {"memories": {"frames": {"config": {}, "config_sha256": "", "header": []}}},
        {"more": 1},
    ],
)  # fmt: skip
def test_headers_of_another_shape_are_refused(good: Any, tmp_path: Path, change: Any) -> None:
    file = good.copy()
    file.inner |= change
    refused(tmp_path / "m", file.sealed(), "header cannot be read")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [0, 1 << 62, 1 << 62]}, {"shape": [1] * 70}, {"shape": [math.inf]},
        {"shape": ["6"]}, {"data_offsets": [0.0, 48.0]}, {"data_offsets": [0, 1, 2]},
        {"data_offsets": [0, 1 << 70]}, {"dtype": "BF16"}, {"dtype": []},
    ],
)  # fmt: skip
def test_layouts_numpy_cannot_make_are_refused(good: Any, tmp_path: Path, change: Any) -> None:
    file = good.copy()
    file.outer["frames/rows.seq"] |= change
    refused(tmp_path / "m", file.sealed(), "header cannot be read|not where it should be")


def test_arrays_upon_one_another_and_arrays_of_nobody_are_refused(
    good: Any, tmp_path: Path
) -> None:
    file = good.copy()
    file.outer["frames/rows.seq"]["data_offsets"] = file.outer["frames/rows.pts"]["data_offsets"]
    refused(tmp_path / "m", file.sealed(), "not where it should be")
    file = good.copy()
    file.outer["other/rows.seq"] = file.outer.pop("frames/rows.seq")
    refused(tmp_path / "m", file.sealed(), "belongs to no memory")


def test_rows_without_a_width_allocate_nothing(good: Any, tmp_path: Path) -> None:
    file = good.copy()
    tall = {"dtype": "F32", "shape": [1 << 32, 0], "data_offsets": [0, 0]}
    file.outer = {"frames/rows.embedding": tall}
    file.data = b""
    (tmp_path / "m").write_bytes(file.sealed())
    with fuzz.bounded(1 << 28), pytest.raises(StateError, match="the second not 0"):
        load_entries(str(tmp_path / "m"))


def changed(state: State, name: str, value: float, row: int = -1) -> State:
    array = np.array(state.tensors[name])
    array[row] = value
    return State(state.tensors | {name: array}, state.header)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows.embedding", math.nan), ("rows.embedding", 1e30), ("rows.seconds", math.inf),
        ("rows.key", math.nan), ("rows.mass", -1), ("rows.novelty", -1), ("rows.tokens", -5),
        ("rows.width", 0), ("rows.height", -1), ("rows.base_num", 0), ("rows.base_den", 0),
        ("rows.seq", -1), ("rows.reason", 99), ("rows.tier", 0), ("rows.similarity", math.nan),
        ("router.history", math.nan), ("router.numbers", math.nan), ("router.numbers", -1),
        ("background.mean", math.inf), ("background.past", math.nan),
        ("background.clock", math.nan),
    ],
)  # fmt: skip
def test_numbers_no_stream_leads_to_are_refused(name: str, value: float) -> None:
    memory = bare(policy="robust")
    feed(memory, features(40))
    saved = memory.snapshot("s")
    with pytest.raises(StateError, match="no frame memory|no cosines|no stream|background|Router"):
        bare(policy="robust").restore("s", changed(saved, name, value))


def test_tokens_and_lengths_that_overflow_are_refused() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=32))
    for frame, feature in zip(frames(8), features(8), strict=True):
        memory.observe("s", frame, feature, query=True)
    saved = memory.snapshot("s")
    half = changed(changed(saved, "rows.tokens", 2**62, 0), "rows.tokens", 2**62, 1)
    many = changed(changed(half, "rows.tokens", 2**62, 2), "rows.tokens", 2**62, 3)
    with pytest.raises(StateError, match="more than this frame memory"):
        memory.restore("s", many)
    lengths = saved.tensors["rows.payload_length"]
    wrong = saved
    for row in range(4):  # together they come round to the right sum
        wrong = changed(wrong, "rows.payload_length", int(lengths[row]) + 2**62, row)
    with pytest.raises(StateError, match="do not add up"):
        memory.restore("s", wrong)
    with pytest.raises(StateError, match="header"):
        memory.restore("s", State(saved.tensors, {"seen": True, "limit": 1 << 20}))


def test_a_picture_larger_than_its_row_says_is_not_decoded() -> None:
    jpeg = pictures.encode(np.zeros((64, 96, 3), np.uint8))
    at = jpeg.index(b"\xff\xc0") + 5
    bomb = jpeg[:at] + b"\x7f\xff\x7f\xff" + jpeg[at + 4 :]
    with fuzz.bounded(1 << 28), pytest.raises(StateError, match="damaged or missing"):
        pictures.decode(bomb, (96, 64))
    with fuzz.bounded(1 << 28), pytest.raises(StateError, match="damaged or missing"):
        pictures.decode(bomb, (32767, 32767))
    for side in (64, 1024, 4096):  # the flattest there are
        flat = np.zeros((side, side, 3), np.uint8)
        assert not pictures.decode(pictures.encode(flat), (side, side)).any()
    with pytest.raises(StateError, match="damaged or missing"):
        pictures.decode(bytes(cv2.imencode(".png", np.zeros((64, 96, 3)))[1]), (96, 64))
