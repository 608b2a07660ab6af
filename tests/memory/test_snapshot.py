"""Memory files: the whole file or a sentence saying why not."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retain.memory.base import State
from retain.memory.snapshot import MemoryFile, load, save
from retain.pipeline.errors import RetainError, StateError

TENSORS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.arange(5, dtype=np.int64),
    "none": np.zeros((0, 3), np.float64),
    "bytes": np.frombuffer(b"picture", np.uint8),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    memory = ({"kind": "frames", "dim": 4}, State(TENSORS, {"seen": 3, "x": 0.1}))
    save(tmp_path / "m", MemoryFile("cam", 41, {"frames": memory}))
    return tmp_path / "m"


def test_what_was_saved_is_loaded(file: Path) -> None:
    got = load(file)
    assert (got.stream, got.seq) == ("cam", 41)
    config, state = got.memories["frames"]
    assert config == {"kind": "frames", "dim": 4}
    assert state.header == {"seen": 3, "x": 0.1}
    for name, array in TENSORS.items():
        assert state.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(state.tensors[name], array)


def test_it_is_a_safetensors_file(file: Path) -> None:
    from safetensors.numpy import load_file

    np.testing.assert_array_equal(load_file(str(file))["frames/a"], TENSORS["a"])


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(file: Path, place: float, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    broken = file.with_name("broken")
    broken.write_bytes(data)
    with pytest.raises(StateError):
        load(broken)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 60, -1, -100])
def test_a_truncated_file_is_refused(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(StateError, match="not a memory file|truncated"):
        load(file)


def test_bytes_too_many_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(StateError, match="bytes too many"):
        load(file)


def forge(path: Path, outer: object, data: bytes = b"") -> Path:
    raw = json.dumps(outer).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


@given(st.binary(max_size=300))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(struct.pack("<Q", max(len(data) - 8, 0)) + data)
    with pytest.raises(RetainError):
        load(path)


def test_a_header_that_promises_the_moon_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "moon"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(StateError, match="not a memory file"):
        load(path)
    head = {"schema": "retain-memory/1", "sha256": "0" * 64, "memories": {}}
    meta = {"retain": json.dumps(head)}
    huge = {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 4]}
    with pytest.raises(StateError, match="not where it should be"):
        load(forge(path, {"__metadata__": meta, "x": huge}, b"abcd"))
    negative = {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}
    with pytest.raises(StateError, match="not where it should be"):
        load(forge(path, {"__metadata__": meta, "x": negative}, b"abcd"))


def test_another_schema_and_another_kind_of_file_say_so(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    meta = {"retain": json.dumps({"schema": "retain-weights/1"})}
    with pytest.raises(StateError, match="'retain-weights/1'; it is no memory file"):
        load(forge(tmp_path / "other", {"__metadata__": meta}))
    save_file({"w": np.zeros(3, np.float32)}, str(tmp_path / "weights"))
    with pytest.raises(StateError, match="header cannot be read"):
        load(tmp_path / "weights")
    with pytest.raises(StateError, match="cannot be read: No such file"):
        load(tmp_path / "nowhere")


def test_a_failed_write_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(file, MemoryFile("cam", 42, {}))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_array_types_without_a_wire_form_are_refused(tmp_path: Path) -> None:
    odd = MemoryFile("s", 0, {"m": ({}, State({"x": np.zeros(2, np.complex64)}))})
    with pytest.raises(StateError, match="unsupported type complex64"):
        save(tmp_path / "m", odd)
