"""Messages between hosts. Each is one part of msgpack; a picture has a second part, its pixels.

The receiver connects and says what it can take (``Want``); the sender answers with the time
(``Beat``), pictures, and the end. Credit travels as running totals of one connection, so a message
that comes twice or late changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from retain.pipeline import wire
from retain.pipeline.errors import WireError
from retain.pipeline.far.codec import MAX_BYTES, Codec
from retain.pipeline.wire import Count, End, Fault, Positive, Side

MAX_CREDIT = 64
"""Packets a receiver may ask for ahead; more is refused."""
MAX_CONTROL = 4096
"""Bytes of a message from a receiver."""
BEAT_S = 1.0
SILENCE_S = 5.0
"""Without a word from the other end for so long, it is taken for gone."""


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fields travel by position, after a tag that carries the version."""


class Want(_Message, frozen=True, tag="far-want/2"):
    """Receiver to sender, at least every ``BEAT_S``: packets granted and received so far."""

    receiver: Positive
    """Random identity of the receiver, over all its connections."""
    granted: Count
    received: Count
    asked_ns: Count
    """The receiver's monotonic clock; a ``Beat`` brings it back. 0: no answer needed."""
    before: tuple[Count, Count]
    """Of its last connection that brought pictures: the ``link`` and how many came."""


class Leave(_Message, frozen=True, tag="far-leave/2"):
    """Receiver to sender: wants nothing more."""

    received: Count
    """On this connection."""


class Beat(_Message, frozen=True, tag="far-beat/1"):
    """Sender to receiver: the answer to a ``Want``, with the sender's monotonic clock."""

    asked_ns: Count
    now_ns: Count


class Again(_Message, frozen=True, tag="far-again/1"):
    """Sender to receiver: this connection was given up; make another."""


class Picture(wire.PacketHead, frozen=True, tag="far-picture/1"):
    """A packet; its pixels are the message's second part. ``t_arrival_ns``: the sender's clock."""

    link: Positive
    """Random identity of this connection: another one means that packets may have been lost."""
    codec: Codec
    height: Side
    width: Side
    nbytes: Annotated[int, Meta(ge=1, le=MAX_BYTES)]
    """Length of the second part."""


FromReceiver = Want | Leave
FromSender = Beat | Again | Picture | End

read_from_receiver: Callable[[bytes], FromReceiver] = wire.unpacker(FromReceiver)
_read_from_sender: Callable[[bytes], FromSender] = wire.unpacker(FromSender)


def read_from_sender(parts: list[bytes]) -> FromSender:
    """Raises WireError for anything but a well-formed message with as many bytes as it says."""
    if len(parts) not in (1, 2):
        raise WireError(f"A message came in {len(parts)} parts; ours have one or two.")
    message = _read_from_sender(parts[0])
    if isinstance(message, Picture) != (len(parts) == 2):
        raise WireError("A picture came without pixels, or pixels without a picture.")
    if isinstance(message, Picture) and message.nbytes != len(parts[1]):
        raise WireError(f"Pixels of {len(parts[1])} bytes were announced as {message.nbytes}.")
    return message


__all__ = [
    "BEAT_S",
    "MAX_CONTROL",
    "MAX_CREDIT",
    "SILENCE_S",
    "Again",
    "Beat",
    "End",
    "Fault",
    "Leave",
    "Picture",
    "Want",
    "read_from_receiver",
    "read_from_sender",
]
