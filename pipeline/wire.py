"""Messages between the processes of one run: typed, versioned, checked; never a pickle.

Every message is one part of msgpack. Pixels do not travel here: a ``Ticket`` says where in shared
memory they lie (see ``transport/ring.py``). Small arrays inside results travel as a msgpack
extension that names dtype and shape; both are checked before numpy sees a byte.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, Self, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from retain.pipeline.errors import RetainError, SourceError, UsageError, WireError, no_space
from retain.pipeline.frame import MAX_SIDE, Frame, Image, MetaValue
from retain.pipeline.packet import Packet
from retain.pipeline.results import Result

MAX_MESSAGE = 16 << 20
"""Bytes of one message. Sockets refuse longer ones before they are read."""
MAX_ARRAY = 8 << 20
"""Bytes of one array inside a result."""
MAX_DIMENSIONS = 8

_ARRAY_CODE = 1
_DTYPES = tuple(
    np.dtype(name)
    for name in ("?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")
)
_CODE_OF = {dtype: code for code, dtype in enumerate(_DTYPES)}

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Ticks = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fields travel by position, after a tag that carries the version."""


class Fault(_Message, frozen=True, tag="fault/1"):
    """Why a node stopped. ``code`` is stable: a ``SourceFault`` value or one of the codes here."""

    node: str
    code: str
    """``usage`` (it was asked for what cannot be), ``error`` (the node gave up on purpose),
    ``defect`` (it raised what nobody foresaw), ``no_space`` (the disk is full), ``crashed`` (its
    process died), ``starved`` (no free slot)."""
    message: str

    @classmethod
    def of(cls, node: str, error: BaseException) -> Fault:
        """The fault that ``error`` means; a project error speaks for itself, others by type."""
        if isinstance(error, SourceError):
            return cls(node, error.fault.value, str(error))
        if isinstance(error, RetainError):
            kind = "usage" if isinstance(error, UsageError) else "error"
            return cls(node, "no_space" if no_space(error) else kind, str(error))
        if no_space(error):
            what = getattr(error, "filename", None) or "what it had to keep"
            said = f"The disk is full: {node!r} could not write {what}. Make room and run it again."
            return cls(node, "no_space", said)
        return cls(node, "defect", f"{node!r} raised {type(error).__name__}: {error}")


class PixelRef(_Message, frozen=True, tag="pixels/1"):
    """Where a picture lies: a slot of a shared-memory ring, and a share of the right to read it."""

    owner: Count
    """Number of the node whose ring it is; releases go there."""
    pid: Positive
    fd: Count
    ring: Positive
    """Random identity of the ring, also written in its header."""
    slot: Count
    generation: Positive
    weight: Positive
    """Share of the slot. All shares together free it (weighted reference counting)."""
    height: Side
    width: Side


class PacketHead(_Message, frozen=True):
    """A packet without its pixels: what every message has that carries one."""

    stream: str
    seq: Count
    pts: Ticks
    time_base: tuple[Positive, Positive]
    t_arrival_ns: Count
    wall_ns: Ticks
    discontinuity: bool
    meta: dict[str, MetaValue]
    results: dict[str, Result]

    @classmethod
    def of(cls, packet: Packet, *rest: Any) -> Self:
        """The message for ``packet``; ``rest`` are the fields of its kind."""
        frame = packet.frame
        return cls(
            frame.stream,
            frame.seq,
            frame.pts,
            (frame.time_base.numerator, frame.time_base.denominator),
            frame.t_arrival_ns,
            frame.wall_ns,
            frame.discontinuity,
            dict(frame.meta),
            dict(packet.results),
            *rest,
        )

    def packet(self, image: Image, t_arrival_ns: int | None = None) -> Packet:
        """The packet, given its pixels (uint8 [height, width, 3]) and, where it has come from
        another clock, when it arrived by this one."""
        frame = Frame(
            stream=self.stream,
            seq=self.seq,
            pts=self.pts,
            time_base=Fraction(*self.time_base),
            image=image,
            t_arrival_ns=self.t_arrival_ns if t_arrival_ns is None else t_arrival_ns,
            wall_ns=self.wall_ns,
            discontinuity=self.discontinuity,
            meta=self.meta,
        )
        return Packet(frame, self.results)


class Ticket(PacketHead, frozen=True, tag="ticket/1"):
    """A packet whose pixels lie in shared memory."""

    pixels: PixelRef


class End(_Message, frozen=True, tag="end/1"):
    """No more packets on this edge. ``fault`` says so when something upstream broke."""

    fault: Fault | None = None


class Barrier(_Message, frozen=True, tag="barrier/1"):
    """Travels between the packets; what nodes hold as it passes is one state of the graph."""

    number: Positive


class Round(Barrier, frozen=True, tag="round/1"):
    """A barrier at which stages take other limits of bytes and say what they need."""

    limits: dict[str, Count] = {}
    """By stage; the others keep theirs."""


class Credit(_Message, frozen=True, tag="credit/1"):
    """The consumer of an edge can take ``packets`` more."""

    packets: Positive


class Released(_Message, frozen=True, tag="released/1"):
    """Shares of slots given back to the ring's owner: (ring, slot, generation, weight) each."""

    shares: list[tuple[Positive, Count, Positive, Positive]]


Message = Ticket | End | Barrier | Round | Credit | Released
M = TypeVar("M")


def encode(packet: Packet, pixels: PixelRef) -> bytes:
    """The message for a packet whose picture lies at ``pixels``.

    Raises WireError when a result is of no known kind, or an array is too large or of a dtype
    that does not travel.
    """
    for name, result in packet.results.items():
        if not isinstance(result, Result):
            raise WireError(
                f"Result {name!r} is a {type(result).__name__}, which cannot travel.",
                hint="Results are the records listed in pipeline/results.py.",
            )
    return pack(Ticket.of(packet, pixels))


def decode(data: bytes) -> Message:
    """Read a message of an edge. Raises WireError for anything but a well-formed one."""
    return _read(_decoder, data)


def pack(message: msgspec.Struct) -> bytes:
    """Bytes of any message. Raises WireError when a value cannot travel or it is too long."""
    try:
        data = _encoder.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"This message cannot be written: {error}") from error
    if len(data) > MAX_MESSAGE:
        raise WireError(
            f"A message of {len(data):,} bytes is over the limit of {MAX_MESSAGE:,}.",
            hint="Results are for small things; pixels travel in frames.",
        )
    return data


def unpacker(kind: type[M] | Any) -> Callable[[bytes], Any]:
    """A checked reader of another set of messages (a union of tagged structs)."""
    decoder = msgspec.msgpack.Decoder(kind, ext_hook=_to_array, dec_hook=_pass)
    return lambda data: _read(decoder, data)


def _read(decoder: msgspec.msgpack.Decoder[M], data: bytes) -> M:
    if len(data) > MAX_MESSAGE:
        raise WireError(f"A message of {len(data):,} bytes is over the limit of {MAX_MESSAGE:,}.")
    try:
        return decoder.decode(data)
    except WireError:
        raise
    except (msgspec.DecodeError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"This message is not one this version understands: {error}") from error


def _from_array(value: Any) -> msgspec.msgpack.Ext:
    """Extension body: dtype code, number of dimensions, uint32 sizes, then the values."""
    if not isinstance(value, np.ndarray):
        raise WireError(f"A {type(value).__name__} cannot travel in a message.")
    code = _CODE_OF.get(value.dtype.newbyteorder("<"))
    if code is None or value.ndim > MAX_DIMENSIONS:
        raise WireError(f"An array of {value.dtype} {list(value.shape)} cannot travel.")
    if value.nbytes > MAX_ARRAY:
        raise WireError(f"An array of {value.nbytes:,} bytes is over the limit of {MAX_ARRAY:,}.")
    head = struct.pack(f"<BB{value.ndim}I", code, value.ndim, *value.shape)
    return msgspec.msgpack.Ext(_ARRAY_CODE, head + value.astype(_DTYPES[code]).tobytes())


def _to_array(code: int, body: memoryview) -> np.ndarray:
    if code != _ARRAY_CODE:
        raise WireError(f"Extension type {code} is unknown.")
    if len(body) < 2 or body[0] >= len(_DTYPES) or body[1] > MAX_DIMENSIONS:
        raise WireError("An array's dtype or number of dimensions is not allowed.")
    dtype, start = _DTYPES[body[0]], 2 + 4 * body[1]
    if len(body) < start:
        raise WireError("An array's shape is cut short.")
    shape = struct.unpack_from(f"<{body[1]}I", body, 2)
    size = math.prod(shape) * dtype.itemsize
    if size != len(body) - start or size > MAX_ARRAY:
        raise WireError(f"An array of {dtype} {list(shape)} came with {len(body) - start} bytes.")
    if dtype.kind == "b" and np.frombuffer(body, np.uint8, offset=start).max(initial=0) > 1:
        raise WireError("A boolean array holds values other than 0 and 1.")
    # A copy: aligned, writable, and the message's bytes can go.
    return np.frombuffer(body, dtype, offset=start).reshape(shape).copy()


def _pass(kind: type, value: Any) -> Any:
    if kind is np.ndarray and isinstance(value, np.ndarray):
        return value
    raise WireError(f"Expected {kind.__name__}, got {type(value).__name__}.")


_encoder = msgspec.msgpack.Encoder(enc_hook=_from_array)
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(
    Message, ext_hook=_to_array, dec_hook=_pass
)
