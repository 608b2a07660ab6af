from __future__ import annotations

import errno

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from runtime_parts import frame

from retain.pipeline import wire
from retain.pipeline.errors import RetainError, SourceError, SourceFault, UsageError, WireError
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding, Held, HeldFrame, Route
from retain.pipeline.wire import Credit, End, Fault, PixelRef, Released, Ticket

PIXELS = PixelRef(0, 1, 5, 77, 2, 9, 1 << 62, 8, 16)
ROUTE = Route("clear", "score", 0.5, float("nan"), 0.7, 0.1, 0.2, 3.0, 0.2, 0.4, cut=True)
HELD = Held((HeldFrame(3, 0.1, "clear", "score", 0.5, 4, 100, 16, 8),), 4, 8, 100, 200, 4)


def packet() -> Packet:
    vector = np.linspace(-1, 1, 6, dtype=np.float32)
    return Packet(frame(3)).plus(e=Embedding(vector, "mean"), r=ROUTE, h=HELD)


MESSAGE = wire.encode(packet(), PIXELS)


def test_a_packet_comes_back_as_it_went_in() -> None:
    sent = packet()
    ticket = wire.decode(wire.encode(sent, PIXELS))
    assert isinstance(ticket, Ticket)
    assert ticket.pixels == PIXELS
    got = ticket.packet(sent.frame.image)
    for name in ("stream", "seq", "pts", "time_base", "t_arrival_ns", "wall_ns", "discontinuity"):
        assert getattr(got.frame, name) == getattr(sent.frame, name)
    np.testing.assert_array_equal(got.get("e", Embedding).vector, sent.get("e", Embedding).vector)
    assert got.get("h", Held) == HELD
    assert msgspec.json.encode(got.get("r", Route)) == msgspec.json.encode(ROUTE)  # NaN included


@pytest.mark.parametrize(
    "message", [End(), End(Fault("n", "error", "why")), Credit(3), Released([(1, 2, 3, 4)])]
)
def test_other_messages_come_back(message: wire.Message) -> None:
    assert wire.decode(wire.pack(message)) == message


@given(
    hnp.arrays(st.sampled_from(wire._DTYPES), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)
def test_arrays_of_every_allowed_dtype_come_back(array: np.ndarray) -> None:
    read = wire.unpacker(Embedding)
    got = read(wire.pack(Embedding(array, "x"))).vector
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert got.tobytes() == array.tobytes()


def test_big_endian_and_strided_arrays_keep_their_values() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)[::2, ::-1]
    got = wire.unpacker(Embedding)(wire.pack(Embedding(array, "x"))).vector
    np.testing.assert_array_equal(got, array)


def decodes_or_refuses(data: bytes) -> None:
    try:
        wire.decode(data)
    except WireError:
        return


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_not_crashed_on(data: bytes) -> None:
    decodes_or_refuses(data)


@given(st.integers(0, len(MESSAGE) - 1))
def test_a_message_cut_short_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        wire.decode(MESSAGE[:length])


@given(st.integers(0, 8 * len(MESSAGE) - 1))
def test_a_flipped_bit_never_crashes(bit: int) -> None:
    data = bytearray(MESSAGE)
    data[bit // 8] ^= 1 << bit % 8
    decodes_or_refuses(bytes(data))


@given(st.integers(0, 11), st.binary(max_size=40))
def test_a_lying_array_header_is_refused(code: int, body: bytes) -> None:
    message = msgspec.msgpack.encode(
        {
            "type": "embedding/1",
            "vector": msgspec.msgpack.Ext(1, bytes([code]) + body),
            "encoder": "",
        }
    )
    try:
        got = wire.unpacker(Embedding)(message).vector
    except WireError:
        return
    assert got.nbytes == len(body) - 1 - 4 * body[0]


def test_another_version_is_refused() -> None:
    with pytest.raises(WireError, match="not one this version understands.*ticket/2"):
        wire.decode(MESSAGE.replace(b"ticket/1", b"ticket/2"))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError):
        wire.decode(b"\x91" * 100_000)


def test_a_long_message_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match="over the limit"):
        wire.decode(bytes(wire.MAX_MESSAGE + 1))


def test_a_large_array_is_refused_by_its_sender() -> None:
    big = Embedding(np.zeros(wire.MAX_ARRAY + 1, np.uint8), "x")
    with pytest.raises(WireError, match="over the limit"):
        wire.encode(Packet(frame(0)).plus(e=big), PIXELS)


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([object()]), np.zeros(2, complex)])
def test_other_dtypes_do_not_travel(array: np.ndarray) -> None:
    with pytest.raises(WireError, match="cannot travel"):
        wire.encode(Packet(frame(0)).plus(e=Embedding(array, "x")), PIXELS)


def test_an_unlisted_result_is_refused_by_its_sender() -> None:
    with pytest.raises(WireError, match="Result 'e' is a dict"):
        wire.encode(Packet(frame(0)).plus(e={"x": 1}), PIXELS)  # type: ignore[arg-type]


def test_faults_say_what_happened() -> None:
    broken = Fault.of("cam", SourceError(SourceFault.BROKEN, "It broke.", hint="Mend it."))
    assert (broken.code, broken.message) == ("broken", "It broke. Mend it.")
    assert Fault.of("a", RetainError("No.")).code == "error"
    assert Fault.of("a", UsageError("No.")).code == "usage"
    assert Fault.of("a", KeyError("x")).message == "'a' raised KeyError: 'x'"
    assert Fault.of("a", KeyError("x")).code == "defect"
    no_room = Fault.of("a", OSError(errno.ENOSPC, "No space left on device", "out/memory"))
    assert no_room.code == "no_space"
    assert no_room.message.startswith("The disk is full: 'a' could not write out/memory.")
    full = RetainError("The file could not be written.")
    full.__cause__ = OSError(errno.EDQUOT, "full")
    assert Fault.of("a", full).code == "no_space"
