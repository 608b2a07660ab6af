"""The file of a recorded edge: its layout, and reading it.

The file is a ring. After a head of 4096 bytes come ``SEGMENTS`` segments of equal size; when the
last is full the oldest is written over, so the file never grows beyond its limit and always holds
the newest packets. A record is two lengths, a checksum, a msgpack header and the pixels. The
checksum starts from the segment's number, so that what is left of an earlier lap is not taken for
new. A record is whole or it is not there: the file of a run that died is read up to its end.
Nothing is believed before it is checked: sizes against the segment and the file, then the checksum,
then the header's schema, then the picture's size.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal, NamedTuple
from zlib import crc32

import msgspec
import numpy as np

from retain.pipeline.errors import SourceError, SourceFault, WireError
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.wire import MAX_MESSAGE, PacketHead, Positive, Side, Ticks, pack, unpacker

MAGIC = b"retain-record/1\n"
SEGMENTS = 8
MAX_MB = 1 << 20
HEAD_BYTES = 4096
_HEAD = struct.Struct("<II")
"""Length and checksum of the file's head, after the magic."""
_SEGMENT = struct.Struct("<4sIQ")
"""Mark, checksum and number of a segment; numbers rise by one from 1."""
_RECORD = struct.Struct("<III")
"""Bytes of header, bytes of pixels, checksum. Both 0: the segment ends here."""
OVERHEAD = _SEGMENT.size + 2 * _RECORD.size
"""Bytes of a segment that one record cannot have for its header and pixels."""

Coding = Literal["png", "raw"]


class _Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    pass


class Head(_Part, frozen=True, tag="head/1"):
    """What a recording says of itself."""

    about: str
    """Where the packets came from, credentials masked."""
    run: str
    """Names the run; only that run goes on with the file."""
    wall_ns: Ticks
    """UTC nanoseconds since the epoch when it was begun."""
    segment_bytes: Positive

    def text(self) -> bytes:
        """The first ``HEAD_BYTES`` of the file."""
        data = pack(self)
        return (MAGIC + _HEAD.pack(len(data), crc32(data)) + data).ljust(HEAD_BYTES, b"\0")


class Note(PacketHead, frozen=True, tag="note/1"):
    """A packet whose pixels follow it."""

    coding: Coding
    height: Side
    width: Side


_read_head = unpacker(Head)
_read_note = unpacker(Note)


def segment_start(number: int) -> bytes:
    """What stands at the start of segment ``number``."""
    return _SEGMENT.pack(b"SEGM", crc32(number.to_bytes(8, "little")), number)


def segment_end(number: int) -> bytes:
    """What stands after the last record of segment ``number``."""
    return _RECORD.pack(0, 0, _seed(number, 0, 0))


def record(number: int, note: bytes, pixels: bytes) -> bytes:
    """A record of segment ``number``."""
    check = crc32(pixels, crc32(note, _seed(number, len(note), len(pixels))))
    return _RECORD.pack(len(note), len(pixels), check) + note + pixels


def _seed(number: int, note_bytes: int, pixel_bytes: int) -> int:
    """Where a record's checksum starts."""
    return crc32(struct.pack("<QII", number, note_bytes, pixel_bytes))


@dataclass(frozen=True, slots=True)
class _Span:
    """A segment in the file."""

    number: int
    start: int
    end: int


class Place(NamedTuple):
    """Where a record's pixels lie, and whether packets are missing before it."""

    offset: int
    length: int
    gap: bool


class Reader:
    """A recording's packets, oldest first.

    After ``notes`` or ``packets`` were read to their end, ``cut`` says whether the recording has
    none itself (its run died) and ``damaged`` how many segments cannot be read to theirs. Raises
    SourceError for a file that is no recording.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self.name = file, name
        self._bytes = os.fstat(file.fileno()).st_size
        self.head = self._read_head()
        self._spans = self._find_spans()
        self.cut, self.damaged = False, 0
        self.tail = _SEGMENT.size
        """Where, in the newest segment, the whole records end."""

    @property
    def newest(self) -> int:
        """Number of the newest segment; 0 when there is none."""
        return self._spans[-1].number if self._spans else 0

    @property
    def from_the_start(self) -> bool:
        """Whether the first packets are still there."""
        return not self._spans or self._spans[0].number == 1

    def notes(self) -> Iterator[tuple[Note, Place]]:
        """Headers of all whole records."""
        gap = self.cut = False
        self.damaged = 0
        before = self._spans[0].number - 1 if self._spans else 0
        for span in self._spans:
            gap |= span.number != before + 1
            before, place = span.number, span.start + _SEGMENT.size
            while (found := self._record(span, place)) is not None:
                note, start, length = found
                yield note, Place(start, length, gap)
                gap, place = False, start + length
            self.tail = place - span.start
            if self._read(place, _RECORD.size, span.end) != segment_end(span.number):
                gap = True
                self.cut |= span is self._spans[-1]
                self.damaged += span is not self._spans[-1]

    def packets(self) -> Iterator[Packet]:
        """Everything that was recorded, results too. After damage a frame says that it follows a
        gap. Raises SourceError for a picture that is not of the size its header says."""
        for note, place in self.notes():
            image = _image(os.pread(self._file.fileno(), place.length, place.offset), note)
            packet = note.packet(image)
            if place.gap:
                packet = Packet(replace(packet.frame, discontinuity=True), packet.results)
            yield packet

    def _record(self, span: _Span, place: int) -> tuple[Note, int, int] | None:
        """The header at ``place`` with the place and length of its pixels, if all of the record is
        there and is what was written."""
        head = self._read(place, _RECORD.size, span.end)
        note_bytes, pixel_bytes, check = _RECORD.unpack(head) if head else (0, 0, 0)
        if not 0 < note_bytes <= MAX_MESSAGE:
            return None
        place += _RECORD.size
        data = self._read(place, note_bytes + pixel_bytes, span.end)
        if not data or crc32(data, _seed(span.number, note_bytes, pixel_bytes)) != check:
            return None
        try:
            return _read_note(data[:note_bytes]), place + note_bytes, pixel_bytes
        except WireError:
            return None

    def _read(self, place: int, size: int, end: int) -> bytes:
        """Exactly these bytes, or none when they are not all there."""
        if place + size > min(end, self._bytes):
            return b""
        data = os.pread(self._file.fileno(), size, place)
        return data if len(data) == size else b""

    def _read_head(self) -> Head:
        start = self._read(0, HEAD_BYTES, HEAD_BYTES)
        family = MAGIC.index(b"1")
        if start.startswith(MAGIC[:family]) and not start.startswith(MAGIC):
            raise self._error("is of another version of retain", "Play it with that version.")
        length, check = _HEAD.unpack_from(start, len(MAGIC)) if start else (0, 0)
        body = start[len(MAGIC) + _HEAD.size :][:length]
        if not start.startswith(MAGIC) or not body or len(body) != length or crc32(body) != check:
            raise self._error("is not a recording, or its first bytes are damaged")
        try:
            head: Head = _read_head(body)
        except WireError as error:
            raise self._error("has a head that this version does not understand") from error
        if head.segment_bytes > MAX_MB << 20:
            raise self._error("claims segments larger than any recording has")
        return head

    def _find_spans(self) -> list[_Span]:
        found = []
        for index in range(SEGMENTS):
            start = HEAD_BYTES + index * self.head.segment_bytes
            data = self._read(start, _SEGMENT.size, self._bytes)
            number = _SEGMENT.unpack(data)[2] if data else 0
            if data == segment_start(number) and number and (number - 1) % SEGMENTS == index:
                found.append(_Span(number, start, start + self.head.segment_bytes))
        return sorted(found, key=lambda span: span.number)

    def _error(self, what: str, hint: str = "") -> SourceError:
        return SourceError(SourceFault.BROKEN, f"{self.name!r} {what}.", hint=hint)


def coded(image: Image, coding: Coding) -> bytes:
    """``image`` (uint8 [H, W, 3]) with every bit kept. Raises OSError when it cannot be."""
    if coding == "raw":
        return image.tobytes()
    import cv2

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise OSError(0, f"a picture of {list(image.shape)} cannot be written as PNG")
    return bytes(data.tobytes())


def _may_be(png: bytes, note: Note) -> bool:
    """Whether the file is as ``coded`` writes it, of the size its note says, and can hold so much:
    nothing deflates to less than a 1032nd. A decoder allocates what a chunk's length promises, so
    those are checked against the file first."""
    kinds, place = [], 8
    while place + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        kinds.append(kind)
        place += 12 + length
    if place != len(png) or kinds != [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"]:
        return False
    honest = png[16:24] == struct.pack(">II", note.width, note.height)
    return honest and note.height * note.width * 3 <= 1032 * len(png)


def _image(data: bytes, note: Note) -> Image:
    shape = (note.height, note.width, 3)
    image: Image | None = None
    if note.coding == "raw" and len(data) == note.height * note.width * 3:
        image = np.frombuffer(data, np.uint8).reshape(shape)
    elif note.coding == "png" and _may_be(data, note):
        import cv2

        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        image = None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    if image is None or image.shape != shape:
        raise SourceError(SourceFault.BROKEN, f"Frame {note.seq} of the recording has no picture.")
    return image
