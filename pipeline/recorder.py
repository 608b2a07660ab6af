"""Record what goes over an edge; play it again. For bug reports: the same packets, bit for bit.

How the file is laid out stands in ``recording.py``. Arrival times aside, which mean nothing on
another day, a replay gives what was recorded. Credentials in names and notes are masked before they
are written.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from retain.pipeline.errors import SourceError, SourceFault, UsageError, WireError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.recording import (
    HEAD_BYTES,
    MAX_MB,
    OVERHEAD,
    SEGMENTS,
    Coding,
    Head,
    Note,
    Reader,
    coded,
    record,
    segment_end,
    segment_start,
)
from retain.pipeline.redact import redact
from retain.pipeline.sources.common import Sampler, check_file, integer, local_path, text
from retain.pipeline.stage import SourceInfo, StatValue
from retain.pipeline.wire import pack

log = logging.getLogger(__name__)


class Record:
    """A stage that passes every packet on as it is and writes it to ``path``; a sink as well.

    max_mb  MiB the file may take; beyond, the oldest packets are written over
    pixels  png (smaller) or raw (faster); both keep every bit
    about   where the packets come from
    run     a word of the run's own: its restarted node goes on with the file, others do not

    Raises UsageError when the file is there already or cannot be made, and for a first frame that
    is too large for it. After that a recording never stops the run it is of: a full disk ends the
    recording, with a warning.
    """

    def __init__(
        self, path: str, max_mb: int = 256, pixels: Coding = "png", about: str = "", run: str = ""
    ) -> None:
        if pixels not in ("png", "raw"):
            raise UsageError(f"Pixels are recorded as 'png' or 'raw', not {pixels!r}.")
        room = (integer("max_mb", max_mb, 1, MAX_MB) << 20) - HEAD_BYTES
        self.path, self._pixels = Path(path), pixels
        self._packets = self._skipped = 0
        self._number = self._at = 0
        """The segment being written, and where in it."""
        self._last: dict[str, int] = {}
        """Newest frame of each stream in a file that is gone on with."""
        self._segment_bytes = room // SEGMENTS
        head = Head(redact(about)[:1000], run, time.time_ns(), self._segment_bytes)
        self._file: BinaryIO | None = self._create(head) or self._continued(run)

    def process(self, packet: Packet) -> Packet:
        frame = packet.frame
        if self._file is not None and frame.seq > self._last.get(redact(frame.stream), -1):
            try:
                self._write(self._file, packet)
            except (OSError, WireError) as error:
                log.warning("the recording ends before frame %d: %s", frame.seq, error)
                self._end(self._file)
        return packet

    def stats(self) -> Mapping[str, StatValue]:
        laps = max(self._number - 1, 0) // SEGMENTS
        return {"recorded": self._packets, "skipped": self._skipped, "laps": laps}

    def close(self) -> None:
        if self._file is None:
            return
        try:
            self._mark_end(self._file)
            os.fsync(self._file.fileno())
        except OSError as error:
            log.warning("the recording %s has no end: %s", self.path, error)
        self._end(self._file)

    def _create(self, head: Head) -> BinaryIO | None:
        """The new file; None when there is one."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("x+b", buffering=0)
            file.write(head.text())
            return file
        except FileExistsError:
            return None
        except OSError as error:
            raise UsageError(
                f"The recording {str(self.path)!r} cannot be made: {error.strerror}."
            ) from error

    def _continued(self, run: str) -> BinaryIO:
        """The file of this run's earlier process, after its last whole record."""
        file = self.path.open("r+b", buffering=0)
        reader = Reader(file, str(self.path)) if run else None
        if reader is None or reader.head.run != run:
            file.close()
            raise taken(self.path)
        for note, _ in reader.notes():
            self._last[note.stream] = max(note.seq, self._last.get(note.stream, -1))
        self._number, self._at = reader.newest, reader.tail
        return file

    def _write(self, file: BinaryIO, packet: Packet) -> None:
        note, pixels = pack(_note(packet, self._pixels)), coded(packet.frame.image, self._pixels)
        size = len(note) + len(pixels)
        if size + OVERHEAD > self._segment_bytes:
            self._refuse(packet, size)
            return
        if not self._number or self._at + size + OVERHEAD > self._segment_bytes:
            self._mark_end(file)
            self._number, self._at = self._number + 1, 0
            self._put(file, segment_start(self._number))
        self._put(file, record(self._number, note, pixels))
        self._packets += 1

    def _mark_end(self, file: BinaryIO) -> None:
        if self._number:
            self._put(file, segment_end(self._number))

    def _put(self, file: BinaryIO, data: bytes) -> None:
        place = HEAD_BYTES + (self._number - 1) % SEGMENTS * self._segment_bytes + self._at
        written = os.pwrite(file.fileno(), data, place)
        if written < len(data):
            raise OSError(28, "the disk is full")
        self._at += written

    def _refuse(self, packet: Packet, size: int) -> None:
        """A packet that no segment can hold."""
        frame = packet.frame
        if not self._number:
            needed = (SEGMENTS * (size + OVERHEAD) + HEAD_BYTES >> 20) + 1
            raise UsageError(
                f"A frame of {frame.width}x{frame.height} does not fit in a recording of this "
                f"size; it takes at least {needed} MB.",
                hint="Give it more room.",
            )
        self._skipped += 1
        log.warning("frame %d is too large for the recording and left out", frame.seq)

    def _end(self, file: BinaryIO) -> None:
        file.close()
        self._file = None


def taken(path: Path) -> UsageError:
    """A recording's file that is there already."""
    return UsageError(
        f"{str(path)!r} is there already, and recordings never overwrite anything.",
        hint="Choose another file, or remove it.",
    )


def _note(packet: Packet, coding: Coding) -> Note:
    frame = packet.frame
    meta = {key: redact(v) if isinstance(v, str) else v for key, v in frame.meta.items()}
    clean = Packet(replace(frame, stream=redact(frame.stream), meta=meta), packet.results)
    return Note.of(clean, coding, frame.height, frame.width)


class ReplaySource:
    """Plays a recording: its frames with their streams, numbers, times and notes as they were.

    stream  another name for its frames; empty: their own
    fps     frames per second of presentation time at most; 0: all
    limit   frames at most; 0: all

    A source gives frames, so results that were recorded stay in the file (``recording.Reader`` has
    them): record the edge that leaves a source to play a whole graph again. A recording without an
    end is played as far as it goes, with a warning.
    """

    def __init__(self, source: str, stream: str = "", fps: float = 0.0, limit: int = 0) -> None:
        self.path = local_path(text("source", source))
        self.name = redact(str(self.path))
        self._stream, self._sampler = stream, Sampler(fps, limit)
        self._file: BinaryIO | None = None
        self._reader: Reader | None = None
        self._stop = False

    def open(self) -> SourceInfo:
        """Read the head and look through the records. Raises SourceError for anything else."""
        check_file(self.path)
        self._file = self.path.open("rb", buffering=0)
        self._reader = reader = Reader(self._file, self.name)
        notes = [(n.height, n.width, n.pts * Fraction(*n.time_base)) for n, _ in reader.notes()]
        if not notes:
            raise SourceError(SourceFault.EMPTY, f"{self.name!r} holds not one whole frame.")
        self._warn(reader)
        span = max(float(notes[-1][2] - notes[0][2]), 0.0)
        return SourceInfo(
            kind="finite",
            description=f"{self.name} (recording of {reader.head.about or 'an edge'})",
            width=notes[0][1],
            height=notes[0][0],
            fps=(len(notes) - 1) / span if span else 0.0,
            declared_frames=len(notes),
            duration_s=span,
        )

    def _warn(self, reader: Reader) -> None:
        if reader.cut:
            log.warning("%s has no end: its run was cut short", self.name)
        if reader.damaged:
            log.warning("%s is damaged: frames are missing in between", self.name)
        if not reader.from_the_start:
            log.warning("%s was full: its oldest frames were written over", self.name)

    def frames(self) -> Iterator[Frame]:
        if self._reader is None:
            self.open()
        assert self._reader is not None
        for packet in self._reader.packets():
            frame = packet.frame
            if self._stop or self._sampler.full:
                return
            if self._sampler.keep(frame.pts, frame.time_base):
                stream = self._stream or frame.stream
                yield replace(frame, stream=stream, t_arrival_ns=time.monotonic_ns())

    def close(self) -> None:
        self._stop = True
        if self._file is not None:
            self._file.close()

    def stats(self) -> Mapping[str, StatValue]:
        return {"decoded": self._sampler.kept}
