"""A share of `benchmarks/fuzz.py` for messages, and the shapes of attack it is made of."""

from __future__ import annotations

import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retain.apps import bench
from retain.pipeline import wire
from retain.pipeline.errors import WireError
from retain.pipeline.results import Embedding
from retain.pipeline.runners.control import read_from_parent, read_from_worker

fuzz = bench.load("fuzz")
READERS = [wire.decode, read_from_parent, read_from_worker]

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
    | st.binary() | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip
TAGS = ("ticket/1", "end/1", "credit/1", "released/1", "report/1", "opened/1", "failed/1", "stop/1")


@pytest.mark.parametrize("target", [fuzz.edge_messages, fuzz.control_messages])
def test_malformed_messages_are_refused_or_mean_what_they_say(target: object) -> None:
    outcome = fuzz.fuzz(target.__name__, target(), 3000)  # type: ignore[attr-defined, operator]
    assert not outcome.crashes, f"{outcome} {outcome.first}"
    assert outcome.refused > 2000


@given(st.sampled_from(TAGS), st.lists(PLAIN, max_size=12))
def test_well_formed_nonsense_under_a_known_tag_is_refused(tag: str, fields: list[object]) -> None:
    data = msgspec.msgpack.encode([tag, *fields])
    for read in READERS:
        try:
            read(data)
        except WireError:
            continue


@pytest.mark.parametrize("head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
def test_a_length_of_four_gigabytes_allocates_nothing(head: bytes) -> None:
    message = b"\x92\xaareleased/1" + head + b"\xff\xff\xff\xff"
    with fuzz.bounded(1 << 28):
        for read in READERS:
            with pytest.raises(WireError):
                read(message)


@pytest.mark.parametrize("shape", [(0, 2**32 - 1, 2**32 - 1), (2**32 - 1,) * 8, (0, 0, 2**32 - 1)])
def test_shapes_numpy_cannot_make_are_refused(shape: tuple[int, ...]) -> None:
    body = struct.pack(f"<BB{len(shape)}I", 11, len(shape), *shape)
    message = {"type": "embedding/1", "vector": msgspec.msgpack.Ext(1, body), "encoder": ""}
    with fuzz.bounded(1 << 28):
        try:
            got = wire.unpacker(Embedding)(msgspec.msgpack.encode(message))
        except WireError:
            return
    assert got.vector.shape == shape
    assert got.vector.nbytes == 0


def test_an_array_in_an_array_is_refused() -> None:
    inner = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\x01\x00\x07"))
    for _ in range(50):
        inner = msgspec.msgpack.encode(msgspec.msgpack.Ext(1, inner))
    message = b"\x83\xa4type\xabembedding/1\xa7encoder\xa0\xa6vector" + inner
    with pytest.raises(WireError, match="dtype or number of dimensions|came with"):
        wire.unpacker(Embedding)(message)


def test_a_large_boolean_array_is_checked_too() -> None:
    flags = np.zeros(1 << 20, bool)
    data = bytearray(wire.pack(Embedding(flags, "x")))
    assert wire.unpacker(Embedding)(bytes(data)).vector.size == flags.size
    data[len(data) // 2] = 2
    with pytest.raises(WireError, match="other than 0 and 1"):
        wire.unpacker(Embedding)(bytes(data))
